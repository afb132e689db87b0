"""The operations as texts."""

from pathlib import Path

import pytest
from graphql import GraphQLSchema, OperationDefinitionNode, build_schema, parse, validate

from controller.compass import queries

#: The schemas of the real Connector and Director; beside the project on the machines where it is developed.
SCHEMAS = Path(__file__).parents[4] / "shared" / "data"


def test_every_operation_is_listed_once() -> None:
    """What is not in OPERATIONS is not validated anywhere."""
    defined = [value for value in vars(queries).values() if isinstance(value, queries.Operation)]
    assert sorted(map(id, defined)) == sorted(map(id, queries.OPERATIONS))


@pytest.mark.parametrize(
    "operation", queries.OPERATIONS, ids=lambda operation: operation.text.split("(")[0].split("{")[0]
)
def test_an_operation_is_valid_against_the_real_schema(operation: queries.Operation) -> None:
    """Fields, arguments and types of variables."""
    path = SCHEMAS / f"{operation.schema}-schema.graphql"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    schema: GraphQLSchema = build_schema(path.read_text())
    document = parse(operation.text)
    assert validate(schema, document) == []
    assert [type(node) for node in document.definitions] == [OperationDefinitionNode]
