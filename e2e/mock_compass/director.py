"""The Director: Runtimes, their labels, and the Applications assigned to them."""

import base64
import binascii
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from graphql import GraphQLError

from e2e.mock_compass.executor import Resolver, Service
from e2e.mock_compass.faults import Disorder
from e2e.mock_compass.records import DIRECTOR_SCHEMA
from e2e.mock_compass.state import Runtime, State, UnknownError

MAX_NESTED_PAGE = 200
_CURSOR_SALT = "DpKtJ4j9jDq"
_CURSOR = re.compile(_CURSOR_SALT + "([0-9]{1,18})")

ERROR_NAMES = {
    10: "InternalError",
    20: "NotFound",
    22: "InvalidData",
    23: "InsufficientScopes",
    25: "TenantNotFound",
    27: "InvalidOperation",
}


def director_error(code: int, message: str) -> GraphQLError:
    return GraphQLError(message, extensions={"error": ERROR_NAMES[code], "error_code": code})


def internal_error(reason: str | None = None) -> GraphQLError:
    """Code 10. The Director logs the cause under a new id, and shows it only for errors it does not know."""
    detail = f", reason: input: {reason}" if reason else ""
    return director_error(10, f"Internal Server Error [errorID={uuid.uuid4()}{detail}]")


@dataclass(frozen=True, kw_only=True)
class DirectorContext:
    """One request. `runtime` None: a caller that the Director does not know, so without any scope.

    `disorder`: of nested lists. The Applications of a Runtime come by id in any case.
    """

    state: State
    runtime: Runtime | None
    disorder: Disorder


def _present(error: GraphQLError, _code: str) -> dict[str, Any]:
    """What is wrong with a request is an internal error, too, to the Director."""
    return dict(internal_error(error.message).formatted)


# --- root fields ---


def _scoped(scope: str, resolve: Callable[[dict[str, Any], State, Runtime], Any]) -> Resolver:
    def checked(_source: Any, context: DirectorContext, **arguments: Any) -> Any:
        if context.runtime is None:
            raise director_error(23, f"insufficient scopes provided [actual=; required={scope}]")
        try:
            return resolve(arguments, context.state, context.runtime)
        except UnknownError as error:  # the Runtime was unregistered meanwhile, or a label is not there
            raise director_error(20, "Object not found") from error

    return checked


def _applications_for_runtime(arguments: dict[str, Any], state: State, caller: Runtime) -> dict[str, Any]:
    runtime_id = _uuid(arguments["runtimeID"])
    runtime = _of_same_tenant(runtime_id, state, caller)
    if runtime is None:
        raise director_error(22, "Invalid data [reason=runtime does not exist]")
    first = _first(arguments)
    if first < 1:
        raise director_error(22, "Invalid data [reason=page size cannot be smaller than 1]")
    page = _page(state.applications_of(runtime_id), first, arguments.get("after"))
    if runtime.labels.get("isNormalized", "true") == "true":
        page["data"] = [{**record, "name": _director_name(record)} for record in page["data"]]
    return page


def _application(arguments: dict[str, Any], state: State, caller: Runtime) -> dict[str, Any]:
    """With its raw name, unlike applicationsForRuntime."""
    record = state.application(arguments["id"])
    if record is None or not state.is_assigned(record["id"], caller.id):
        raise director_error(
            27,
            "The operation is not allowed [reason=requesting runtime should be in same scenario as the requested "
            "application resource]",
        )
    return record


def _runtime(arguments: dict[str, Any], state: State, caller: Runtime) -> dict[str, Any] | None:
    runtime = _of_same_tenant(_uuid(arguments["id"]), state, caller)
    return None if runtime is None else {"id": runtime.id, "labels": runtime.labels}


def _viewer(_arguments: dict[str, Any], _state: State, caller: Runtime) -> dict[str, Any]:
    return {"id": caller.id, "type": "RUNTIME"}


def _set_runtime_label(arguments: dict[str, Any], state: State, caller: Runtime) -> dict[str, Any]:
    """Any Runtime of the tenant may be labelled, not only the caller."""
    key, value = arguments["key"], arguments["value"]
    if value == "":
        raise director_error(22, "Invalid data LabelInput [value=cannot be blank]")
    runtime_id = _uuid(arguments["runtimeID"])
    if _of_same_tenant(runtime_id, state, caller) is None:
        raise internal_error(f"setRuntimeLabel runtime with ID {runtime_id} doesn't exist")
    state.set_runtime_label(runtime_id, key, value)
    return {"key": key, "value": value}


def _of_same_tenant(runtime_id: str, state: State, caller: Runtime) -> Runtime | None:
    runtime = state.runtime(runtime_id)
    return runtime if runtime is not None and runtime.tenant == caller.tenant else None


def _uuid(text: str) -> str:
    try:
        uuid.UUID(text)
    except ValueError as error:
        raise internal_error() from error
    return text


# --- fields of objects ---


def _labels(source: Any, _context: DirectorContext, key: str | None = None) -> dict[str, Any] | None:
    labels: dict[str, Any] = source["labels"]
    if key is None:
        return labels
    return {key: labels[key]} if key in labels else None


def _bundle(application: Any, _context: DirectorContext, id: str) -> Any:  # noqa: A002 - the name of the argument
    return next((bundle for bundle in application["bundles"] if bundle["id"] == id), None)


def _nested_page(name: str) -> Resolver:
    """By offset over an order that is another one each time: pages may overlap, and miss entries."""

    def resolve(source: Any, context: DirectorContext, **arguments: Any) -> dict[str, Any]:
        first = _first(arguments)
        if not 1 <= first <= MAX_NESTED_PAGE:
            raise director_error(22, f"Invalid data [reason=page size must be between 1 and {MAX_NESTED_PAGE}]")
        items = source[name]
        if (group := arguments.get("group")) is not None:
            items = [item for item in items if item["group"] == group]
        return _page(context.disorder.shuffled(items), first, arguments.get("after"))

    return resolve


# --- paging ---


def cursor(offset: int) -> str:
    return base64.b64encode(f"{_CURSOR_SALT}{offset}".encode()).decode()


def _offset(after: Any) -> int:
    if after in (None, ""):
        return 0
    try:
        text = base64.b64decode(after, validate=True).decode()
    except (TypeError, ValueError, binascii.Error) as error:
        raise internal_error("cursor is not correct: illegal base64 data") from error
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise internal_error("cursor is not correct")
    return int(found[1])


def _first(arguments: dict[str, Any]) -> int:
    first: int | None = arguments.get("first")
    if first is None:
        raise director_error(22, "Invalid data [reason=missing required parameter 'first']")
    return first


def _page(items: list[Any], first: int, after: Any) -> dict[str, Any]:
    """A page by offset: what is added or taken away before it shifts it."""
    offset = _offset(after)
    end = offset + first
    more = end < len(items)
    return {
        "data": items[offset:end],
        "pageInfo": {
            "startCursor": after or "",
            "endCursor": cursor(end) if more else "",
            "hasNextPage": more,
        },
        "totalCount": len(items),
    }


# --- names ---


def _director_name(record: dict[str, Any]) -> str:
    name = normalised(record["name"])
    return f"{name}-{record['systemNumber']}" if record["systemNumber"] else name


@lru_cache(maxsize=65536)
def normalised(name: str) -> str:
    """The name as the Director gives it to Runtimes that count on it; lower-casing is by code point."""
    if name.startswith("mp-") and _dashed(name) == name:
        return name
    return _dashed(f"mp-{name}")


def _dashed(name: str) -> str:
    lowered = "".join(character.lower()[0] for character in name)
    return re.sub(r"[^a-z0-9]+", "-", lowered).removesuffix("-")


SERVICE = Service(
    DIRECTOR_SCHEMA,
    {
        "Query.applicationsForRuntime": _scoped("application:read", _applications_for_runtime),
        "Query.application": _scoped("application:read", _application),
        "Query.runtime": _scoped("runtime:read", _runtime),
        "Query.viewer": _scoped("viewer:read", _viewer),
        "Mutation.setRuntimeLabel": _scoped("runtime:write", _set_runtime_label),
        "Application.labels": _labels,
        "Runtime.labels": _labels,
        "Application.bundle": _bundle,
        "Application.bundles": _nested_page("bundles"),
        "Bundle.apiDefinitions": _nested_page("apiDefinitions"),
        "Bundle.eventDefinitions": _nested_page("eventDefinitions"),
    },
    present=_present,
)
