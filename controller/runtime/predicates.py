"""Filters for events (controller-runtime: pkg/predicate).

A predicate gets the object before and after the event: None before an add, None after a delete. The predicates here
accept every add and every delete, and filter changes. They filter reconciles, not the contents of the cache.
"""

from typing import Any, Protocol

Object = dict[str, Any]


class Predicate(Protocol):
    """Whether an event leads to a reconcile. `old` is None for an add, `new` is None for a delete."""

    def __call__(self, old: Object | None, new: Object | None, /) -> bool: ...


def generation_changed(old: Object | None, new: Object | None, /) -> bool:
    """The spec has changed: the API server increases `generation` for that, and not for status and metadata.

    Only for kinds that have a generation. For ConfigMaps and Secrets, which have none, it accepts every change.
    """
    return _changed(old, new, "generation")


def labels_changed(old: Object | None, new: Object | None, /) -> bool:
    """metadata.labels have changed."""
    return _changed(old, new, "labels")


def annotations_changed(old: Object | None, new: Object | None, /) -> bool:
    """metadata.annotations have changed."""
    return _changed(old, new, "annotations")


def all_of(*predicates: Predicate) -> Predicate:
    """Accepts an event if all of them accept it."""
    return lambda old, new: all(predicate(old, new) for predicate in predicates)


def any_of(*predicates: Predicate) -> Predicate:
    """Accepts an event if at least one of them accepts it."""
    return lambda old, new: any(predicate(old, new) for predicate in predicates)


def negate(predicate: Predicate) -> Predicate:
    """Accepts an event if the other predicate rejects it."""
    return lambda old, new: not predicate(old, new)


def _changed(old: Object | None, new: Object | None, field: str) -> bool:
    if old is None or new is None:
        return True
    before, after = old["metadata"].get(field), new["metadata"].get(field)
    if field == "generation" and before is None and after is None:
        return bool(old["metadata"].get("resourceVersion") != new["metadata"].get("resourceVersion"))
    # An empty map and an absent one are equal.
    return (before or None) != (after or None)
