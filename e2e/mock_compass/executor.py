"""Answers GraphQL requests over plain records.

graphql-core parses, validates and coerces variables. Its executor is not used: it takes several times as long for a
large page, and the mock shares its cores with what it tests.

A record is a dict that holds, under each GraphQL field name, the value in its JSON form. An object of a union or an
interface names its type under `__typename`. Fields that are computed have a resolver; all others are read.

A resolver raises GraphQLError where a field cannot be answered.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLError,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    get_argument_values,
    get_named_type,
    get_operation_ast,
    get_variable_values,
    is_abstract_type,
    is_non_null_type,
    parse,
    validate,
)

from e2e.mock_compass.faults import Fault

_Path = tuple[Any, str | int] | None

Resolver = Callable[..., Any]
"""(source record, what is known of the request, the arguments by name) -> value"""

Present = Callable[[GraphQLError, str], dict[str, Any]]
"""(error, code of the library) -> entry of `errors`"""

_INVALID = "GRAPHQL_VALIDATION_FAILED"


class RequestError(Exception):
    """The request is no operation of this schema. `status` is the HTTP status, `errors` the GraphQL errors."""

    def __init__(self, status: int, errors: list[dict[str, Any]]) -> None:
        super().__init__(errors[0]["message"])
        self.status = status
        self.errors = errors


@dataclass(frozen=True)
class Operation:
    """A valid document with one operation. `values`: of its variables, as graphql-core coerces them."""

    service: "Service"
    node: OperationDefinitionNode
    values: Any
    root_fields: tuple[str, ...]

    @property
    def name(self) -> str | None:
        return self.node.name.value if self.node.name else None

    def run(self, context: Any, overrides: tuple[Fault, ...] = ()) -> dict[str, Any]:
        """The answer: `{"data": ...}`, with `errors` before it when there are any.

        `context`: for the resolvers; `overrides`: faults that replace what a field answers.
        """
        run = _Run(self, context, overrides)
        root = self.service.schema.get_root_type(self.node.operation)
        assert root is not None
        try:
            data = run.select(root, self.node.selection_set, {"__typename": root.name}, None)
        except _NullParent:
            data = None
        return {"errors": run.errors, "data": data} if run.errors else {"data": data}


class _NullParent(Exception):
    """A non-null field has no value: its parent becomes null."""


@dataclass(frozen=True)
class _Field:
    """One field of a selection, for one type. `plain`: the value is that of the record."""

    key: str
    name: str
    coordinate: str
    kind: GraphQLNamedType
    non_null: bool
    selection: SelectionSetNode | None
    resolver: Resolver | None
    arguments: dict[str, Any]
    plain: bool


class _Run:
    """Runs one operation. What a selection means for a type is looked up once, because a page repeats it a lot.

    All fields beside one that fails are still run, as in the real server.
    """

    def __init__(self, operation: Operation, context: Any, overrides: tuple[Fault, ...]) -> None:
        self._operation = operation
        self._context = context
        self._overrides = overrides
        self._fields: dict[tuple[str, int], list[_Field]] = {}
        self.errors: list[dict[str, Any]] = []

    def select(self, kind: GraphQLObjectType, selection: SelectionSetNode, source: Any, path: _Path) -> dict[str, Any]:
        known = (kind.name, id(selection))
        if known not in self._fields:
            self._fields[known] = list(self._look_up(kind, selection))
        answer, null_parent = {}, False
        for field in self._fields[known]:
            if field.plain:
                answer[field.key] = source[field.name]
                continue
            try:
                answer[field.key] = self._answer(field, source, (path, field.key))
            except _NullParent:
                null_parent = True
        if null_parent:
            raise _NullParent
        return answer

    def _look_up(self, kind: GraphQLObjectType, selection: SelectionSetNode) -> Iterator[_Field]:
        service = self._operation.service
        for node in selection.selections:
            if isinstance(node, InlineFragmentNode):
                if node.type_condition is None or node.type_condition.name.value == kind.name:
                    yield from self._look_up(kind, node.selection_set)
                continue
            assert isinstance(node, FieldNode), "the mock knows no named fragments"
            name, coordinate = node.name.value, f"{kind.name}.{node.name.value}"
            definition = service.schema.get_field(kind, name)
            assert definition is not None
            resolver = service.resolvers.get(coordinate)
            overridden = any(fault.field == coordinate for fault in self._overrides)
            yield _Field(
                key=node.alias.value if node.alias else name,
                name=name,
                coordinate=coordinate,
                kind=get_named_type(definition.type),
                non_null=is_non_null_type(definition.type),
                selection=node.selection_set,
                resolver=resolver,
                arguments=get_argument_values(definition, node, self._operation.values) if definition.args else {},
                plain=not (resolver or overridden or node.selection_set),
            )

    def _answer(self, field: _Field, source: Any, path: _Path) -> Any:
        try:
            for fault in self._overrides:
                if fault.field == field.coordinate and fault.object_id in (None, source.get("id")):
                    return fault.value
            resolver = field.resolver
            value = source[field.name] if resolver is None else resolver(source, self._context, **field.arguments)
            if value is not None:
                return self._complete(field.kind, field.selection, value, path)
        except GraphQLError as error:
            self.errors.append(_located(error, path))
        except _NullParent:
            pass
        if field.non_null:
            raise _NullParent
        return None

    def _complete(self, kind: GraphQLNamedType, selection: SelectionSetNode | None, value: Any, path: _Path) -> Any:
        if selection is None:
            return value
        if isinstance(value, list):
            return [self._complete(kind, selection, item, (path, index)) for index, item in enumerate(value)]
        if is_abstract_type(kind):
            kind = self._operation.service.schema.type_map[value["__typename"]]
        assert isinstance(kind, GraphQLObjectType)
        return self.select(kind, selection, value, path)


class Service:
    """A schema and its resolvers, by `Type.field`. Turns the body of a request into an Operation.

    `present`: what an answer says of an error of syntax, schema or variables.
    """

    def __init__(
        self, schema: GraphQLSchema, resolvers: Mapping[str, Resolver], *, present: Present | None = None
    ) -> None:
        self.schema = schema
        self.resolvers = resolvers
        self._present = present or _as_gqlgen

    def prepare(self, body: bytes) -> Operation:
        """The operation in an HTTP body `{"query", "variables"?}`; raises RequestError."""
        try:
            request = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise RequestError(400, [{"message": f"json body could not be decoded: {error}"}]) from error
        if not isinstance(request, dict) or not isinstance(request.get("query"), str):
            raise self.refused(_INVALID, [GraphQLError("no operation provided")])
        document = _document(self.schema, request["query"])
        if isinstance(document, _Mistakes):
            raise self.refused(document.code, document.errors)
        node = get_operation_ast(document)
        if node is None:
            raise self.refused(_INVALID, [GraphQLError("not one operation")])
        values = get_variable_values(self.schema, node.variable_definitions or (), request.get("variables") or {})
        if isinstance(values, list):
            raise self.refused(_INVALID, values)
        fields = (field for field in node.selection_set.selections if isinstance(field, FieldNode))
        return Operation(self, node, values, tuple(field.name.value for field in fields))

    def refused(self, code: str, errors: list[GraphQLError]) -> RequestError:
        return RequestError(422, [self._present(error, code) for error in errors])


@dataclass(frozen=True)
class _Mistakes:
    code: str
    errors: list[GraphQLError]


@lru_cache(maxsize=256)
def _document(schema: GraphQLSchema, text: str) -> DocumentNode | _Mistakes:
    """Parsed and valid. Kept, because a client sends the same few texts over and over, and each costs 10 ms."""
    try:
        document = parse(text)
    except GraphQLError as error:
        return _Mistakes("GRAPHQL_PARSE_FAILED", [error])
    errors = validate(schema, document)
    return _Mistakes(_INVALID, errors) if errors else document


def _located(error: GraphQLError, path: _Path) -> dict[str, Any]:
    keys: list[str | int] = []
    while path is not None:
        path, key = path
        keys.append(key)
    entry: dict[str, Any] = {"message": error.message, "path": keys[::-1]}
    return entry | {"extensions": error.extensions} if error.extensions else entry


def _as_gqlgen(error: GraphQLError, code: str) -> dict[str, Any]:
    return {**error.formatted, "extensions": {"code": code}}
