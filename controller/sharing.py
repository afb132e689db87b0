"""Equal parts of objects are kept in memory once: thousands of Applications have the same status, labels and kinds."""

from typing import Any

Object = dict[str, Any]

#: Levels of an object that are compared. An API server accepts thousands, and an Application has eight.
_LEVELS = 12

_ABSENT = object()


class Trimmed:
    """A transform for a cache: what nobody here reads is removed, and what an object has in common with the one before
    is taken from that one. For objects in a cache, which nobody changes.
    """

    def __init__(self) -> None:
        self._before: Object = {}

    def __call__(self, obj: Object) -> Object:
        """`obj`, changed."""
        obj["metadata"].pop("managedFields", None)  # a third of an object
        share(obj, self._before)
        # The values of a Secret would otherwise stay after its deletion.
        self._before = {field: value for field, value in obj.items() if field != "data"}
        return obj


def share(value: Any, other: Any, levels: int = _LEVELS) -> Any:
    """The same value, of parts of `other` wherever that has them in the same place. `value` is changed, `other` not."""
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
