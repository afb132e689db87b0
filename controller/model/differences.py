"""Which fields of an object a write changes: for the log, so names and never values."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: Paths that one log line holds. An Application of a hundred changed APIs is not told field by field.
MAX_PATHS = 20

Object = dict[str, Any]


def changed_fields(actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Paths of the fields in which two versions of an object differ, such as "spec.services[ID].entries[ID].name".

    Items of a list are named by their ids where all have one. A field that is absent and one that is empty are the
    same. After MAX_PATHS the rest is counted.
    """
    paths = [
        path
        for name in sorted({*actual, *wanted} - {"apiVersion", "kind"})
        for path in _changed(actual.get(name), wanted.get(name), name)
    ]
    more = len(paths) - MAX_PATHS
    return [*paths[:MAX_PATHS], f"and {more} more"] if more > 0 else paths


def _changed(actual: Any, wanted: Any, path: str) -> Iterator[str]:
    if actual == wanted or (_is_empty(actual) and _is_empty(wanted)):
        return
    if isinstance(actual, Mapping) and isinstance(wanted, Mapping):
        for name in sorted({*actual, *wanted}):
            yield from _changed(actual.get(name), wanted.get(name), f"{path}.{name}")
        return
    before, after = _by_id(actual), _by_id(wanted)
    if before is None or after is None:
        yield path
    elif before.keys() == after.keys() and list(before) != list(after):
        yield f"{path} (order)"
    else:
        for identifier in sorted({*before, *after}):
            yield from _changed(before.get(identifier), after.get(identifier), f"{path}[{identifier}]")


def _by_id(value: Any) -> Mapping[str, Any] | None:
    """A list's items by their ids; None when this is no list, or its items have no ids of their own."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    items = {item["id"]: item for item in value if isinstance(item, Mapping) and isinstance(item.get("id"), str)}
    return items if len(items) == len(value) > 0 else None


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", {}, [])
