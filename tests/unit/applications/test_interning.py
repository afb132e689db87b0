"""What objects in a cache have in common is in memory once, and no value changes."""

import copy
import json
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.applications.objects import CacheTransform, intern_values

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.floats(0, 2) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=1), inner, max_size=3),
)


def text(value: Any) -> str:
    """With the type of each value: 1, 1.0 and true are different."""
    return json.dumps(value, sort_keys=True)


def application(name: str, **fields: Any) -> dict[str, Any]:
    obj = {
        "kind": "Application",
        "metadata": {"name": name, "labels": {"owner": "the agent"}, "managedFields": [{}]},
        "spec": {"services": [{"name": name, "entries": [{"type": "API", "id": name, "credentials": {"type": ""}}]}]},
        "status": {"installationStatus": {"status": "", "description": ""}},
        **fields,
    }
    copied: dict[str, Any] = json.loads(json.dumps(obj))
    return copied


@given(JSON, JSON)
def test_interning_changes_no_value(value: Any, other: Any) -> None:
    """Whatever they are, down to the types of numbers."""
    texts = text(value), text(other)
    assert (text(intern_values(value, other)), text(other)) == texts


@given(JSON)
def test_equal_values_become_one_object(value: Any) -> None:
    """All of it, if it has no numbers with a fraction: those need no memory that matters."""
    other = copy.deepcopy(value)
    if isinstance(value, dict | list | str) and "." not in text(value):
        assert intern_values(value, other) is other


def test_an_object_is_made_of_parts_of_the_one_before() -> None:
    transform = CacheTransform()
    one, two, three = (transform(application(name)) for name in ("a", "b", "c"))
    for each in (two, three):
        assert each["kind"] is one["kind"]
        assert each["status"] is one["status"]
        assert each["metadata"]["labels"] is one["metadata"]["labels"]
        assert (each["metadata"]["name"], each["spec"]["services"][0]["name"]) in (("b", "b"), ("c", "c"))
        entries = [obj["spec"]["services"][0]["entries"][0] for obj in (one, each)]
        assert entries[0]["credentials"] is entries[1]["credentials"]
        assert "managedFields" not in each["metadata"]


def test_objects_that_are_nested_too_deep_stay_unchanged() -> None:
    transform, nested = CacheTransform(), []
    for _ in range(2):
        inner: dict[str, Any] = {}
        for _ in range(5_000):
            inner = {"x": inner}
        nested.append(inner)
        assert transform({"metadata": {}, "spec": inner})["spec"] is inner
    assert nested[0] is not nested[1]


def test_parts_that_are_known_come_first() -> None:
    """Those of the Application of this name, which are in memory already."""
    transform = CacheTransform()
    transform(application("a"))
    spec = application("b")["spec"]
    transform.known = {"b": {"spec": spec}, "": {}}.__getitem__
    assert transform(application("b"))["spec"] is not None
    assert transform(application("b"))["spec"]["services"] is spec["services"]
    assert transform({"metadata": {}}) == {"metadata": {}}


@pytest.mark.parametrize(("value", "like"), [({"a": None}, {"b": 1}), ({"a": 1}, {"b": None})])
def test_an_absent_part_is_not_null(value: Any, like: Any) -> None:
    assert intern_values(value, like) is value


class Values(dict[str, str]):
    """A dict that a weak reference may refer to."""


def test_the_values_of_a_secret_are_not_kept() -> None:
    """The transform sees deleted Secrets too."""
    transform = CacheTransform()
    secret = {"metadata": {"name": "a"}, "data": Values(password="c2VjcmV0")}
    kept = weakref.ref(secret["data"])
    transform(secret)
    del secret
    assert kept() is None
