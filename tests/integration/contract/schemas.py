"""The published schemas of Compass, where they lie beside the project, and the check of a query against them."""

from functools import cache
from pathlib import Path
from typing import Literal

from graphql import GraphQLSchema, build_schema, parse, validate

from e2e.mock_compass.records import CONNECTOR_SCHEMA, DIRECTOR_SCHEMA

Which = Literal["connector", "director"]

PUBLISHED = Path(__file__).resolve().parents[4] / "shared" / "data"
MOCK: dict[Which, GraphQLSchema] = {"connector": CONNECTOR_SCHEMA, "director": DIRECTOR_SCHEMA}


@cache
def published_schema(which: Which) -> GraphQLSchema | None:
    """None where the published schemas are not at hand."""
    path = PUBLISHED / f"{which}-schema.graphql"
    return build_schema(path.read_text(encoding="utf-8")) if path.exists() else None


def validate_agent_query(text: str, which: Which) -> list[str]:
    """What is wrong with a query: for the mock's schema, and for the published one where it is at hand."""
    document = parse(text)
    found = [f"mock: {error.message}" for error in validate(MOCK[which], document)]
    published = published_schema(which)
    if published is not None:
        found += [f"published: {error.message}" for error in validate(published, document)]
    return found
