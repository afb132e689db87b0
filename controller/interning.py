"""A transform for caches that stores equal values once: thousands of objects of a kind have the same status and labels.

It works on an object before the object enters the cache. Nothing changes in a cache.
"""

from collections.abc import Callable
from typing import Any

Object = dict[str, Any]

#: Levels of an object that are compared. An API server accepts thousands, and an Application has eight.
_LEVELS = 12

_ABSENT = object()


class CacheTransform:
    """Removes what the agent does not read, and replaces parts of an object by equal parts of the object before it.

    `known` may be replaced. It returns fields of the object with this name that are in memory already, {} if there are
    none. Equal parts of these are taken first.
    """

    def __init__(self) -> None:
        self.known: Callable[[str], Object] = lambda _: {}
        self._before: Object = {}

    def __call__(self, obj: Object) -> Object:
        """`obj`, which is changed."""
        obj["metadata"].pop("managedFields", None)  # a third of an object
        intern_values(obj, {**self._before, **self.known(obj["metadata"].get("name", ""))})
        # The values of a Secret would otherwise stay after its deletion.
        self._before = {field: value for field, value in obj.items() if field != "data"}
        return obj


def intern_values(value: Any, like: Any, levels: int = _LEVELS) -> Any:
    """The same value, with parts of `like` where they are equal at the same place. Changes `value`, and not `like`."""
    kind = type(value)
    if kind is not type(like):  # for ==, 1 is true
        return value
    if kind is str:
        return like if value == like else value
    if not levels or kind not in (dict, list):
        return value
    is_like = len(value) == len(like)
    for place, part in value.items() if kind is dict else enumerate(value[: len(like)]):
        there = like.get(place, _ABSENT) if kind is dict else like[place]
        if part is not there:
            value[place] = interned = intern_values(part, there, levels - 1)
            is_like = is_like and interned is there
    return like if is_like else value
