"""Which changes pass (controller-runtime: pkg/predicate)."""

from typing import Any

import pytest

from controller.runtime import all_of, annotations_changed, any_of, generation_changed, labels_changed, negate

Object = dict[str, Any]


def obj(version: str = "1", **metadata: Any) -> Object:
    return {"metadata": {"name": "a", "resourceVersion": version, **metadata}}


def yes(_old: Object | None, _new: Object | None, /) -> bool:
    return True


def no(_old: Object | None, _new: Object | None, /) -> bool:
    return False


@pytest.mark.parametrize(
    ("predicate", "old", "new", "passes"),
    [
        (generation_changed, obj(generation=1), obj("2", generation=2), True),
        (generation_changed, obj(generation=1), obj("2", generation=1), False),
        (generation_changed, obj(generation=1), obj(generation=1), False),
        (generation_changed, obj(), obj("2"), True),
        (generation_changed, obj(), obj(), False),
        (labels_changed, obj(labels={"a": "1"}), obj("2", labels={"a": "2"}), True),
        (labels_changed, obj(labels={"a": "1"}), obj("2", labels={"a": "1"}, generation=2), False),
        (labels_changed, obj(labels={"a": "1"}), obj("2"), True),
        (labels_changed, obj(labels={}), obj("2"), False),
        (labels_changed, obj(), obj("2", annotations={"a": "1"}), False),
        (annotations_changed, obj(), obj("2", annotations={"a": "1"}), True),
        (annotations_changed, obj(annotations={"a": "1"}), obj("2", annotations={"a": "1"}), False),
        (annotations_changed, obj(), obj("2", labels={"a": "1"}), False),
    ],
)
def test_changes(predicate: Any, old: Any, new: Any, passes: Any) -> None:
    """What has changed decides; an empty map and none are the same; a kind without generation passes each change."""
    assert predicate(old, new) is passes


@pytest.mark.parametrize("predicate", [generation_changed, labels_changed, annotations_changed])
def test_adds_and_deletes_pass(predicate: Any) -> None:
    """They judge changes only."""
    assert predicate(None, obj())
    assert predicate(obj(), None)


@pytest.mark.parametrize(
    ("predicate", "passes"),
    [
        (all_of(), True),
        (all_of(yes, yes), True),
        (all_of(yes, no), False),
        (any_of(), False),
        (any_of(no, yes), True),
        (any_of(no, no), False),
        (negate(no), True),
        (negate(yes), False),
        (all_of(any_of(no, yes), negate(no)), True),
    ],
)
def test_combinations(predicate: Any, passes: Any) -> None:
    """And, or, not."""
    assert predicate(obj(), obj("2")) is passes
