"""The cache and its indices."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from informers import CacheMutated, Indexer, object_key
from tests.fake_api_server.objects import WIDGETS, widget

Object = dict[str, Any]


def by_color(obj: Object) -> Iterable[str]:
    return obj["spec"].get("colors", ())  # type: ignore[no-any-return]


def filled(*objs: Object) -> Indexer:
    indexer = Indexer(WIDGETS, {"color": by_color})
    for obj in objs:
        indexer.put(object_key(obj), obj, obj["metadata"]["resourceVersion"])
    return indexer


def names(objs: Iterable[Object]) -> list[str]:
    return [obj["metadata"]["name"] for obj in objs]


def test_names_of_indices() -> None:
    """An unknown index is an error that names it."""
    indexer = filled()
    with pytest.raises(KeyError, match="no index 'size'; known: color"):
        indexer.by_index("size", "1")
    with pytest.raises(KeyError, match="size"):
        indexer.index_values("size")


@pytest.mark.parametrize("write", ["put", "remove"])
def test_reader_that_changed_an_indexed_field(write: str) -> None:
    """The index cannot be kept any more; the error names object and cure."""
    indexer = filled(widget("a", 1, colors=["red"]))
    indexer.list()[0]["spec"]["colors"] = ["blue"]
    with pytest.raises(CacheMutated, match=r"cached Widget default/a was changed by its reader .* copy objects"):
        indexer.put("default/a", widget("a", 2), "2") if write == "put" else indexer.remove("default/a", "2")


def test_error_of_an_index_function_names_index_and_object() -> None:
    """So that the mistake can be found."""
    with pytest.raises(KeyError) as caught:
        Indexer(WIDGETS, {"broken": lambda obj: obj["nothing"]}).put("default/a", widget("a", 1), "1")
    assert caught.value.__notes__ == ["in the index function 'broken', for Widget default/a"]


def test_reads() -> None:
    """By name, by namespace, or all."""
    indexer = Indexer(WIDGETS)
    for obj in (widget("a", 1), widget("b", 2, namespace="other")):
        indexer.put(object_key(obj), obj, "2")
    assert indexer.get("a", "default") == widget("a", 1)
    assert indexer.get("a", "other") is None
    assert names(indexer.list()) == names(indexer.list("")) == ["a", "b"]
    assert names(indexer.list("other")) == ["b"]


class IndexMachine(RuleBasedStateMachine):
    """After any writes each index is what its function says of what is stored."""

    def __init__(self) -> None:
        super().__init__()
        self.indexer = Indexer(WIDGETS, {"color": by_color})
        self.model: dict[str, Object] = {}

    @rule(name=st.sampled_from("abc"), colors=st.lists(st.sampled_from(["red", "blue", "green"]), max_size=3))
    def put(self, name: str, colors: list[str]) -> None:
        obj = widget(name, 1, colors=colors)
        assert self.indexer.put(object_key(obj), obj, "1") == self.model.get(object_key(obj))
        self.model[object_key(obj)] = obj

    @rule(name=st.sampled_from("abc"))
    def remove(self, name: str) -> None:
        assert self.indexer.remove(f"default/{name}", "1") == self.model.pop(f"default/{name}", None)

    @rule(kept=st.sets(st.sampled_from("abc")))
    def replace(self, kept: set[str]) -> None:
        self.model = {key: obj for key, obj in self.model.items() if key[-1] in kept}
        self.indexer.replace(dict(self.model), "1")

    @invariant()
    def indices_are_right(self) -> None:
        expected = {color: [] for obj in self.model.values() for color in by_color(obj)}  # type: ignore[var-annotated]
        for key, obj in self.model.items():
            for color in set(by_color(obj)):
                expected[color].append(key)
        actual = {
            value: sorted(object_key(obj) for obj in self.indexer.by_index("color", value))
            for value in self.indexer.index_values("color")
        }
        assert actual == {color: sorted(keys) for color, keys in expected.items()}


TestIndexMachine = IndexMachine.TestCase
TestIndexMachine.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
