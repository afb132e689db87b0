"""The queue between reflector and informer."""

import threading
from typing import Any

import pytest

from informers import TransformFailed
from informers.fifo import BATCH_SIZE, Bookmark, Change, RealFIFO, Removal, ReplacedAll, Upsert, guarded
from tests.fake_api_server.objects import widget

Object = dict[str, Any]


def drain(fifo: RealFIFO) -> list[Change]:
    changes: list[Change] = []
    while len(fifo):
        fifo.pop(changes.extend)
    return changes


def test_order_is_that_of_arrival() -> None:
    """Nothing is merged, not even two changes of one object; a list is one entry."""
    fifo = RealFIFO()
    a1, a2 = widget("a", 1), widget("a", 2)
    fifo.add(a1)
    fifo.update(a2)
    fifo.delete(a2)
    fifo.delete(a2)
    fifo.replace([widget("b", 3)], "3")
    fifo.bookmark("4")
    assert drain(fifo) == [
        Upsert("default/a", a1),
        Upsert("default/a", a2),
        Removal("default/a", a2),
        Removal("default/a", a2),
        ReplacedAll({"default/b": widget("b", 3)}, "3", initial=False),
        Bookmark("4"),
    ]


class TestHasSynced:
    """The first list was processed, or a single change came before any list."""

    def test_list(self) -> None:
        """Not when it was queued, nor while it is processed: after that."""
        fifo = RealFIFO()
        assert not fifo.has_synced
        fifo.replace([widget("a", 1)], "1")
        assert not fifo.has_synced
        during: list[bool] = []
        fifo.pop(lambda _: during.append(fifo.has_synced))
        assert during == [False]
        assert fifo.has_synced

    def test_empty_list(self) -> None:
        """An empty list counts like any other."""
        fifo = RealFIFO()
        fifo.replace([], "1")
        assert drain(fifo) == [ReplacedAll({}, "1", initial=True)]
        assert fifo.has_synced

    def test_change_before_any_list(self) -> None:
        """Then there is no first list to wait for, and no list is marked as the first."""
        fifo = RealFIFO()
        fifo.add(widget("a", 1))
        assert fifo.has_synced
        fifo.replace([widget("a", 1)], "1")
        assert drain(fifo)[1] == ReplacedAll({"default/a": widget("a", 1)}, "1", initial=False)

    def test_bookmark_is_no_content(self) -> None:
        """It changes nothing about being synced."""
        fifo = RealFIFO()
        fifo.bookmark("1")
        assert not fifo.has_synced


def test_batches_are_bounded() -> None:
    """A batch takes what is there, up to BATCH_SIZE."""
    fifo = RealFIFO()
    for number in range(BATCH_SIZE + 1):
        fifo.add(widget(f"w{number}", 1))
    sizes: list[int] = []
    fifo.pop(lambda changes: sizes.append(len(changes)))
    fifo.pop(lambda changes: sizes.append(len(changes)))
    assert sizes == [BATCH_SIZE, 1]


def test_close_ends_a_waiting_pop() -> None:
    """And drops what is queued or comes later."""
    fifo = RealFIFO()
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(fifo.pop(lambda _: None)))
    thread.start()
    fifo.close()
    thread.join(10)
    fifo.add(widget("a", 1))
    assert results == [False]
    assert len(fifo) == 0


def test_transform_runs_once_before_queueing() -> None:
    """On everything that carries an object; its failure on a change queues nothing and is chained."""
    calls: list[str] = []

    def transform(obj: Object) -> Object:
        calls.append(obj["metadata"]["name"])
        if obj["metadata"]["name"] == "bad":
            raise LookupError("the secret is x")
        return obj | {"spec": "cut"}

    fifo = RealFIFO(guarded(transform))
    fifo.add(widget("a", 1))
    fifo.replace([widget("b", 1)], "1")
    fifo.delete(widget("c", 1))
    for put in (fifo.add, fifo.update):
        with pytest.raises(TransformFailed, match="LookupError") as caught:
            put(widget("bad", 1))
        assert isinstance(caught.value.__cause__, LookupError)
        assert "secret" not in str(caught.value)
    assert calls == ["a", "b", "c", "bad", "bad"]
    upsert, replaced, removal = drain(fifo)
    assert upsert.obj["spec"] == removal.obj["spec"] == replaced.objects["default/b"]["spec"] == "cut"  # type: ignore[union-attr]


def test_object_that_cannot_be_transformed() -> None:
    """It exists, so a list does not take it from the store; it was deleted, so that is queued."""

    def transform(obj: Object) -> Object:
        return obj["spec"]["cut"]  # type: ignore[no-any-return]

    fifo = RealFIFO(guarded(transform))
    good = widget("a", 1, cut=widget("a", 1))
    fifo.replace([good, widget("bad", 1)], "1")
    fifo.delete(widget("bad", 2))
    assert drain(fifo) == [
        ReplacedAll({"default/a": widget("a", 1)}, "1", initial=True, kept=frozenset({"default/bad"})),
        Removal("default/bad", widget("bad", 2)),
    ]


@pytest.mark.parametrize("result", [None, [], {}, {"metadata": None}])
def test_transform_that_returns_no_object(result: Any) -> None:
    """Is one that failed: what is stored can be read by all."""
    with pytest.raises(TransformFailed, match="returned no object"):
        RealFIFO(guarded(lambda obj: result)).add(widget("a", 1))


def test_object_without_name() -> None:
    """It cannot be queued: nobody could find it."""
    with pytest.raises(ValueError, match=r"a Widget without metadata\.name"):
        RealFIFO().add({"kind": "Widget", "metadata": {}})
