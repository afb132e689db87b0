"""Which events are worth a reconcile (controller-runtime: pkg/predicate).

A predicate is asked with the object before and after: None before an add, None after a delete. Those here let every add
and every delete pass, and judge changes. They narrow what is reconciled, not what the cache holds.
"""

from typing import Any, Protocol

Object = dict[str, Any]


class Predicate(Protocol):
    """Whether an event is worth a reconcile. ``old`` is None for an add, ``new`` is None for a delete."""

    def __call__(self, old: Object | None, new: Object | None, /) -> bool: ...


def generation_changed(old: Object | None, new: Object | None, /) -> bool:
    """The spec has changed: the API server counts ``generation`` up for that, and not for status and metadata.

    Only for kinds that have a generation; of ConfigMaps and Secrets, which have none, every change passes. Resyncs do
    not pass.
    """
    return _changed(old, new, "generation")


def labels_changed(old: Object | None, new: Object | None, /) -> bool:
    """metadata.labels have changed."""
    return _changed(old, new, "labels")


def annotations_changed(old: Object | None, new: Object | None, /) -> bool:
    """metadata.annotations have changed."""
    return _changed(old, new, "annotations")


def all_of(*predicates: Predicate) -> Predicate:
    """Passes what all of them let pass."""
    return lambda old, new: all(predicate(old, new) for predicate in predicates)


def any_of(*predicates: Predicate) -> Predicate:
    """Passes what at least one of them lets pass."""
    return lambda old, new: any(predicate(old, new) for predicate in predicates)


def negate(predicate: Predicate) -> Predicate:
    """Passes what it does not let pass."""
    return lambda old, new: not predicate(old, new)


def _changed(old: Object | None, new: Object | None, field: str) -> bool:
    if old is None or new is None:
        return True
    before, after = old["metadata"].get(field), new["metadata"].get(field)
    if field == "generation" and before is None and after is None:
        return bool(old["metadata"].get("resourceVersion") != new["metadata"].get("resourceVersion"))
    # An empty map and none at all are the same.
    return (before or None) != (after or None)
