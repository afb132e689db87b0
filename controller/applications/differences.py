"""Names of the fields that a write changes, without values, for the log."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: Maximum number of paths in one log line. An Application with a hundred changed APIs has too many.
MAX_PATHS = 20

Object = dict[str, Any]


def changed_fields(actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Paths of the fields in which two versions of an object differ, such as "spec.services[ID].entries[ID].name".

    Items of a list are named by their ids if all have one. An absent field and an empty one are equal. Only the number
    of paths after MAX_PATHS is included.
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
    """Items of a list by their ids; None if it is not a list, or if the items have no unique ids."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    items = {item["id"]: item for item in value if isinstance(item, Mapping) and isinstance(item.get("id"), str)}
    return items if len(items) == len(value) > 0 else None


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", {}, [])
