"""The credentials from the pairing, and their Secrets in the cluster.

Two Secrets, in the format of the Go agent and the Istio gateway:

| Secret | key | content |
|---|---|---|
| `APP_CLUSTER_CERTIFICATES_SECRET` | `crt` | client certificate, PEM |
| | `key` | its private key, PKCS#1 PEM |
| | `crtChain` | client certificate, CA (and root), PEM |
| | `connection` | the registration: runtime id, tenant, URLs (JSON) |
| | `pairing` | a pairing in progress: key, next token, subject (JSON); gone when it is done |
| | `renewed` | a renewed certificate that is not used yet, and its key (JSON); gone when it is used |
| `APP_CA_CERTIFICATES_SECRET` | `cacert` | CA certificate (and root), PEM |

One write of the first Secret replaces key, certificate and registration together, so they always match. The second
Secret is made from `crtChain` and can be written again at any time. Other keys, labels and annotations are kept.

    CredentialsError          the stored credentials cannot be used: says which key of which Secret
    ├── CredentialsMissing    there are none at all
    └── CredentialsReplaced   others are stored by now, or none
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from enum import Enum, auto
from typing import Any, TypeVar

import orjson

from controller.compass import certificates
from controller.compass.errors import CompassError
from controller.connection.configuration import (
    SPEC_PAIRING,
    Configuration,
    PairingConfiguration,
    secret_value,
)
from controller.connection.store import apply_change
from controller.fields import member
from controller.resources import SECRET
from controller.settings import ObjectName
from controller.validation import fault_of, fault_of_url
from informers.client import Client
from informers.errors import NotFound
from informers.mutation_cache import MutationCache

_T = TypeVar("_T", "Registration", "StoredPairing", "PendingCertificate")

_CRT, _KEY, _CHAIN, _CACERT = "crt", "key", "crtChain", "cacert"
_REGISTRATION, _PAIRING, _PENDING = "connection", "pairing", "renewed"

_LAST_SECOND = 253402300799  # of the year 9999

Object = dict[str, Any]
Data = dict[str, str]
Values = Mapping[str, bytes | None]
"""Keys of a Secret with their new values; None removes the key."""


class CredentialsError(Exception):
    """There are no usable credentials."""


class CredentialsMissing(CredentialsError):
    """There is no Secret, or it does not contain credentials yet."""


class CredentialsReplaced(CredentialsError):
    """The credentials in question are not stored any more. Others are, or none."""


@dataclass(frozen=True, kw_only=True)
class Registration:
    """The data that belong to the certificate: ids of the Runtime, and URLs of Compass.

    `origin`: the object with the configuration of the pairing. `paired_with`: the fingerprint of its token.
    `connection_uid`: that of the CompassConnection at that time. All three are "" if unknown. `acquired`: the time from
    which this certificate is used, in epoch seconds, `paired_at`: that of the pairing; 0 if unknown.
    """

    runtime_id: str
    tenant: str
    connector_url: str
    director_url: str
    paired_with: str = ""
    origin: str = ""
    connection_uid: str = ""
    acquired: int = 0
    paired_at: int = 0


@dataclass(frozen=True, kw_only=True)
class StoredPairing:
    """A pairing in progress, with all data to continue after a restart.

    `token`: the next one to use. Without a `key` it is the configured token, and there is no answer of the Connector;
    only one from spec.pairing is stored in this form. `configured_token`: the fingerprint of the configured token.
    `fallback_fingerprint`: that of the configuration in Secret or ConfigMap at that time. `connection_uid`: that of the
    CompassConnection, "" for none. `since`: the time when the token was found, in epoch seconds.
    """

    configuration: str  # fingerprint of the configuration that it began with
    origin: str
    runtime_id: str
    tenant: str
    token_url: str
    token: str = field(repr=False)
    configured_token: str
    key: str = field(default="", repr=False)
    subject: str = ""
    connector_url: str = ""
    director_url: str = ""
    fallback_fingerprint: str = ""
    connection_uid: str = ""
    since: int = 0

    @property
    def is_from_spec(self) -> bool:
        """Its token was in the CompassConnection, and was removed from there."""
        return self.origin == SPEC_PAIRING

    def is_same(self, other: "StoredPairing") -> bool:
        """Whether both have the same token and key. The rest of the configuration may change during a pairing."""
        return (self.key, self.token) == (other.key, other.token)


@dataclass(frozen=True, kw_only=True)
class PendingCertificate:
    """A renewed certificate that is not used yet. `replaces`: the fingerprint of the one in use. PEM texts; times in
    epoch seconds. `request_id`: the x-request-id of the call that signed it.
    """

    replaces: str
    key: str = field(repr=False)
    chain: str
    received: int
    valid_from: int
    valid_until: int
    request_id: str


@dataclass(frozen=True, kw_only=True)
class StoredCredentials:
    """A key and its certificate chain, checked to belong together, and their registration."""

    pair: certificates.Credentials
    registration: Registration | None  # None: stored by the Go agent, which keeps this elsewhere, or damaged
    damage: str = ""
    """Which value of the stored registration cannot be used, and where it is; "" for none."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate. Compass gives all certificates the same serial number."""
        return self.pair.leaf.fingerprint

    @property
    def not_before(self) -> float:
        """Epoch seconds."""
        return self.pair.leaf.not_before.timestamp()

    @property
    def not_after(self) -> float:
        """Epoch seconds."""
        return self.pair.leaf.not_after.timestamp()

    @property
    def ca_pem(self) -> bytes:
        """The chain without the client certificate, for the gateway."""
        return certificates.chain_to_pem(self.pair.chain[1:])


@dataclass(frozen=True)
class ClientSecret:
    """The content of the client's Secret at one moment. `credentials`: the error if they cannot be used.

    `registration` is unchecked, and can be read even if key, certificate or one of its values is invalid. `pairing`:
    the one in progress. `pending`: the renewed certificate that is not used yet. Each is None if absent or unreadable.
    """

    credentials: StoredCredentials | CredentialsError
    registration: Registration | None = None
    pairing: StoredPairing | None = None
    pending: PendingCertificate | None = None


class GatewaySecret(Enum):
    """The gateway's copy of the CA certificates. AS_WANTED also if none is wanted yet."""

    AS_WANTED = auto()
    DIFFERENT = auto()
    MISSING = auto()


class CredentialsStore:
    """Reads and writes the two Secrets. Its caches show own writes at once."""

    def __init__(
        self,
        client: Client,
        *,
        cluster_secrets: MutationCache,
        cluster_name: ObjectName,
        ca_secrets: MutationCache,
        ca_name: ObjectName,
    ) -> None:
        self._client = client
        self._cluster_secrets = cluster_secrets
        self._ca_secrets = ca_secrets
        self.cluster_name = cluster_name
        self.ca_name = ca_name

    # --- the client's Secret ---

    def read(self) -> ClientSecret:
        """All that is stored in the client's Secret at this moment."""
        secret = self._cluster_secret()
        try:
            credentials: StoredCredentials | CredentialsError = self._parsed_credentials(secret)
        except CredentialsError as error:
            credentials = error
        return ClientSecret(
            credentials,
            registration=_parsed(Registration, secret, _REGISTRATION),
            pairing=_parsed(StoredPairing, secret, _PAIRING),
            pending=_parsed(PendingCertificate, secret, _PENDING),
        )

    def load(self) -> StoredCredentials:
        """The stored credentials. Raises CredentialsError, which names what is missing or invalid."""
        return self._parsed_credentials(self._cluster_secret())

    @contextmanager
    def unchanged(self, credentials: StoredCredentials) -> Iterator[None]:
        """For a call to Compass with these credentials. Raises CredentialsReplaced if there are other credentials at
        its end.

        The result of such a call, especially a refusal, does not apply to the new credentials.
        """
        try:
            yield
        finally:
            if self._replaced(credentials):
                raise CredentialsReplaced(f"the Secret {self.cluster_name} has other credentials now")

    def save_pending(self, pending: PendingCertificate | None, *, replacing: StoredCredentials) -> None:
        """Store the renewed certificate, or remove it. Raises CredentialsReplaced or informers.ApiError."""
        value = None if pending is None else orjson.dumps(asdict(pending))
        self._write_cluster({_PENDING: value}, replacing=replacing)

    def save_pairing(self, pairing: StoredPairing | None) -> None:
        """Store the pairing, or remove it. Raises informers.ApiError."""
        self._write_cluster({_PAIRING: None if pairing is None else orjson.dumps(asdict(pairing))})

    def save(
        self,
        *,
        key_pem: bytes,
        chain_pem: bytes,
        registration: Registration,
        replacing: StoredCredentials | StoredPairing | None = None,
    ) -> StoredCredentials:
        """Store new credentials, and remove the pairing or the pending certificate that led to them. Returns them like
        `load`.

        `replacing`: the renewed credentials, or the pairing. If that is not stored any more, nothing is written,
        because another client has deleted or replaced it.

        Raises InvalidCredentials without a write if key and chain do not belong together, CredentialsReplaced, or
        informers.ApiError.
        """
        fresh = build_credentials(key_pem, chain_pem, registration)
        leaf = certificates.parse_chain(chain_pem)[:1]
        self._write_cluster(
            {
                _CRT: certificates.chain_to_pem(leaf),
                _KEY: key_pem,
                _CHAIN: chain_pem,
                _REGISTRATION: orjson.dumps(asdict(registration)),
                _PAIRING: None,
                _PENDING: None,
            },
            replacing=replacing,
        )
        return fresh

    def save_registration(self, registration: Registration, credentials: StoredCredentials) -> None:
        """Store the registration of that certificate. Raises CredentialsReplaced or informers.ApiError."""
        self._write_cluster({_REGISTRATION: orjson.dumps(asdict(registration))}, replacing=credentials)

    def check_writable(self) -> None:
        """Test with a dry run that the Secret can be written, before a token is used up for it.

        The dry run changes a value, because an immutable Secret allows a write without changes. Raises
        informers.ApiError.
        """
        self._write_cluster({_PAIRING: b"dry run"}, dry_run=True)

    # --- the gateway's Secret ---

    def gateway_secret(self, ca_pem: bytes) -> GatewaySecret:
        """Whether the gateway's Secret has these CA certificates."""
        secret = self._ca_secrets.get(self.ca_name.name, self.ca_name.namespace)
        if secret is None:
            return GatewaySecret.MISSING
        is_wanted = member(secret, "data").get(_CACERT) == base64.b64encode(ca_pem).decode()
        return GatewaySecret.AS_WANTED if is_wanted else GatewaySecret.DIFFERENT

    def save_ca(self, ca_pem: bytes, *, dry_run: bool = False) -> None:
        """Write the CA certificates for the gateway. Raises informers.ApiError."""
        self._write(self._ca_secrets, self.ca_name, {_CACERT: ca_pem}, dry_run=dry_run)

    # --- both ---

    def delete_client(self) -> None:
        """Delete the Secret of the client if it is the one in the cache. Raises informers.ApiError.

        Raises Conflict if it has changed, because it may contain other credentials.
        """
        self._delete(self._cluster_secrets, self.cluster_name)

    def delete_ca(self) -> None:
        """Delete the Secret of the gateway. Raises informers.ApiError."""
        self._delete(self._ca_secrets, self.ca_name)

    def _delete(self, cache: MutationCache, name: ObjectName) -> None:
        secret = cache.get(name.name, name.namespace)
        if secret is None:
            return
        metadata = secret["metadata"]
        with suppress(NotFound):
            self._client.delete(
                SECRET,
                name.name,
                namespace=name.namespace,
                uid=metadata["uid"],
                resource_version=metadata["resourceVersion"],
            )
        cache.deleted(name.name, name.namespace, base=secret)

    def _parsed_credentials(self, secret: Object | None) -> StoredCredentials:
        if secret is None:
            raise CredentialsMissing(f"the Secret {self.cluster_name} does not exist")
        if not {_KEY, _CRT, _CHAIN} & member(secret, "data").keys():
            raise CredentialsMissing(f"the Secret {self.cluster_name} holds no credentials")
        values = []
        for name in (_KEY, _CRT, _CHAIN):
            try:
                value = secret_value(secret, name)
            except ValueError as error:
                raise CredentialsError(f"Secret {self.cluster_name}: key {name} {error}") from error
            if not value:
                raise CredentialsError(f"Secret {self.cluster_name}: key {name} is missing or empty")
            values.append(value.encode())
        try:
            pair = _read_pair(*values)
        except CredentialsError as error:
            raise CredentialsError(f"Secret {self.cluster_name}: {error}") from error
        registration = _parsed(Registration, secret, _REGISTRATION)
        fault = fault_of_registration(registration) if registration is not None else ""
        if fault:
            damage = f"Secret {self.cluster_name}: in the key connection, {fault}"
            return StoredCredentials(pair=pair, registration=None, damage=damage)
        return StoredCredentials(pair=pair, registration=registration)

    def _replaced(self, credentials: StoredCredentials) -> bool:
        try:
            return self.load().fingerprint != credentials.fingerprint
        except CredentialsError:
            return False  # none are stored; the result is still that of the given ones, and a write of it is refused

    def _cluster_secret(self) -> Object | None:
        return self._cluster_secrets.get(self.cluster_name.name, self.cluster_name.namespace)

    def _write_cluster(
        self, values: Values, *, replacing: StoredCredentials | StoredPairing | None = None, dry_run: bool = False
    ) -> None:
        def check(secret: Object | None) -> None:
            if replacing is not None:
                self._assert_stored(secret, replacing)

        self._write(self._cluster_secrets, self.cluster_name, values, check, dry_run=dry_run)

    def _assert_stored(self, secret: Object | None, wanted: StoredCredentials | StoredPairing) -> None:
        if isinstance(wanted, StoredPairing):
            pairing = _parsed(StoredPairing, secret, _PAIRING)
            stored = pairing is not None and pairing.is_same(wanted)
        else:
            try:
                stored = self._parsed_credentials(secret).fingerprint == wanted.fingerprint
            except CredentialsError:
                stored = False
        if not stored:
            raise CredentialsReplaced(f"the Secret {self.cluster_name} was changed by another client")

    def _write(
        self,
        cache: MutationCache,
        name: ObjectName,
        values: Values,
        check: Callable[[Object | None], None] = lambda _: None,
        *,
        dry_run: bool,
    ) -> None:
        def wanted(secret: Object | None) -> Object | None:
            check(secret)
            data = _merged(values, secret)
            if secret is None:
                return _new_secret(name, data) if data else None
            return secret if data == member(secret, "data") else {**secret, "data": data}

        def write(base: Object | None, obj: Object) -> Object:
            if base is None:
                written = self._client.create(SECRET, obj, namespace=name.namespace, dry_run=dry_run)
            else:
                written = self._client.update(SECRET, obj, namespace=name.namespace, dry_run=dry_run)
            if not dry_run:
                cache.mutated(written, base=base)
            return written

        apply_change(
            wanted,
            name=f"the Secret {name}",
            read=lambda: cache.get(name.name, name.namespace),
            read_live=lambda: cache.refresh(
                name.name, name.namespace, lambda: self._client.get(SECRET, name.name, namespace=name.namespace)
            ),
            write=write,
        )


def build_credentials(key_pem: bytes, chain_pem: bytes, registration: Registration) -> StoredCredentials:
    """Credentials like those of `CredentialsStore.load`. Raises InvalidCredentials if key and certificate do not
    match.
    """
    return StoredCredentials(pair=certificates.load_credentials(key_pem, chain_pem), registration=registration)


def fault_of_registration(registration: Registration) -> str:
    """The invalid value and the reason; "" if all are valid."""
    return _faults(
        {"runtime_id": registration.runtime_id, "tenant": registration.tenant},
        {"connector_url": registration.connector_url, "director_url": registration.director_url},
    )


def fault_of_pairing(pairing: StoredPairing) -> str:
    """The invalid value of the stored pairing and the reason; "" if all are valid. Key and subject are checked at their
    use.
    """
    urls = {"token_url": pairing.token_url}
    if pairing.key:
        urls |= {"connector_url": pairing.connector_url, "director_url": pairing.director_url}
    return _faults({"runtime_id": pairing.runtime_id, "tenant": pairing.tenant, "token": pairing.token}, urls)


def _faults(texts: Mapping[str, str], urls: Mapping[str, str]) -> str:
    faults = {name: fault_of(value) for name, value in texts.items()}
    faults |= {name: fault_of_url(value) for name, value in urls.items()}
    return ", ".join(f"{name} {fault}" for name, fault in faults.items() if fault)


def resume_with(pairing: StoredPairing, configuration: Configuration) -> StoredPairing | None:
    """The pairing in progress, adapted to the current configuration; None if the configuration requests another one, or
    none.

    A token in spec.pairing is removed at the start of its pairing. So such a pairing continues until there is a new
    token, or the configuration in Secret or ConfigMap changes. As long as the configured token is the same, which may
    be used up, the pairing continues with all other values as they are configured.
    """
    if pairing.is_from_spec and not (isinstance(configuration, PairingConfiguration) and configuration.is_from_spec):
        return pairing if pairing.fallback_fingerprint == configuration.fingerprint else None
    if (
        not isinstance(configuration, PairingConfiguration)
        or pairing.configured_token != configuration.token_fingerprint
    ):
        return None
    return replace(
        pairing,
        configuration=configuration.fingerprint,
        runtime_id=configuration.runtime_id,
        tenant=configuration.tenant,
        token_url=configuration.connector_url,
    )


def _merged(values: Values, secret: Object | None) -> Data:
    data = dict(member(secret, "data"))
    for key, value in values.items():
        if value is None:
            data.pop(key, None)
        else:
            data[key] = base64.b64encode(value).decode()
    return data


def _new_secret(name: ObjectName, data: Data) -> Object:
    metadata = {"name": name.name, "namespace": name.namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def _read_pair(key_pem: bytes, certificate_pem: bytes, chain_pem: bytes) -> certificates.Credentials:
    try:
        pair = certificates.load_credentials(key_pem, chain_pem)
        leaf = certificates.parse_chain(certificate_pem)[0]
    except CompassError as error:
        raise CredentialsError(str(error)) from error
    if certificates.describe(leaf).fingerprint != pair.leaf.fingerprint:
        raise CredentialsError(f"{_CHAIN} does not begin with the certificate in {_CRT}")
    return pair


def _parsed(kind: type[_T], secret: Mapping[str, Any] | None, key: str) -> _T | None:
    try:
        values = orjson.loads(secret_value(secret, key) or "null")
    except ValueError:
        return None
    if not isinstance(values, dict):
        return None
    # A missing text counts as empty, which is reported. So the other values, such as `paired_with`, are not lost.
    texts = {f.name: "" for f in fields(kind) if f.type is str}
    known = {f.name: values[f.name] for f in fields(kind) if f.name in values and _fits(values[f.name], f.type)}
    try:
        return kind(**texts | known)
    except TypeError:
        return None  # a time is missing


def _fits(value: object, wanted: object) -> bool:
    """Whether the value is valid for the field. Numbers are epoch seconds and must be valid times."""
    if wanted is int:
        return isinstance(value, int) and 0 <= value <= _LAST_SECOND
    return isinstance(value, str)
