"""The operations as texts."""

from typing import Any

import pytest
from graphql import OperationDefinitionNode, parse, validate

from controller.compass import queries
from e2e.mock_compass.records import CONNECTOR_SCHEMA, DIRECTOR_SCHEMA

SCHEMAS = {"connector": CONNECTOR_SCHEMA, "director": DIRECTOR_SCHEMA}


def test_every_operation_is_listed_once() -> None:
    """What is not in OPERATIONS is not validated anywhere."""
    defined = [value for value in vars(queries).values() if isinstance(value, queries.Operation)]
    assert sorted(map(id, defined)) == sorted(map(id, queries.OPERATIONS))


@pytest.mark.parametrize(
    "operation", queries.OPERATIONS, ids=lambda operation: operation.text.split("(")[0].split("{")[0]
)
def test_an_operation_is_valid(operation: queries.Operation[Any]) -> None:
    """Fields, arguments and types of variables, by the schema of the API that it is for."""
    document = parse(operation.text)
    assert validate(SCHEMAS[operation.schema], document) == []
    assert [type(node) for node in document.definitions] == [OperationDefinitionNode]


@pytest.mark.parametrize("which", SCHEMAS)
def test_the_check_finds_an_unknown_field(which: str) -> None:
    (error,) = validate(SCHEMAS[which], parse("{ nonsense }"))
    assert "nonsense" in error.message
