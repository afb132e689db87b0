"""Completes and checks what a person writes about an Application, by the Director's own schema.

The JSON shape is that of the GraphQL type with two simplifications: a page (`bundles`) is written as a plain list,
and the kind of a credential is taken from its fields, so that `{"name": "Shop", "bundles": [{"name": "Orders"}]}`
is enough. Missing ids are made up, other missing fields are null, or an empty list where there is a page.

Raises RecordError (a ValueError), which names the place, such as
`application.bundles[0].apiDefinitions[1].targetURL: required`.
"""

import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from graphql import (
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLUnionType,
    build_schema,
)

DIRECTOR_SCHEMA: GraphQLSchema = build_schema((Path(__file__).parent / "director.graphql").read_text(encoding="utf-8"))
CONNECTOR_SCHEMA: GraphQLSchema = build_schema(
    (Path(__file__).parent / "connector.graphql").read_text(encoding="utf-8")
)

_DEFAULTS: dict[str, Callable[[], Any]] = {"Application.labels": dict, "Application.auths": list}


class RecordError(ValueError):
    """What was written is no Application; the text names the place and what is wrong with it."""


def application(value: Any) -> dict[str, Any]:
    """A complete Application record from what was written; the input is not changed."""
    kind = DIRECTOR_SCHEMA.type_map["Application"]
    assert isinstance(kind, GraphQLObjectType)
    return _object(kind, value, "application")


@cache
def _stored_fields(kind: GraphQLObjectType) -> dict[str, GraphQLOutputType]:
    """The fields that a record holds. A look-up by id (`bundle(id)`) is answered from the list of the same things."""
    return {name: field.type for name, field in kind.fields.items() if "id" not in field.args}


def _object(kind: GraphQLObjectType, value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RecordError(f"{place}: must be an object")
    fields = _stored_fields(kind)
    if unknown := value.keys() - fields.keys() - {"__typename"}:
        raise RecordError(f"{place}: unknown field {', '.join(sorted(unknown))}")
    record: dict[str, Any] = {"__typename": kind.name}
    for name, field_type in fields.items():
        given = value.get(name)
        if given is None and (default := _DEFAULTS.get(f"{kind.name}.{name}")):
            given = default()
        record[name] = _value(field_type, given, f"{place}.{name}")
    return record


def _value(output: GraphQLOutputType, value: Any, place: str) -> Any:
    required = isinstance(output, GraphQLNonNull)
    kind = output.of_type if isinstance(output, GraphQLNonNull) else output
    if isinstance(kind, GraphQLObjectType) and kind.name.endswith("Page"):
        return _list(kind.fields["data"].type, [] if value is None else value, place)
    if value is None:
        if not required:
            return None
        if isinstance(kind, GraphQLScalarType) and kind.name == "ID" and place.endswith(".id"):
            return str(uuid.uuid4())
        raise RecordError(f"{place}: required")
    if isinstance(kind, GraphQLList):
        return _list(kind, value, place)
    if isinstance(kind, GraphQLObjectType):
        return _object(kind, value, place)
    if isinstance(kind, GraphQLUnionType | GraphQLInterfaceType):
        return _object(_member(kind, value, place), value, place)
    return value


def _list(output: GraphQLOutputType, value: Any, place: str) -> list[Any]:
    kind = output.of_type if isinstance(output, GraphQLNonNull) else output
    if not isinstance(kind, GraphQLList):
        raise TypeError(f"{place}: the schema has no list here")
    if not isinstance(value, list):
        raise RecordError(f"{place}: must be a list")
    return [_value(kind.of_type, item, f"{place}[{index}]") for index, item in enumerate(value)]


def _member(kind: GraphQLUnionType | GraphQLInterfaceType, value: Any, place: str) -> GraphQLObjectType:
    """The one type whose required fields are all given and whose fields cover those given."""
    if not isinstance(value, dict):
        raise RecordError(f"{place}: must be an object")
    possible = DIRECTOR_SCHEMA.get_possible_types(kind)
    if named := value.get("__typename"):
        fitting = [member for member in possible if member.name == named]
    else:
        fitting = [
            member
            for member in possible
            if value.keys() <= member.fields.keys()
            and all(name in value for name, field in member.fields.items() if isinstance(field.type, GraphQLNonNull))
        ]
    if len(fitting) != 1:
        raise RecordError(f"{place}: must have the fields of one of {', '.join(member.name for member in possible)}")
    return fitting[0]
