"""Stores equal parts of objects once: thousands of Applications have the same status, labels and kinds."""

from typing import Any

Object = dict[str, Any]

#: Levels of an object that are compared. An API server accepts thousands, and an Application has eight.
_LEVELS = 12

_ABSENT = object()


class Trimmed:
    """A transform for a cache. It removes what the agent does not read, and replaces the parts of an object that are
    equal in the object before it by those. Only for objects that are never changed, such as those in a cache.
    """

    def __init__(self) -> None:
        self._before: Object = {}

    def __call__(self, obj: Object) -> Object:
        """`obj`, which is changed."""
        obj["metadata"].pop("managedFields", None)  # a third of an object
        share(obj, self._before)
        # The values of a Secret would otherwise stay after its deletion.
        self._before = {field: value for field, value in obj.items() if field != "data"}
        return obj


def share(value: Any, other: Any, levels: int = _LEVELS) -> Any:
    """The same value, with parts of `other` where they are equal at the same place. `value` is changed, `other` is
    not.
    """
    kind = type(value)
    if kind is not type(other):  # for ==, 1 is true
        return value
    if kind is str:
        return other if value == other else value
    if not levels or kind not in (dict, list):
        return value
    is_other = len(value) == len(other)
    for place, part in value.items() if kind is dict else enumerate(value[: len(other)]):
        there = other.get(place, _ABSENT) if kind is dict else other[place]
        if part is not there:
            value[place] = shared = share(part, there, levels - 1)
            is_other = is_other and shared is there
    return other if is_other else value
