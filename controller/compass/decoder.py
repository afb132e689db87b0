"""Decodes the answers of Compass with msgspec types, and converts applications to `controller.compass.types`.

Fields that the agent does not ask for are skipped. The error for a field that does not fit has its path from the data
inwards ("application.bundles.data[<id>].name"): it names items by id, because their positions change with each answer,
and it is the same one for any order of the items. It never has a value, which may be a password.
"""

import hashlib
import re
from functools import cache
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, get_origin

import msgspec
import orjson
from msgspec import Raw, Struct

from controller.compass.errors import InvalidAnswer
from controller.compass.types import (
    ApiDefinition,
    Application,
    BasicCredentials,
    Bundle,
    Credentials,
    EventDefinition,
    Filled,
    OAuthCredentials,
    UnsupportedCredentials,
    Viewer,
)
from controller.text import clean

# The names of fields below are those of the API of Compass.
# ruff: noqa: N815

T = TypeVar("T")

#: Ids have 36 characters; a path is part of a status.
_MAX_LABEL = 64

#: Characters of a GraphQL type's name that are kept, for a warning.
_MAX_KIND = 60


# --- Connector ---


class TokenOf(Struct):
    token: Filled


class SigningInfo(Struct):
    subject: Filled
    keyAlgorithm: str


class ManagementInfo(Struct):
    directorURL: str | None = None
    certificateSecuredConnectorURL: str | None = None


class ConnectorConfiguration(Struct):
    certificateSigningRequestInfo: SigningInfo
    token: TokenOf | None = None
    managementPlaneInfo: ManagementInfo | None = None


class ConfigurationData(Struct):
    configuration: ConnectorConfiguration


class Signed(Struct):
    certificateChain: Filled
    caCertificate: Filled
    clientCertificate: Filled


class SignData(Struct):
    signCertificateSigningRequest: Signed


class RevokeData(Struct):
    revokeCertificate: bool


# --- Director ---


class PageInfo(Struct):
    hasNextPage: bool
    endCursor: str | None = None

    def __post_init__(self) -> None:
        if self.hasNextPage and not self.endCursor:
            raise ValueError("has no endCursor although there is a next page")


class Page(Struct, Generic[T]):
    """One page of a list. `cursor` is for the next page; None on the last page."""

    totalCount: int
    pageInfo: PageInfo
    data: list[T] | None = None

    @property
    def items(self) -> list[T]:
        return self.data or []

    @property
    def cursor(self) -> str | None:
        return self.pageInfo.endCursor if self.pageInfo.hasNextPage else None


class HasId(Protocol):
    @property
    def id(self) -> str: ...


class Client(Struct):
    id: Filled


class Credential(Struct):
    """All kinds in one: what a kind needs is checked in `_credentials`."""

    typename: Filled = msgspec.field(name="__typename")
    username: str | None = None
    password: str | None = None
    clientId: str | None = None
    clientSecret: str | None = None
    url: str | None = None


class Csrf(Struct):
    tokenEndpointURL: str


class RequestAuth(Struct):
    csrf: Csrf | None = None


class Auth(Struct):
    credential: Credential | None = None
    accessStrategy: str | None = None
    additionalHeaders: dict[str, list[str] | None] | None = None
    additionalQueryParams: dict[str, list[str] | None] | None = None
    requestAuth: RequestAuth | None = None


class BundleNode(Struct):
    id: Filled
    name: str
    description: str | None = None
    instanceAuthRequestInputSchema: str | None = None
    defaultInstanceAuth: Auth | None = None
    apiDefinitions: Page[ApiDefinition] | None = None
    eventDefinitions: Page[EventDefinition] | None = None


class ApplicationNode(Struct):
    id: Filled
    name: Filled
    description: str | None = None
    auths: list[Client] | None = None
    bundles: Page[BundleNode] | None = None


class Runtime(Struct):
    """The labels are texts of JSON, because their values may be of any type and size."""

    labels: dict[str, Raw] | None = None


class LabelsData(Struct):
    runtime: Runtime


class NextPageData(Struct):
    """The applications are texts of JSON: those of the last fetch are not decoded again."""

    applicationsForRuntime: Page[Raw]


class FirstPageData(NextPageData):
    runtime: Runtime


class Identity(Struct):
    """What can be read of any application. The fields have any type, so that an invalid one concerns only itself."""

    id: Any = None
    name: Any = None

    @property
    def texts(self) -> tuple[str, str]:
        """Id and name, "" if they are not texts."""
        return (self.id if isinstance(self.id, str) else "", self.name if isinstance(self.name, str) else "")


class IdentitiesData(Struct):
    applicationsForRuntime: Page[Identity]


class WithBundles(Struct):
    id: str
    bundles: Page[BundleNode] | None = None


class MoreBundlesData(Struct):
    application: WithBundles


class BundleWithLists(Struct):
    id: str
    apiDefinitions: Page[ApiDefinition] | None = None
    eventDefinitions: Page[EventDefinition] | None = None


class WithBundle(Struct):
    id: str
    bundle: BundleWithLists


class MoreOfBundleData(Struct):
    application: WithBundle


class ViewerData(Struct):
    viewer: Viewer


class SetLabel(Struct):
    key: Any = None


class SetLabelData(Struct):
    setRuntimeLabel: SetLabel


# --- decoding ---


@cache
def _decoder(type_: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(type_)


def decode(text: bytes | Raw, type_: type[T]) -> T:
    """The value. Raises InvalidAnswer: "is not JSON", or with the path of the field that does not fit."""
    try:
        found: T = _decoder(type_).decode(text)  # type: ignore[arg-type]  # a type is hashable
    except msgspec.ValidationError as error:
        raise _named(str(error), text, type_) from None
    except (ValueError, RecursionError):  # msgspec.DecodeError, and invalid UTF-8
        raise InvalidAnswer("is not JSON") from None
    return found


_STEP = re.compile(r"\.(\w{1,60})|\[([^\]]{0,20})\]")
_TYPES = {"str": "a text", "int": "a number", "float": "a number", "bool": "a boolean", "null": "null or absent"}
_TYPES |= {"object": "an object", "array": "a list"}
_MISMATCH = re.compile(r"Expected `(\w+)[^`]{0,20}`, got `(\w+)`")
_MISSING = re.compile(r"Object missing required field `(\w{1,60})`")


def _named(message: str, text: bytes | Raw, type_: Any) -> InvalidAnswer:
    """The error of a message of msgspec, for example "Expected `str`, got `int` - at `$.bundles.data[0].name`"."""
    document: Any = None
    if "[" in message and get_origin(type_) is None:
        # Again, in an order that does not depend on the one of the answer.
        try:
            document = _in_order(orjson.loads(memoryview(text)))
            msgspec.convert(document, type_)
        except msgspec.ValidationError as error:
            message = str(error)
        except ValueError:
            return InvalidAnswer("is not JSON")
    problem, _, place = message.partition(" - at `$")
    path = _path(place, document)
    if missing := _MISSING.fullmatch(problem):
        path, problem = f"{path}.{missing[1]}", "is null or absent"
    elif mismatch := _MISMATCH.fullmatch(problem):
        expected, found = (_TYPES.get(name, name) for name in mismatch.groups())
        problem = f"is {found} instead of {expected}"
    elif problem.startswith("Expected `str` of length"):
        problem = "is empty"
    return InvalidAnswer(problem, path=path.removeprefix("."))


def _path(place: str, document: Any) -> str:
    path = ""
    for name, index in _STEP.findall(place):
        if name:
            document = document.get(name) if isinstance(document, dict) else None
            path += f".{name}"
        elif index.isdigit() and isinstance(document, list):
            document = document[int(index)]
            path += f"[{label(document.get('id') if isinstance(document, dict) else None)}]"
        elif index == "...":
            return f"{path}.*"  # not the key: it is data of somebody
    return path


def _in_order(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _in_order(item) for name, item in value.items()}
    if isinstance(value, list):
        return sorted(map(_in_order, value), key=_sort_key)
    return value


def _sort_key(item: Any) -> tuple[str, bytes]:
    found = item.get("id") if isinstance(item, dict) else None
    return found if isinstance(found, str) else "", orjson.dumps(item, option=orjson.OPT_SORT_KEYS)


def label(identifier: Any) -> str:
    """What to call an item in a path: its id, or "?"."""
    return clean(identifier, _MAX_LABEL) if isinstance(identifier, str) and identifier else "?"


# --- conversion ---


_NO_AUTH = Auth()


def bundle(found: BundleNode, apis: tuple[ApiDefinition, ...], events: tuple[EventDefinition, ...]) -> Bundle:
    """A bundle with these APIs and events, which may come from several pages. Raises InvalidAnswer."""
    auth = found.defaultInstanceAuth or _NO_AUTH
    csrf = auth.requestAuth.csrf if auth.requestAuth is not None else None
    return Bundle(
        id=found.id,
        name=found.name,
        description=found.description,
        auth_request_schema=found.instanceAuthRequestInputSchema,
        apis=apis,
        events=events,
        credentials=_credentials(auth),
        csrf_token_url=csrf.tokenEndpointURL if csrf is not None else None,
        headers=auth.additionalHeaders,
        query_params=auth.additionalQueryParams,
    )


def _credentials(auth: Auth) -> Credentials | None:
    found = auth.credential
    if found is None:
        # "open" is an API that anybody may call. Others name a way to sign in that is agreed on elsewhere.
        strategy = auth.accessStrategy
        unserved = strategy and strategy != "open"
        return UnsupportedCredentials(f"access strategy {clean(strategy or '', _MAX_KIND)}") if unserved else None
    match found.typename:
        case "BasicCredentialData":
            return BasicCredentials(_text(found.username, "username"), _text(found.password, "password"))
        case "OAuthCredentialData":
            client_id, secret = _text(found.clientId, "clientId"), _text(found.clientSecret, "clientSecret")
            return OAuthCredentials(client_id, secret, _text(found.url, "url"))
        case kind:
            return UnsupportedCredentials(clean(kind, _MAX_KIND))


def _text(value: str | None, name: str) -> str:
    if value is None:
        raise InvalidAnswer("is null or absent instead of a text", path=f"defaultInstanceAuth.credential.{name}")
    return value


# --- the applications of the last fetch ---
#
# The Director usually sends the same ones again. The text of an application is looked up before it is parsed. Nested
# lists have an arbitrary order, so an application with several APIs rarely has the same text: it is parsed and checked
# again, and replaced by the earlier value if both are equal.


class Read(NamedTuple):
    """A complete application, and all memory that it needs, in bytes."""

    application: Application
    memory: int


class Readings:
    """The complete applications of one fetch: by the digests of their texts, and by id."""

    def __init__(self) -> None:
        self.by_text: dict[bytes, Read] = {}
        self.by_id: dict[str, Read] = {}

    def add(self, read: Read, digest: bytes | None) -> None:
        """`digest` of its text only if the text contained all of it."""
        self.by_id[read.application.id] = read
        if digest is not None:
            self.by_text[digest] = read

    def replace(self, later: "Readings") -> None:
        """Take over those of a later fetch."""
        self.by_text, self.by_id = later.by_text, later.by_id


def digest_of(text: msgspec.Raw) -> bytes:
    """The key under which the result for a text is stored."""
    return hashlib.sha256(text).digest()
