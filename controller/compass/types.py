"""What the Connector and the Director say, as immutable values. Secret values stay out of every repr.

The types of the Director are those of its answers, with the names of its API; fields that the agent does not ask for
are skipped. The Director sends bundles, APIs, events and client ids in a new order with each answer, and the order
means nothing: the Application Gateway looks an API up by the names of bundle and API, and answers an ambiguous name
with an error. So a fetch sorts them by id, which no change in the Director alters: what is equal in the Director is
equal here, and is stored in one order.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Protocol, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

# ruff: noqa: N815 - the names of fields are those of the API of Compass

T = TypeVar("T")

Filled = Annotated[str, Meta(min_length=1)]
"""A text that is not empty, when it is decoded."""

Parameters = Mapping[str, Sequence[str] | None]
"""Header or query parameter -> its values; the Director may send null for the values of a name."""


# --- Connector ---


class TokenOf(Struct):
    token: Filled

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


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


@dataclass(frozen=True, slots=True)
class SigningOffer:
    """The Connector's answer to `configuration`.

    `token` is the one-time token to sign with; None over mTLS, where none is needed. `subject` and `key_algorithm` are
    what a CSR must carry. The URLs are None when the Connector did not send them.
    """

    subject: str
    key_algorithm: str
    token: str | None = field(default=None, repr=False)
    director_url: str | None = None
    connector_url: str | None = None


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """The facts of one certificate. `fingerprint` is SHA-256 as lower-case hex: serial numbers are not unique here."""

    not_before: datetime.datetime
    not_after: datetime.datetime
    fingerprint: str


@dataclass(frozen=True, slots=True)
class SignedCertificate:
    """A signed client certificate, PEM re-encoded: `chain_pem` is leaf, CA and so on."""

    chain_pem: bytes
    leaf: CertificateInfo


# --- Director ---


class Value(Struct, frozen=True, gc=False):
    """There are many, and none is part of a reference cycle, so the garbage collector skips them (gc=False)."""


class PageInfo(Value, frozen=True):
    hasNextPage: bool
    endCursor: str | None = None

    def __post_init__(self) -> None:
        if self.hasNextPage and not self.endCursor:
            raise ValueError("has no endCursor although there is a next page")


LAST_PAGE = PageInfo(hasNextPage=False)


class Page(Value, Generic[T], frozen=True):
    """A page of a list, or all of the list after a fetch. `cursor` is for the next page; None on the last page."""

    totalCount: int
    pageInfo: PageInfo
    data: tuple[T, ...] | None = None

    @property
    def items(self) -> tuple[T, ...]:
        return self.data or ()

    @property
    def cursor(self) -> str | None:
        return self.pageInfo.endCursor if self.pageInfo.hasNextPage else None


def items(page: Page[T] | None) -> tuple[T, ...]:
    """The items of a list; null is an empty one."""
    return page.items if page is not None else ()


class HasId(Protocol):
    @property
    def id(self) -> str: ...


class ApiDefinition(Value, frozen=True):
    id: Filled
    name: str
    targetURL: str


class EventDefinition(Value, frozen=True):
    id: Filled
    name: str


class Credential(Value, frozen=True):
    """Credentials of any kind. For a kind that the agent knows, none of its fields is null."""

    typename: Filled = msgspec.field(name="__typename")
    username: str | None = None
    password: str | None = None
    clientId: str | None = None
    clientSecret: str | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        for name in _CREDENTIAL_FIELDS.get(self.typename, ()):
            if getattr(self, name) is None:
                raise ValueError(f"has no {name}")

    def __repr__(self) -> str:
        return f"Credential({self.typename!r})"


BASIC, OAUTH = "BasicCredentialData", "OAuthCredentialData"

_CREDENTIAL_FIELDS = {BASIC: ("username", "password"), OAUTH: ("clientId", "clientSecret", "url")}


class Csrf(Value, frozen=True):
    tokenEndpointURL: str


class RequestAuth(Value, frozen=True):
    csrf: Csrf | None = None


class Auth(Value, frozen=True):
    """`accessStrategy`: "open" is an API that anybody may call; others name a way to sign in that is agreed on
    elsewhere.
    """

    credential: Credential | None = None
    accessStrategy: str | None = None
    additionalHeaders: Parameters | None = None
    additionalQueryParams: Parameters | None = None
    requestAuth: RequestAuth | None = None

    def __repr__(self) -> str:
        return f"Auth({self.credential!r})"


class Bundle(Value, frozen=True):
    id: Filled
    name: str
    description: str | None = None
    instanceAuthRequestInputSchema: str | None = None
    defaultInstanceAuth: Auth | None = None
    apiDefinitions: Page[ApiDefinition] | None = None
    eventDefinitions: Page[EventDefinition] | None = None


class Client(Value, frozen=True):
    id: Filled


class Application(Value, frozen=True):
    """An application as assigned to the Runtime. Its `auths` are the client ids that may speak for it."""

    id: Filled
    name: Filled
    description: str | None = None
    auths: tuple[Client, ...] | None = None
    bundles: Page[Bundle] | None = None


@dataclass(frozen=True, slots=True)
class IncompleteApplication:
    """An assigned application that could not be read wholly, or whose id another one has, too; `reason` says which."""

    id: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """What is assigned to a Runtime: the two tuples together name every assigned application.

    An id that occurs more than once is only in `incomplete`. `labels` are those of the Runtime's labels that are texts.
    """

    applications: tuple[Application, ...]
    incomplete: tuple[IncompleteApplication, ...]
    labels: Mapping[str, str]

    @property
    def names_are_normalized(self) -> bool:
        """Whether the Director has normalised the names: only the string "true" says so, not the boolean."""
        return self.labels.get("isNormalized") == "true"


class Runtime(Struct):
    """The labels are undecoded JSON, because their values may be of any type and size."""

    labels: dict[str, Raw] | None = None


class PageData(Struct):
    """The applications are undecoded JSON: those of the last fetch are not decoded again."""

    runtime: Runtime
    applicationsForRuntime: Page[Raw]


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


class OutlineData(IdentitiesData):
    runtime: Runtime


class Parts(Struct):
    """What a follow-up page asks for: more bundles of an application, or a bundle with more APIs or events."""

    id: str
    bundles: Page[Bundle] | None = None
    bundle: Bundle | None = None


class PartsData(Struct):
    application: Parts


class Viewer(Value, frozen=True):
    """The owner of the certificate, as the Director knows it; `type` is "RUNTIME" for a Runtime."""

    id: Filled
    type: str


class ViewerData(Struct):
    viewer: Viewer


class SetLabel(Struct):
    key: Any = None


class SetLabelData(Struct):
    setRuntimeLabel: SetLabel
