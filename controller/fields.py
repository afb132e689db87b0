"""Read those parts of an object that users write, with any content.

The API server guarantees little about them, because the CRD may be replaced by one without a schema. A field with an
unexpected type is treated as absent.
"""

from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]

_OWNER_TEXTS = ("apiVersion", "kind", "name", "uid")


def spec(obj: Mapping[str, Any]) -> Object:
    """The spec, {} if absent."""
    return member(obj, "spec")


def labels(obj: Mapping[str, Any]) -> dict[str, str]:
    """The labels with text values."""
    return _texts(obj, "labels")


def annotations(obj: Mapping[str, Any]) -> dict[str, str]:
    """The annotations with text values."""
    return _texts(obj, "annotations")


def owner_references(obj: Mapping[str, Any]) -> list[Object]:
    """The complete ownerReferences, without empty texts."""
    return [
        reference
        for reference in objects(obj["metadata"].get("ownerReferences"))
        if all(isinstance(text := reference.get(name), str) and text for name in _OWNER_TEXTS)
    ]


def member(obj: object, name: str) -> Object:
    """A member that is an object; {} for anything else."""
    found = obj.get(name) if isinstance(obj, Mapping) else None
    return found if isinstance(found, dict) else {}


def objects(value: object) -> list[Object]:
    """The items of a list that are objects; [] for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def is_empty(value: object) -> bool:
    """Whether this means the same as an absent field."""
    return value is None or value in ("", {}, [])


def _texts(obj: Mapping[str, Any], name: str) -> dict[str, str]:
    return {key: value for key, value in member(obj["metadata"], name).items() if isinstance(value, str)}
