"""Names of changed fields: all of them, and never a value."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.applications.objects import MAX_PATHS, changed_fields

KEYS = st.sampled_from(["a", "b", "id"])
VALUES = st.recursive(
    st.none() | st.sampled_from(["value-1", "value-2", ""]) | st.integers(min_value=1000, max_value=1003),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=3)

ROWS: list[tuple[str, Any, Any, list[str]]] = [
    ("equal", {"spec": {"x": 1}}, {"spec": {"x": 1}}, []),
    ("absent and empty", {"spec": {"x": ""}}, {"spec": {"y": []}}, []),
    ("nested", {"spec": {"x": {"y": 1}}}, {"spec": {"x": {"y": 2}}}, ["spec.x.y"]),
    ("another type", {"spec": {"x": {"y": 1}}}, {"spec": {"x": [1]}}, ["spec.x"]),
    (
        "items with ids",
        {"spec": {"services": [{"id": "a", "name": "x"}, {"id": "b"}]}},
        {"spec": {"services": [{"id": "b"}, {"id": "a", "name": "y"}, {"id": "c"}]}},
        ["spec.services[a].name", "spec.services[c]"],
    ),
    ("order", {"l": [{"id": "a"}, {"id": "b"}]}, {"l": [{"id": "b"}, {"id": "a"}]}, ["l (order)"]),
    ("items without ids", {"l": ["a", "b"]}, {"l": ["a", "c"]}, ["l"]),
    ("one id twice", {"l": [{"id": "a"}, {"id": "a"}]}, {"l": [{"id": "a"}]}, ["l"]),
    ("kind and version", {"spec": 1}, {"kind": "X", "apiVersion": "v1", "spec": 1}, []),
]


@pytest.mark.parametrize(("actual", "wanted", "paths"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_paths(actual: dict[str, Any], wanted: dict[str, Any], paths: list[str]) -> None:
    assert changed_fields(actual, wanted) == paths


def test_many_changes_are_counted() -> None:
    """A line of the log stays readable."""
    many = {f"field-{number:03}": number for number in range(1, 101)}
    assert changed_fields({}, {"spec": many}) == ["spec"]
    paths = changed_fields({"spec": {"x": 1}}, {"spec": many})
    assert len(paths) == MAX_PATHS + 1
    assert paths[-1] == "and 81 more"
    few = dict(list(many.items())[:MAX_PATHS])
    assert changed_fields({"spec": {}}, {"spec": few}) == [f"spec.{name}" for name in few]


@given(OBJECTS, OBJECTS)
def test_never_a_value_and_no_change_missed(actual: dict[str, Any], wanted: dict[str, Any]) -> None:
    paths = changed_fields(actual, wanted)
    assert not any("value-" in path.replace("[value-", "") or "100" in path for path in paths)
    assert bool(paths) <= (actual != wanted)
    if not paths:
        assert _filled(actual) == _filled(wanted)


def _filled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: inner for key, item in value.items() if (inner := _filled(item)) not in (None, "", {}, [])}
    return [_filled(item) for item in value] if isinstance(value, list) else value
