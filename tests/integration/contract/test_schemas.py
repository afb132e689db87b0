"""The mock's schemas agree with the published ones, and the agent's queries with both."""

from collections.abc import Iterator

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
)

from controller.compass.queries import OPERATIONS, Operation
from tests.integration.contract.schemas import MOCK, PUBLISHED, Which, published_schema, validate_agent_query

BEYOND_A_RUNTIME = {
    # needs a scope that no Runtime has
    "Application.applicationTemplate",
}


def mock_types() -> Iterator[tuple[Which, GraphQLNamedType]]:
    for which, schema in MOCK.items():
        for name, kind in schema.type_map.items():
            if not name.startswith("__"):
                yield which, kind


@pytest.fixture(params=mock_types(), ids=lambda case: f"{case[0]}.{case[1].name}")
def pair(request: pytest.FixtureRequest) -> tuple[GraphQLNamedType, GraphQLNamedType | None]:
    """A type of the mock and the published type of that name."""
    which, kind = request.param
    published = published_schema(which)
    if published is None:
        pytest.skip(f"the published schemas are not at {PUBLISHED}")
    return kind, published.type_map.get(kind.name)


def arguments(given: dict[str, GraphQLArgument]) -> dict[str, tuple[str, object]]:
    return {
        name: (str(argument.type), None if argument.default_value is Undefined else argument.default_value)
        for name, argument in given.items()
    }


def test_every_type_of_the_mock_is_as_published(pair: tuple[GraphQLNamedType, GraphQLNamedType | None]) -> None:
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


def test_every_published_field_that_a_runtime_may_read_is_in_the_mock(
    pair: tuple[GraphQLNamedType, GraphQLNamedType | None],
) -> None:
    """So the mock accepts what the real one accepts; only the root types are a selection."""
    ours, theirs = pair
    if ours.name in ("Query", "Mutation") or not isinstance(ours, GraphQLObjectType | GraphQLInterfaceType):
        return
    assert isinstance(theirs, GraphQLObjectType | GraphQLInterfaceType)
    missing = {f"{ours.name}.{name}" for name in theirs.fields.keys() - ours.fields.keys()}
    assert missing <= BEYOND_A_RUNTIME


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: f"{operation.schema}-{operation.name}")
def test_every_query_of_the_agent_is_valid(operation: Operation) -> None:
    """For the mock always; for the published schema where it is at hand."""
    assert validate_agent_query(operation.text, operation.schema) == []


@pytest.mark.parametrize("which", list(MOCK))
def test_the_check_itself_finds_mistakes(which: Which) -> None:
    """An unknown field is reported by each schema that is there."""
    schemas: list[GraphQLSchema | None] = [MOCK[which], published_schema(which)]
    found = validate_agent_query("{ nonsense }", which)
    assert len(found) == sum(schema is not None for schema in schemas)
