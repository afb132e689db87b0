"""What the Connector and the Director tell, as immutable values. Secret values stay out of every repr.

The Director sends bundles, APIs, events and client ids in a new order with each answer, and the order means nothing:
the Application Gateway looks an API up by the names of bundle and API, and answers an ambiguous name with an error. So
a value keeps them sorted by id, which no change in the Director alters: what is equal in the Director is equal here,
and is stored in one order.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

Filled = Annotated[str, Meta(min_length=1)]
"""A text that is not empty, when it is decoded."""


@dataclass(frozen=True, slots=True)
class BasicCredentials:
    username: str = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class OAuthCredentials:
    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)
    token_url: str


@dataclass(frozen=True, slots=True)
class UnsupportedCredentials:
    """A kind of credentials that no gateway object exists for; `kind` is its GraphQL type."""

    kind: str


UsableCredentials = BasicCredentials | OAuthCredentials
"""The kinds that a Secret can be made of. A new kind goes in here; mypy then names each place that has to handle it."""

Credentials = UsableCredentials | UnsupportedCredentials

#: Header or query parameter name -> its values; the Director may send null for the values of a name.
Parameters = Mapping[str, Sequence[str] | None]


class ApiDefinition(Struct, frozen=True):
    id: Filled
    name: str
    target_url: str = msgspec.field(name="targetURL")


class EventDefinition(Struct, frozen=True):
    id: Filled
    name: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle of an application. `headers` and `query_params` are None when the Director sent null.

    `apis` and `events` may be given in any order, and are kept sorted by id.
    """

    id: str
    name: str
    description: str | None = None
    auth_request_schema: str | None = None
    apis: tuple[ApiDefinition, ...] = ()
    events: tuple[EventDefinition, ...] = ()
    credentials: Credentials | None = None
    csrf_token_url: str | None = None
    headers: Parameters | None = field(default=None, repr=False)
    query_params: Parameters | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _keep_sorted(self, apis=self.apis, events=self.events)


@dataclass(frozen=True, slots=True)
class Application:
    """An application as assigned to the Runtime; `auth_ids` are the client ids that may speak for it.

    `auth_ids` and `bundles` may be given in any order, and are kept sorted, by id.
    """

    id: str
    name: str
    description: str | None = None
    auth_ids: tuple[str, ...] = ()
    bundles: tuple[Bundle, ...] = ()

    def __post_init__(self) -> None:
        if len(self.auth_ids) > 1:
            object.__setattr__(self, "auth_ids", tuple(sorted(self.auth_ids)))
        _keep_sorted(self, bundles=self.bundles)


_ID = attrgetter("id")


def _keep_sorted(value: Application | Bundle, **members: tuple[Any, ...]) -> None:
    """Sort members of a value that is frozen from now on."""
    for name, items in members.items():
        if len(items) > 1:
            object.__setattr__(value, name, tuple(sorted(items, key=_ID)))


@dataclass(frozen=True, slots=True)
class IncompleteApplication:
    """An application that is assigned, but whose content could not be read wholly; `reason` says why."""

    id: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """What is assigned to a Runtime: together the two tuples name every assigned application exactly once.

    `labels` are those of the Runtime's labels that are texts.
    """

    applications: tuple[Application, ...]
    incomplete: tuple[IncompleteApplication, ...]
    labels: Mapping[str, str]

    @property
    def names_are_normalized(self) -> bool:
        """Whether the Director has normalised the names: only the string "true" says so, not the boolean."""
        return self.labels.get("isNormalized") == "true"


class Viewer(Struct, frozen=True):
    """Whom the Director takes the owner of the certificate for; `type` is "RUNTIME" for a Runtime."""

    id: Filled
    type: str


@dataclass(frozen=True, slots=True)
class Configuration:
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
