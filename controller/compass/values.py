"""Typed access to the fields of an answer. Each function raises InvalidAnswer with the field's name as `path`.

A message names the type that was found and never the value, which may be a password.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from controller.compass.errors import CompassError, InvalidAnswer
from controller.compass.foreign_text import one_line

_JSON_TYPES = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", int: "a number", float: "a number"}


#: Ids have 36 characters; a label is part of a status.
_MAX_LABEL = 64


@contextlib.contextmanager
def within(outer: str) -> Iterator[None]:
    """Prefix the path of an InvalidAnswer from inside with the field that is being read."""
    try:
        yield
    except InvalidAnswer as error:
        error.prepend(outer)
        raise


#: Ids have 36 characters; a label is part of a status.
_MAX_LABEL = 64


@contextlib.contextmanager
def numbered(request_id: str) -> Iterator[None]:
    """Give a failure that is found in an answer the number of its call."""
    try:
        yield
    except CompassError as error:
        error.request_id = request_id
        raise


def wrong(field: str, expected: str, value: Any) -> InvalidAnswer:
    """An InvalidAnswer for a value of the wrong type."""
    found = "null or absent" if value is None else _JSON_TYPES.get(type(value), "of an unknown type")
    return InvalidAnswer(f"is {found} instead of {expected}", path=field)


def text(holder: dict[str, Any], field: str) -> str:
    """A text, which may be empty."""
    value = holder.get(field)
    if not isinstance(value, str):
        raise wrong(field, "a text", value)
    return value


def filled_text(holder: dict[str, Any], field: str) -> str:
    """A text that is not empty."""
    value = holder.get(field)
    if not isinstance(value, str):
        raise wrong(field, "a text", value)
    if not value:
        raise InvalidAnswer("is empty", path=field)
    return value


def optional_text(holder: dict[str, Any], field: str) -> str | None:
    """A text or None."""
    value = holder.get(field)
    if value is not None and not isinstance(value, str):
        raise wrong(field, "a text", value)
    return value


def optional_object(holder: dict[str, Any], field: str) -> dict[str, Any] | None:
    """An object or None."""
    value = holder.get(field)
    if value is not None and not isinstance(value, dict):
        raise wrong(field, "an object", value)
    return value


def required_object(holder: dict[str, Any], field: str) -> dict[str, Any]:
    """An object."""
    value = holder.get(field)
    if not isinstance(value, dict):
        raise wrong(field, "an object", value)
    return value


def objects(holder: dict[str, Any], field: str) -> list[dict[str, Any]]:
    """A list of objects; null or absent is an empty one."""
    value = holder.get(field)
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong(field, "a list", value)
    strange = [item for item in value if not isinstance(item, dict)]
    if strange:
        # Lists come in any order: neither the position nor which of several comes first may show.
        raise wrong(f"{field}[?]", "an object", min(strange, key=lambda item: type(item).__name__))
    return value


def sorted_by_id(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items in an order that does not depend on the one they came in; those without an id first."""
    return sorted(items, key=_id_or_type)


def _id_or_type(item: dict[str, Any]) -> tuple[str, str]:
    value = item.get("id")
    return (value, "") if isinstance(value, str) else ("", type(value).__name__)


def label(item: dict[str, Any]) -> str:
    """What to call an item in the path of an error: its id, or "?"."""
    value = item.get("id")
    return one_line(value, _MAX_LABEL) if isinstance(value, str) and value else "?"
