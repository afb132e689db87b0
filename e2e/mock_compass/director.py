"""The Director: Runtimes, their labels, and the Applications assigned to them."""

import base64
import binascii
import datetime
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from graphql import GraphQLError

from e2e.mock_compass.executor import Executor, FieldError, Resolver
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
    24: "TenantRequired",
    25: "TenantNotFound",
    26: "Unauthorized",
    27: "InvalidOperation",
    31: "NotUniqueName",
}


def director_error(code: int, message: str) -> FieldError:
    return FieldError(message, {"error": ERROR_NAMES[code], "error_code": code})


def internal_error(reason: str | None = None) -> FieldError:
    """Code 10. The Director logs the cause under an id, new each time, and tells it only of errors it does not know."""
    told = f", reason: input: {reason}" if reason else ""
    return director_error(10, f"Internal Server Error [errorID={uuid.uuid4()}{told}]")


@dataclass(frozen=True)
class DirectorContext:
    """One request. `runtime` None: nobody the Director knows, so a caller without any scope."""

    state: State
    runtime: Runtime | None


def executor(disorder: Disorder) -> Executor:
    """`disorder`: of nested lists and of errors. The Applications of a Runtime come by id in any case."""
    resolvers: dict[str, Resolver] = {
        "Query.applicationsForRuntime": _scoped("application:read", _applications_for_runtime),
        "Query.applications": _scoped("application:read", _applications),
        "Query.application": _scoped("application:read", _application),
        "Query.runtime": _scoped("runtime:read", _runtime),
        "Query.viewer": _scoped("viewer:read", _viewer),
        "Mutation.setRuntimeLabel": _scoped("runtime:write", _set_runtime_label),
        "Mutation.deleteRuntimeLabel": _scoped("runtime:write", _delete_runtime_label),
        "Application.bundle": _one_of("bundles"),
        "Application.apiDefinition": _one_of_bundles("apiDefinitions"),
        "Application.eventDefinition": _one_of_bundles("eventDefinitions"),
        "Bundle.instanceAuth": _one_of("instanceAuths"),
        "Bundle.apiDefinition": _one_of("apiDefinitions"),
        "Bundle.eventDefinition": _one_of("eventDefinitions"),
        "Bundle.document": _one_of("documents"),
        "Runtime.runtimeContext": _one_of("runtimeContexts"),
    }
    for kind in ("Application", "Runtime"):
        resolvers[f"{kind}.labels"] = _labels
    for coordinate in (
        "Application.bundles",
        "Application.integrationDependencies",
        "Bundle.apiDefinitions",
        "Bundle.eventDefinitions",
        "Bundle.documents",
        "Runtime.runtimeContexts",
    ):
        resolvers[coordinate] = _nested_page(coordinate.partition(".")[2], disorder)
    return Executor(DIRECTOR_SCHEMA, resolvers, present=_present, order=disorder.shuffled)


def _present(error: GraphQLError, _code: str) -> dict[str, Any]:
    """What is wrong with a request is an internal error, too, to the Director."""
    internal = internal_error(error.message)
    return {"message": internal.message, "extensions": internal.extensions}


# --- root fields ---


def _scoped(scope: str, resolve: Callable[[dict[str, Any], State, Runtime], Any]) -> Resolver:
    def checked(_source: Any, arguments: dict[str, Any], context: DirectorContext) -> Any:
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


def _applications(arguments: dict[str, Any], state: State, caller: Runtime) -> dict[str, Any]:
    found = state.applications_of(caller.id)
    for wanted in arguments.get("filter") or ():
        if wanted.get("query"):
            raise director_error(22, "Invalid data [reason=the mock filters by label key only]")
        found = [record for record in found if wanted["key"] in record["labels"]]
    first = _first(arguments)
    if not 1 <= first <= MAX_NESTED_PAGE:
        raise director_error(22, f"Invalid data [reason=page size must be between 1 and {MAX_NESTED_PAGE}]")
    return _page(found, first, arguments.get("after"))


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
    if runtime is None:
        return None
    return {
        "id": runtime.id,
        "name": runtime.name,
        "description": None,
        "metadata": {"creationTimestamp": _timestamp(runtime.created)},
        "status": {"condition": runtime.status, "timestamp": _timestamp(runtime.status_since)},
        "labels": runtime.labels,
        "auths": [
            {
                "id": client_id,
                "auth": None,
                "type": "RUNTIME",
                "tenantId": runtime.tenant,
                "referenceObjectId": runtime.id,
            }
            for client_id in state.clients_of(runtime.id)
        ],
        "applicationNamespace": None,
        "eventingConfiguration": None,
        "runtimeContexts": [],
        "webhooks": None,
    }


def _viewer(_arguments: dict[str, Any], _state: State, caller: Runtime) -> dict[str, Any]:
    return {"id": caller.id, "type": "RUNTIME"}


def _set_runtime_label(arguments: dict[str, Any], state: State, caller: Runtime) -> dict[str, Any]:
    """Any Runtime of the tenant may be labelled, not only the caller."""
    key, value = arguments["key"], arguments["value"]
    if value == "":
        raise director_error(22, "Invalid data LabelInput [value=cannot be blank]")
    state.set_runtime_label(_labelled("setRuntimeLabel", arguments, state, caller), key, value)
    return {"key": key, "value": value}


def _delete_runtime_label(arguments: dict[str, Any], state: State, caller: Runtime) -> dict[str, Any]:
    runtime_id = _labelled("deleteRuntimeLabel", arguments, state, caller)
    return {"key": arguments["key"], "value": state.delete_runtime_label(runtime_id, arguments["key"])}


def _labelled(mutation: str, arguments: dict[str, Any], state: State, caller: Runtime) -> str:
    runtime_id = _uuid(arguments["runtimeID"])
    if _of_same_tenant(runtime_id, state, caller) is None:
        raise internal_error(f"{mutation} runtime with ID {runtime_id} doesn't exist")
    return runtime_id


def _of_same_tenant(runtime_id: str, state: State, caller: Runtime) -> Runtime | None:
    runtime = state.runtime(runtime_id)
    return runtime if runtime is not None and runtime.tenant == caller.tenant else None


def _uuid(text: str) -> str:
    try:
        uuid.UUID(text)
    except ValueError as error:
        raise internal_error() from error
    return text


def _timestamp(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- fields of objects ---


def _labels(source: Any, arguments: dict[str, Any], _context: Any) -> dict[str, Any] | None:
    labels: dict[str, Any] = source["labels"]
    key = arguments.get("key")
    if key is None:
        return labels
    return {key: labels[key]} if key in labels else None


def _one_of(name: str) -> Resolver:
    def resolve(source: Any, arguments: dict[str, Any], _context: Any) -> Any:
        return next((item for item in _visible(source[name] or []) if item["id"] == arguments["id"]), None)

    return resolve


def _one_of_bundles(name: str) -> Resolver:
    one_of = _one_of(name)

    def resolve(source: Any, arguments: dict[str, Any], context: Any) -> Any:
        found = (one_of(bundle, arguments, context) for bundle in source["bundles"])
        return next((item for item in found if item is not None), None)

    return resolve


def _nested_page(name: str, disorder: Disorder) -> Resolver:
    """By offset over an order that is another one each time: pages may overlap, and miss entries."""

    def resolve(source: Any, arguments: dict[str, Any], _context: Any) -> dict[str, Any]:
        first = _first(arguments)
        if not 1 <= first <= MAX_NESTED_PAGE:
            raise director_error(22, f"Invalid data [reason=page size must be between 1 and {MAX_NESTED_PAGE}]")
        items = _visible(source[name])
        if (group := arguments.get("group")) is not None:
            items = [item for item in items if item["group"] == group]
        return _page(disorder.shuffled(items), first, arguments.get("after"))

    return resolve


def _visible(items: list[Any]) -> list[Any]:
    """Runtimes see public APIs only."""
    return [item for item in items if item.get("visibility", "public") == "public"]


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
