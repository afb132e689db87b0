"""Parses applications in the usual form: complete, and with valid types in all fields.

`msgspec` checks the types while it parses, in a third of the time of `parsing`. All other applications are left to
`parsing`, which names the invalid field and reads further pages.
"""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from controller.compass.parsing import credentials_of
from controller.compass.types import (
    ApiDefinition,
    Application,
    BasicCredentials,
    Bundle,
    Credentials,
    EventDefinition,
    OAuthCredentials,
)

# The names of fields below are those of the Director's API.
# ruff: noqa: N815


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=_HasId)


class _PageInfo(msgspec.Struct):
    hasNextPage: bool


class _List(msgspec.Struct, Generic[T]):
    totalCount: int
    pageInfo: _PageInfo
    data: list[T] | None = None


class _Client(msgspec.Struct):
    id: str


class _Api(msgspec.Struct):
    id: str
    name: str
    targetURL: str


class _Event(msgspec.Struct):
    id: str
    name: str


class _Basic(msgspec.Struct, tag_field="__typename", tag="BasicCredentialData"):
    username: str
    password: str


class _OAuth(msgspec.Struct, tag_field="__typename", tag="OAuthCredentialData"):
    clientId: str
    clientSecret: str
    url: str


class _Csrf(msgspec.Struct):
    tokenEndpointURL: str


class _RequestAuth(msgspec.Struct):
    csrf: _Csrf | None = None


class _Auth(msgspec.Struct):
    credential: _Basic | _OAuth | None = None
    accessStrategy: str | None = None
    additionalHeaders: dict[str, list[str] | None] | None = None
    additionalQueryParams: dict[str, list[str] | None] | None = None
    requestAuth: _RequestAuth | None = None


class _Bundle(msgspec.Struct):
    id: str
    name: str
    description: str | None = None
    instanceAuthRequestInputSchema: str | None = None
    defaultInstanceAuth: _Auth | None = None
    apiDefinitions: _List[_Api] | None = None
    eventDefinitions: _List[_Event] | None = None


class _Application(msgspec.Struct):
    id: str
    name: str
    description: str | None = None
    auths: list[_Client] | None = None
    bundles: _List[_Bundle] | None = None


_decoder = msgspec.json.Decoder(_Application)
_NO_AUTH = _Auth()


class _NotPlainError(Exception):
    """The application does not have the usual form."""


def read(text: msgspec.Raw) -> Application | None:
    """The application; None if it does not have the usual form."""
    try:
        found = _decoder.decode(text)
        return Application(
            id=_filled(found.id),
            name=found.name,
            description=found.description,
            auth_ids=tuple(_filled(auth.id) for auth in found.auths or ()),
            bundles=tuple(map(_bundle, _whole(found.bundles))),
        )
    except (ValueError, RecursionError, _NotPlainError):  # errors of msgspec are ValueErrors, and so are those of UTF-8
        return None


def _bundle(found: _Bundle) -> Bundle:
    auth = found.defaultInstanceAuth or _NO_AUTH
    csrf = auth.requestAuth.csrf if auth.requestAuth is not None else None
    return Bundle(
        id=found.id,
        name=found.name,
        description=found.description,
        auth_request_schema=found.instanceAuthRequestInputSchema,
        apis=tuple(ApiDefinition(api.id, api.name, api.targetURL) for api in _whole(found.apiDefinitions)),
        events=tuple(EventDefinition(event.id, event.name) for event in _whole(found.eventDefinitions)),
        credentials=_credentials(auth),
        csrf_token_url=csrf.tokenEndpointURL if csrf is not None else None,
        headers=auth.additionalHeaders,
        query_params=auth.additionalQueryParams,
    )


def _credentials(auth: _Auth) -> Credentials | None:
    match auth.credential:
        case None:
            return credentials_of(auth.accessStrategy)
        case _Basic(username, password):
            return BasicCredentials(username, password)
        case _OAuth(client_id, client_secret, url):
            return OAuthCredentials(client_id, client_secret, url)


def _whole(listed: _List[T] | None) -> Sequence[T]:
    """The items of a list without further pages and without duplicate ids."""
    if listed is None:
        return ()
    items = listed.data or ()
    ids = {item.id for item in items}
    if listed.pageInfo.hasNextPage or not len(ids) == len(items) == listed.totalCount or "" in ids:
        raise _NotPlainError
    return items


def _filled(text: str) -> str:
    if not text:
        raise _NotPlainError
    return text
