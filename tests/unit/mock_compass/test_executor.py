"""The fast executor answers what the executor of graphql-core answers."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from graphql import GraphQLObjectType, GraphQLSchema, build_schema, execute_sync, parse
from hypothesis import given, settings
from hypothesis import strategies as st

from e2e.mock_compass.executor import Executor, FieldError, Resolver

SDL = """
type Query { thing: Thing  sure: Thing!  things: [Thing!]  shapes: [Shape!] named: [Named!] }
type Thing { id: ID!  name(fail: Boolean): String  sure(fail: Boolean): String!  child: Thing  tags: [String!] }
interface Named { name: String }
union Shape = Circle | Square
type Circle implements Named { name: String radius: Int }
type Square implements Named { name: String side: Int }
"""
LEAF = {"id": "2", "child": None, "tags": None}
THING = {"id": "1", "child": {"id": "3", "child": LEAF, "tags": []}, "tags": ["a", "b"]}
SHAPES = [{"__typename": "Circle", "name": "c", "radius": 3}, {"__typename": "Square", "name": "s", "side": 4}]


def _text(value: str) -> Resolver:
    def resolve(_source: Any, arguments: dict[str, Any], _context: Any) -> str:
        if arguments.get("fail"):
            raise FieldError(f"{value} failed", {"code": 1})
        return value

    return resolve


def _always(value: Any) -> Resolver:
    return lambda _source, _arguments, _context: value


RESOLVERS: Mapping[str, Resolver] = {
    "Query.thing": _always(THING),
    "Query.sure": _always(THING),
    "Query.things": _always([THING, LEAF]),
    "Query.shapes": _always(SHAPES),
    "Query.named": _always(SHAPES),
    "Thing.name": _text("name"),
    "Thing.sure": _text("sure"),
}
EXECUTOR = Executor(build_schema(SDL), RESOLVERS)


def _field_resolver(name: str, resolver: Resolver | None) -> Any:
    if resolver is None:
        return lambda source, _info, **_arguments: source[name]
    return lambda source, _info, **arguments: resolver(source, arguments, None)


def _reference() -> GraphQLSchema:
    """The same schema and resolvers for graphql-core."""
    schema = build_schema(SDL)
    for kind in schema.type_map.values():
        if isinstance(kind, GraphQLObjectType) and not kind.name.startswith("__"):
            for name, field in kind.fields.items():
                field.resolve = _field_resolver(name, RESOLVERS.get(f"{kind.name}.{name}"))
    return schema


REFERENCE = _reference()


def ours(query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
    return EXECUTOR.prepare(orjson.dumps({"query": query, "variables": variables})).run(None, ())


def theirs(query: str, variables: dict[str, Any]) -> dict[str, Any]:
    result = execute_sync(
        REFERENCE, parse(query), variable_values=variables, type_resolver=lambda value, *_rest: value["__typename"]
    )
    answer: dict[str, Any] = {"data": result.data}
    if result.errors:
        answer["errors"] = [{"message": error.message, "path": error.path} for error in result.errors]
    return answer


# Each response key stands for one field, or a document would not validate.
_fields = st.lists(
    st.sampled_from(
        [
            "id",
            "name",
            "tags",
            "n: name(fail: false)",
            "bad: name(fail: true)",
            "name2: name(fail: $yes)",
            "s: sure",
            "__typename",
            "x: id @skip(if: $yes)",
            "y: id @include(if: $yes)",
            "...F",
            "... { id tags }",
            "... on Thing @include(if: $yes) { z: name }",
        ]
    ),
    min_size=1,
    max_size=6,
).map(" ".join)
_selections = st.recursive(
    _fields,
    lambda inner: st.tuples(_fields, inner).map(lambda pair: f"{pair[0]} child {{ {pair[1]} }} child {{ id }}"),
    max_leaves=3,
)


@settings(max_examples=150, deadline=None)
@given(selection=_selections, root=st.sampled_from(["thing", "sure", "things"]), yes=st.booleans())
def test_any_selection_answers_as_graphql_core_does(selection: str, root: str, yes: bool) -> None:
    """Aliases, fragments, directives, lists, failing nullable fields with their paths."""
    query = (
        f"query ($yes: Boolean = true) {{ {root} {{ {selection} }} again: thing {{ ...F name2: name(fail: $yes) }} }}"
    )
    query += " fragment F on Thing { id f: name }"
    answer, expected = ours(query, {"yes": yes}), theirs(query, {"yes": yes})
    assert answer["data"] == expected["data"]
    assert sorted((error["message"], str(error["path"])) for error in answer.get("errors", ())) == sorted(
        (error["message"], str(error["path"])) for error in expected.get("errors", ())
    )


@pytest.mark.parametrize(
    "query",
    [
        "{ thing { id sure(fail: true) } }",
        "{ sure { id sure(fail: true) } }",
        "{ things { id sure(fail: true) } }",
        "{ thing { id child { id sure(fail: true) } } }",
        "{ shapes { __typename ... on Circle { radius } ... on Square { side } ... on Named { name } } }",
        "{ named { name ... on Circle { radius } } }",
    ],
)
def test_nulls_spread_and_abstract_types_resolve_as_in_graphql_core(query: str) -> None:
    """A failing non-null field makes its nearest nullable parent null."""
    answer, expected = ours(query), theirs(query, {})
    assert answer["data"] == expected["data"]
    assert bool(answer.get("errors")) == bool(expected.get("errors"))
