"""Own writes over a cache that has not heard of them yet."""

import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from informers import Indexer, MutationCache, NotFound
from tests.clock import VirtualClock
from tests.fake_api_server.objects import WIDGETS, widget

Object = dict[str, Any]
V1, V2, V3 = widget("a", "1"), widget("a", "2"), widget("a", "3")
OTHERS = widget("a", "4")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def distrusts() -> list[bool]:
    """One item for each time the cache was found to be wrong."""
    return []


@pytest.fixture
def indexer(distrusts: list[bool]) -> Indexer:
    indexer = Indexer(
        WIDGETS, {"color": lambda obj: obj["spec"].get("colors", ())}, on_distrust=lambda: distrusts.append(True)
    )
    indexer.put("default/a", V1, "1")
    return indexer


@pytest.fixture
def cache(indexer: Indexer, clock: VirtualClock) -> MutationCache:
    return MutationCache(indexer, clock=clock)


def seen(cache: MutationCache) -> Object | None:
    return cache.get("a", "default")


def created_again(indexer: Indexer, cache: MutationCache) -> Object:
    """An own creation in the place of what is known to be gone: seen also when the cache hears that it went."""
    assert seen(cache) is None
    again = widget("a", "9", uid="another")
    cache.mutated(again, base=None)
    assert seen(cache) is again
    indexer.remove("default/a", "5")
    assert seen(cache) is again
    return again


def test_writes_on_top_of_each_other(indexer: Indexer, cache: MutationCache) -> None:
    """While the events of earlier own writes come in, the last one is seen."""
    cache.mutated(V2, base=V1)
    cache.mutated(V3, base=V2)
    assert seen(cache) is V3
    indexer.put("default/a", widget("a", "2"), "2")
    assert seen(cache) is V3
    indexer.put("default/a", OTHERS, "4")
    assert seen(cache) is OTHERS


def test_write_that_the_cache_knows_already(indexer: Indexer, cache: MutationCache) -> None:
    """The event was quicker than the answer: the cache is right, and what follows in it counts."""
    indexer.put("default/a", V3, "3")
    cache.mutated(V2, base=V1)
    assert seen(cache) is V3


def test_answers_in_the_wrong_order(cache: MutationCache) -> None:
    """Two threads wrote, and the answer to the first write came last."""
    cache.mutated(V3, base=V2)
    cache.mutated(V2, base=V1)
    assert seen(cache) is V3


def test_deletion_on_top_of_an_own_write(indexer: Indexer, cache: MutationCache) -> None:
    """The events of what was deleted do not show it again. A later object of that name is seen."""
    cache.mutated(V2, base=V1)
    cache.deleted("a", "default", base=V2)
    assert seen(cache) is None
    indexer.put("default/a", V2, "2")
    assert seen(cache) is None
    indexer.put("default/a", OTHERS, "4")
    assert seen(cache) is OTHERS


def test_deletion_of_what_was_not_read(cache: MutationCache) -> None:
    """Its version is not known, so the object is seen until the cache hears that it went."""
    cache.deleted("a", "default", base=None)
    assert seen(cache) is V1


def test_same_number_of_changes_means_same_objects(indexer: Indexer, cache: MutationCache) -> None:
    """Every change of the content counts, a later version of the same content does not."""
    numbers = [cache.changes()]
    for change in (
        lambda: indexer.put("default/a", OTHERS, "4"),
        lambda: indexer.remove("default/a", "5"),
        lambda: indexer.replace({"default/a": V3}, "6"),
    ):
        change()
        numbers.append(cache.changes())
    assert len({*numbers, None}) == 5
    indexer.caught_up("7")
    assert cache.changes() == numbers[-1]


@pytest.mark.parametrize("ends", ["event", "list"])
def test_changes_are_unknown_while_own_writes_are_shown(indexer: Indexer, cache: MutationCache, ends: str) -> None:
    before = cache.changes()
    cache.mutated(V2, base=V1)
    assert cache.changes() is None
    if ends == "event":
        indexer.put("default/a", V2, "2")
    else:
        indexer.replace({"default/a": V2}, "2", listed_at=1.0)
    assert cache.changes() not in (None, before)


def test_create_and_delete(indexer: Indexer, cache: MutationCache) -> None:
    """Absence is a state like others."""
    cache.deleted("a", "default", base=V1)
    again = created_again(indexer, cache)
    indexer.put("default/a", again, "9")
    indexer.remove("default/a", "10")
    assert seen(cache) is None


def test_cache_that_returns_to_the_base_has_moved(indexer: Indexer, cache: MutationCache) -> None:
    """Created by us, seen in the cache, deleted by another: gone, though absence is what the write was based on."""
    indexer.remove("default/a", "2")
    cache.mutated(V3, base=None)
    indexer.put("default/a", V3, "3")
    indexer.remove("default/a", "4")
    assert seen(cache) is None


def test_a_list_that_is_later_than_the_write_settles_it(indexer: Indexer, cache: MutationCache) -> None:
    """Also when the object was created and deleted while the watch was down."""
    cache.mutated(widget("new", "5"), base=None)
    assert cache.get("new", "default")
    indexer.replace({"default/a": V1}, "7")
    assert cache.get("new", "default") is None


def test_a_list_that_began_after_the_answer_settles_it(
    indexer: Indexer, cache: MutationCache, clock: VirtualClock
) -> None:
    """Whatever its version is: the API server may have been restored from a backup."""
    clock.advance(5)
    cache.mutated(widget("a", "50"), base=V1)
    indexer.replace({"default/a": V1}, "1", listed_at=4.9)
    assert seen(cache) == widget("a", "50")
    indexer.replace({"default/a": V2}, "2", listed_at=5.1)
    assert seen(cache) is V2


def test_without_comparable_versions_own_writes_are_not_shown(indexer: Indexer, cache: MutationCache) -> None:
    """A write on the outdated object is refused by the API server, so nothing is lost."""
    indexer.put("default/a", widget("a", "v1"), "v1")
    cache.mutated(widget("a", "v2"), base=widget("a", "v1"))
    assert seen(cache) == widget("a", "v1")


def gone() -> Object:
    raise NotFound("there is none", status=404, reason="NotFound")


def test_a_write_on_top_of_what_a_refused_one_ran_into(indexer: Indexer, cache: MutationCache) -> None:
    """What the API server has is newer than the cache; the write on it is seen until the cache moves."""
    assert cache.refresh("a", "default", lambda: V2) is V2
    assert seen(cache) is V2
    cache.mutated(V3, base=V2)
    assert seen(cache) is V3
    indexer.put("default/a", OTHERS, "4")
    assert seen(cache) is OTHERS


def test_a_refused_write_ran_into_a_deletion(indexer: Indexer, cache: MutationCache) -> None:
    """What was created in the place of the deleted object is seen, not the deleted one."""
    assert cache.refresh("a", "default", gone) is None
    created_again(indexer, cache)
    others = widget("a", "10")
    indexer.put("default/a", others, "10")
    assert seen(cache) is others


@pytest.mark.parametrize("newer", ["own write", "event"])
def test_what_the_api_server_had_is_old_when_more_is_known_by_now(
    indexer: Indexer, cache: MutationCache, newer: str
) -> None:
    """Another thread wrote, or the cache moved, while it was asked."""

    def fetch() -> Object:
        if newer == "event":
            indexer.put("default/a", V3, "3")
        else:
            cache.mutated(V3, base=V1)
        return V2

    assert cache.refresh("a", "default", fetch) is V2
    assert seen(cache) is V3


def test_entries_that_nobody_reads_end_too(indexer: Indexer, cache: MutationCache) -> None:
    """With the next write, also behind an object that was written again and again: memory is bounded."""
    cache.mutated(V2, base=V1)
    written = [widget(f"w{number}", number) for number in range(10, 20)]
    for obj in written:
        cache.mutated(obj, base=None)
    cache.mutated(widget("a", 25), base=V2)
    for obj in written:
        indexer.put(f"default/{obj['metadata']['name']}", obj, obj["metadata"]["resourceVersion"])
    cache.mutated(widget("last", 30), base=None)
    assert list(cache._entries) == ["default/a", "default/last"]


@pytest.mark.parametrize(
    ("answer", "base", "distrusted"),
    [
        (widget("a", "50"), V1, False),
        (widget("a", "9"), widget("a", "9"), False),  # it has changed nothing
        (widget("a", "8"), widget("a", "9"), True),
        (widget("new", "50"), None, False),
        (widget("new", "9"), None, True),
        (widget("a", "9", uid="another"), None, True),
        (widget("new", "v9"), None, False),
    ],
)
def test_an_answer_that_is_older_than_the_cache_tells_of_a_restore(
    answer: Object, base: Object | None, distrusted: bool, indexer: Indexer, cache: MutationCache, distrusts: list[bool]
) -> None:
    """The cache is at version 10, and the object a at version 9."""
    indexer.put("default/a", widget("a", "9"), "10")
    cache.mutated(answer, base=base)
    assert bool(distrusts) is distrusted


@pytest.mark.parametrize("own_write", [True, False])
def test_a_read_that_is_older_than_what_is_shown_tells_of_a_restore(
    indexer: Indexer, cache: MutationCache, distrusts: list[bool], own_write: bool
) -> None:
    """The write on top of what the API server has works, before the cache was listed again."""
    indexer.put("default/a", widget("a", "9"), "10")
    if own_write:
        cache.mutated(widget("a", "11"), base=widget("a", "9"))
    restored = widget("a", "5")
    assert cache.refresh("a", "default", lambda: restored) is restored
    assert distrusts
    assert seen(cache) is restored


def test_created_seen_and_deleted_before_the_answer(indexer: Indexer, cache: MutationCache) -> None:
    """The events were quicker than the answer to the create: the object is gone, not new."""
    created = widget("new", 5)
    indexer.put("default/new", created, "5")
    indexer.remove("default/new", "6")
    cache.mutated(created, base=None)
    assert cache.get("new", "default") is None
    assert cache.by_index("color", "red") == []
    again = widget("new", 7, uid="another")
    cache.mutated(again, base=None)
    assert cache.get("new", "default") is again


def test_object_that_has_left_the_cache_and_is_still_there(indexer: Indexer, cache: MutationCache) -> None:
    """A watch by label shows an object that lost the label as deleted. What a refused write ran into is right."""
    hidden = widget("a", 5)
    indexer.remove("default/a", "5")
    assert seen(cache) is None
    assert cache.refresh("a", "default", lambda: hidden) is hidden
    assert seen(cache) is hidden
    labelled = widget("a", 7)
    cache.mutated(labelled, base=hidden)
    assert seen(cache) is labelled
    indexer.put("default/a", labelled, "7")
    indexer.remove("default/a", "8")
    assert seen(cache) is None


def test_gone_in_a_list_before_the_answer(indexer: Indexer, cache: MutationCache) -> None:
    """The same when it was missing from a new list, or another object has its name there for a while."""
    created = widget("new", 5)
    indexer.put("default/new", created, "5")
    indexer.replace({"default/new": widget("new", 6, uid="another")}, "6")
    indexer.replace({}, "7")
    cache.mutated(created, base=None)
    assert cache.get("new", "default") is None


def test_deleted_while_own_writes_on_it_were_not_seen_yet(indexer: Indexer, cache: MutationCache) -> None:
    """A list that skips the own writes and says that the object is gone is newer than they are."""
    first, second = widget("new", 5), widget("new", 6)
    cache.mutated(first, base=None)
    cache.mutated(second, base=first)
    indexer.put("default/new", first, "5")
    assert cache.get("new", "default") is second
    indexer.replace({}, "9")
    assert cache.get("new", "default") is None


@pytest.fixture
def _eager_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_eager_threads")
def test_index_never_goes_back_in_time(indexer: Indexer, cache: MutationCache) -> None:
    """However reads and the cache's moves meet: what was seen of an own write is not unseen when its event comes."""
    versions = [0]

    def write() -> None:
        for number in range(2, 1000):
            new = widget("a", number, colors=["red"])
            cache.mutated(new, base=cache.get("a", "default"))
            while versions[-1] < number:
                time.sleep(0)
            indexer.put("default/a", new, str(number))

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        versions += [int(obj["metadata"]["resourceVersion"]) for obj in cache.by_index("color", "red")]
    assert versions == sorted(versions)


def test_index(indexer: Indexer, cache: MutationCache) -> None:
    """Objects are found by the values of the own write: added, moved and deleted ones."""
    red, blue, new = (
        widget("r", 2, colors=["red"]),
        widget("b", 3, colors=["blue"]),
        widget("n", 6, colors=["red"]),
    )
    untouched = widget("u", 4, colors=["red"])
    indexer.put("default/r", red, "2")
    indexer.put("default/b", blue, "3")
    indexer.put("default/u", untouched, "4")
    turned = widget("b", 5, colors=["red"])
    cache.mutated(turned, base=blue)
    cache.mutated(new, base=None)
    cache.deleted("r", "default", base=red)
    assert cache.by_index("color", "red") == [untouched, turned, new]
    assert cache.by_index("color", "blue") == []
    assert indexer.by_index("color", "blue") == [blue]
    indexer.put("default/b", turned, "5")
    assert cache.by_index("color", "red") == [untouched, turned, new]
    with pytest.raises(KeyError, match="no index 'size'"):
        cache.by_index("size", "1")
