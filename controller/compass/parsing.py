"""Converts JSON of the Director to `controller.compass.types`, and checks every field.

Raises InvalidAnswer with the path from the application inwards ("bundles.data[<id>].apiDefinitions.data[<id>].name").
It names items by id, because their positions change with each answer. If there are several errors, the same one is
raised for any order of the items.
"""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from controller.compass.errors import InvalidAnswer
from controller.compass.foreign_text import one_line
from controller.compass.types import (
    ApiDefinition,
    BasicCredentials,
    Bundle,
    Credentials,
    EventDefinition,
    OAuthCredentials,
    Parameters,
    UnsupportedCredentials,
)
from controller.compass.values import (
    filled_text,
    label,
    objects,
    optional_object,
    optional_text,
    sorted_by_id,
    text,
    wrong,
)

T = TypeVar("T")
R = TypeVar("R")

Object = dict[str, Any]


class Page(NamedTuple, Generic[R]):
    """One page of a list with unparsed items. `cursor` is for the next page; None on the last page."""

    items: list[R]
    total: int
    cursor: str | None


#: Characters of a GraphQL type's name that are kept, for a warning.
_MAX_KIND = 60


def page(holder: Object, field: str) -> Page[Object]:
    """A page. null is an empty page."""
    return page_of(holder, field, objects)


def page_of(holder: Object, field: str, items: Callable[[Object, str], list[R]]) -> Page[R]:
    """A page whose items are returned by `items`."""
    value = holder.get(field)
    if value is None:
        return Page([], 0, None)
    if not isinstance(value, dict):
        raise wrong(field, "an object", value)
    try:
        return _page(value, items(value, "data"))
    except InvalidAnswer as error:
        error.prepend(field)
        raise


def _page(value: Object, items: list[R]) -> Page[R]:
    total = value.get("totalCount")
    info = value.get("pageInfo")
    if type(total) is not int:
        raise wrong("totalCount", "a number", total)
    if not isinstance(info, dict):
        raise wrong("pageInfo", "an object", info)
    more = info.get("hasNextPage")
    if not isinstance(more, bool):
        raise wrong("pageInfo.hasNextPage", "a boolean", more)
    cursor = info.get("endCursor")
    if more and not (isinstance(cursor, str) and cursor):
        raise InvalidAnswer("is missing although there is a next page", path="pageInfo.endCursor")
    return Page(items, total, cursor if more else None)


def each(items: list[dict[str, Any]], field: str, parse: Callable[[dict[str, Any]], T]) -> list[T]:
    """Parse every item of a page's data."""
    parsed: list[T] = []
    for item in sorted_by_id(items):
        try:
            parsed.append(parse(item))
        except InvalidAnswer as error:
            error.prepend(f"{field}.data[{label(item)}]")
            raise
    return parsed


def api(item: dict[str, Any]) -> ApiDefinition:
    return ApiDefinition(filled_text(item, "id"), text(item, "name"), text(item, "targetURL"))


def event(item: dict[str, Any]) -> EventDefinition:
    return EventDefinition(filled_text(item, "id"), text(item, "name"))


def bundle(item: dict[str, Any], apis: tuple[ApiDefinition, ...], events: tuple[EventDefinition, ...]) -> Bundle:
    """A bundle with these APIs and events, which may come from several pages."""
    credentials, csrf_token_url, headers, query_params = _auth(item)
    return Bundle(
        id=filled_text(item, "id"),
        name=text(item, "name"),
        description=optional_text(item, "description"),
        auth_request_schema=optional_text(item, "instanceAuthRequestInputSchema"),
        apis=apis,
        events=events,
        credentials=credentials,
        csrf_token_url=csrf_token_url,
        headers=headers,
        query_params=query_params,
    )


def auth_ids(item: dict[str, Any]) -> tuple[str, ...]:
    try:
        return tuple(filled_text(auth, "id") for auth in sorted_by_id(objects(item, "auths")))
    except InvalidAnswer as error:
        if error.path == "id":
            error.prepend("auths[?]")
        raise


def _auth(item: dict[str, Any]) -> tuple[Credentials | None, str | None, Parameters | None, Parameters | None]:
    """Credentials, token address for CSRF, headers and query parameters of the bundle's default authentication."""
    auth = optional_object(item, "defaultInstanceAuth")
    if auth is None:
        return None, None, None, None
    try:
        return (
            _credentials(auth),
            _csrf_token_url(auth),
            _parameters(auth, "additionalHeaders"),
            _parameters(auth, "additionalQueryParams"),
        )
    except InvalidAnswer as error:
        error.prepend("defaultInstanceAuth")
        raise


def _credentials(auth: dict[str, Any]) -> Credentials | None:
    credential = optional_object(auth, "credential")
    if credential is None:
        return credentials_of(optional_text(auth, "accessStrategy"))
    try:
        kind = filled_text(credential, "__typename")
        if kind == "BasicCredentialData":
            return BasicCredentials(text(credential, "username"), text(credential, "password"))
        if kind == "OAuthCredentialData":
            return OAuthCredentials(
                text(credential, "clientId"), text(credential, "clientSecret"), text(credential, "url")
            )
    except InvalidAnswer as error:
        error.prepend("credential")
        raise
    return UnsupportedCredentials(one_line(kind, _MAX_KIND))


def credentials_of(strategy: str | None) -> UnsupportedCredentials | None:
    """The credentials that an access strategy means if there is no credential."""
    # "open" is an API that anybody may call. Others name a way to sign in that is agreed on elsewhere.
    if not strategy or strategy == "open":
        return None
    return UnsupportedCredentials(f"access strategy {one_line(strategy, _MAX_KIND)}")


def _csrf_token_url(auth: dict[str, Any]) -> str | None:
    request_auth = optional_object(auth, "requestAuth")
    if request_auth is None:
        return None
    try:
        csrf = optional_object(request_auth, "csrf")
        if csrf is None:
            return None
        try:
            return text(csrf, "tokenEndpointURL")
        except InvalidAnswer as error:
            error.prepend("csrf")
            raise
    except InvalidAnswer as error:
        error.prepend("requestAuth")
        raise


def _parameters(auth: dict[str, Any], field: str) -> Parameters | None:
    parameters = optional_object(auth, field)
    if parameters is None:
        return None
    for values in parameters.values():
        # The name is not told: it is data of somebody's, and the field is enough to find it by.
        if values is not None and not (isinstance(values, list) and all(isinstance(value, str) for value in values)):
            raise wrong(f"{field}.*", "a list of texts", values)
    return parameters
