"""The schemas that the mock Compass serves agree with the published ones."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    Undefined,
    build_schema,
    parse,
    validate,
)

from controller.compass import queries
from controller.compass.queries import Operation
from e2e.mock_compass.records import CONNECTOR_SCHEMA, DIRECTOR_SCHEMA

OPERATIONS = [value for value in vars(queries).values() if isinstance(value, Operation)]
CONNECTOR_OPERATIONS = (queries.CONFIGURATION, queries.SIGN, queries.REVOKE)
OURS = {"connector": CONNECTOR_SCHEMA, "director": DIRECTOR_SCHEMA}

PublishedSchema = Callable[[str], GraphQLSchema]
Pair = tuple[GraphQLNamedType, GraphQLNamedType]


def our_types() -> Iterator[tuple[str, str]]:
    for which, schema in OURS.items():
        for name in schema.type_map:
            if not name.startswith("__"):
                yield which, name


@pytest.fixture(scope="session")
def published_schema(published: Path) -> PublishedSchema:
    """The published schema of the Connector or of the Director."""
    schemas = {which: build_schema((published / f"{which}-schema.graphql").read_text()) for which in OURS}
    return schemas.__getitem__


@pytest.fixture(params=our_types(), ids=".".join)
def pair(request: pytest.FixtureRequest, published_schema: PublishedSchema) -> Pair:
    """A type of ours and the published type of that name."""
    which, name = request.param
    published_types = published_schema(which).type_map
    assert name in published_types
    return OURS[which].type_map[name], published_types[name]


def arguments(given: dict[str, GraphQLArgument]) -> dict[str, tuple[str, object]]:
    return {
        name: (str(argument.type), None if argument.default_value is Undefined else argument.default_value)
        for name, argument in given.items()
    }


def test_every_type_of_ours_is_as_published(pair: Pair) -> None:
    """Same kind; each field with the same type and arguments; enums, unions and inputs alike in full."""
    ours, theirs = pair
    assert type(ours) is type(theirs)
    if isinstance(ours, GraphQLEnumType) and isinstance(theirs, GraphQLEnumType):
        assert set(ours.values) == set(theirs.values)
    elif isinstance(ours, GraphQLUnionType) and isinstance(theirs, GraphQLUnionType):
        assert {member.name for member in ours.types} == {member.name for member in theirs.types}
    elif isinstance(ours, GraphQLInputObjectType) and isinstance(theirs, GraphQLInputObjectType):
        assert {name: str(field.type) for name, field in ours.fields.items()} == {
            name: str(field.type) for name, field in theirs.fields.items()
        }
    elif isinstance(ours, GraphQLObjectType | GraphQLInterfaceType):
        assert isinstance(theirs, GraphQLObjectType | GraphQLInterfaceType)
        assert {kind.name for kind in ours.interfaces} == {kind.name for kind in theirs.interfaces}
        for name, field in ours.fields.items():
            assert name in theirs.fields
            assert str(field.type) == str(theirs.fields[name].type), name
            assert arguments(field.args) == arguments(theirs.fields[name].args), name


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_query_of_the_agent_is_valid(operation: Operation[Any], published_schema: PublishedSchema) -> None:
    api = "connector" if operation in CONNECTOR_OPERATIONS else "director"
    assert validate(published_schema(api), parse(operation.text)) == []
