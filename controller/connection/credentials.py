"""The credentials that pairing won, and how they are kept in the cluster.

Two Secrets, as the Go agent and the Istio gateway know them:

| Secret | key | content |
|---|---|---|
| `APP_CLUSTER_CERTIFICATES_SECRET` | `crt` | client certificate, PEM |
| | `key` | its private key, PKCS#1 PEM |
| | `crtChain` | client certificate, CA (and root), PEM |
| | `connection` | the registration: runtime id, tenant, URLs (JSON) |
| | `pairing` | a pairing under way: key, next token, subject (JSON); gone when it is done |
| `APP_CA_CERTIFICATES_SECRET` | `cacert` | CA certificate (and root), PEM |

One write of the first Secret switches key, certificate and registration together, so a reader never sees a half. The
second Secret follows from `crtChain` and can be written again at any time. Other keys, labels and annotations
survive.

    CredentialsError          the stored credentials cannot be used: says which key of which Secret
    ├── CredentialsMissing    there are none at all
    └── CredentialsReplaced   others are stored by now, or none
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache, partial
from typing import Any, TypeVar

import orjson

from controller.compass import certificates
from controller.compass.errors import CompassError
from controller.connection import writing
from controller.connection.configuration import (
    SPEC_PAIRING,
    ConfigurationProblem,
    PairingConfiguration,
    ProblemKind,
    fault_of,
    fault_of_url,
    secret_value,
)
from controller.model.fields import member
from controller.resources import SECRET
from controller.settings import ObjectName
from informers.client import Client
from informers.errors import NotFound
from informers.mutation_cache import MutationCache

_T = TypeVar("_T", "Registration", "Pairing")

_CRT, _KEY, _CHAIN, _REGISTRATION, _PAIRING, _CACERT = "crt", "key", "crtChain", "connection", "pairing", "cacert"

_LAST_SECOND = 253402300799  # of the year 9999

Object = dict[str, Any]
Data = dict[str, str]
Values = Mapping[str, bytes | None]
"""Keys of a Secret with their new values; None takes the key away."""


class CredentialsError(Exception):
    """There are no credentials that could be used."""


class CredentialsMissing(CredentialsError):
    """There is no Secret, or it holds no credentials yet."""


class CredentialsReplaced(CredentialsError):
    """While a call to Compass was under way, other credentials were stored, or the stored ones were deleted."""


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What belongs to the certificate: who we are, and where Compass is.

    `origin` names the object with the configuration that won it, `paired_with` is that configuration's fingerprint;
    both are "" when that is not known. `asked_by` is the uid of the CompassConnection that was there then, or "".
    `acquired` is when this certificate came, epoch seconds, 0 when not known.
    """

    runtime_id: str
    tenant: str
    connector_url: str
    director_url: str
    paired_with: str = ""
    origin: str = ""
    asked_by: str = ""
    acquired: int = 0


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """A pairing under way: all that is needed to go on after a restart.

    `token` is the one to use next. Without a `key` that is the configured one: it was taken out of the
    CompassConnection, and nothing else has happened. `beside` is the fingerprint of what else was configured then,
    `asked_by` the uid of the CompassConnection, "" for none. `since` is when the token was given, epoch seconds.
    """

    configuration: str  # fingerprint of the configuration that it began with
    origin: str
    runtime_id: str
    tenant: str
    token_url: str
    token: str = field(repr=False)
    key: str = field(default="", repr=False)
    subject: str = ""
    connector_url: str = ""
    director_url: str = ""
    beside: str = ""
    asked_by: str = ""
    since: int = 0

    def is_same(self, other: "Pairing") -> bool:
        """Whether both have the same token and key: Runtime id and tenant may be corrected while it is under way."""
        return (self.key, self.token) == (other.key, other.token)


@dataclass(frozen=True, kw_only=True)
class StoredCredentials:
    """A key and its certificate chain, proven to belong together, and the registration they were won for."""

    pair: certificates.Credentials
    registration: Registration | None  # None: stored by the Go agent, which keeps this elsewhere, or damaged
    damage: str = ""
    """Which value of the stored registration cannot be used, and where it is; "" for none."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate. The serial number would not tell two apart: Compass gives all the same."""
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
        """The chain without the client certificate: what the gateway trusts."""
        return certificates.chain_to_pem(self.pair.chain[1:])


class CredentialsStore:
    """Reads and writes the two Secrets, through caches that see the agent's own writes at once."""

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

    def load(self) -> StoredCredentials:
        """The stored credentials; raises CredentialsError saying what is missing or wrong."""
        return self._loaded(self._cluster_secret())

    def load_registration(self) -> Registration | None:
        """The registration alone and as it is: readable also when key, certificate or a value of it cannot be used."""
        secret = self._cluster_secret()
        return None if secret is None else _load(Registration, secret, _REGISTRATION)

    def load_pairing(self) -> Pairing | None:
        """The pairing under way, if any; one that cannot be read counts as none."""
        secret = self._cluster_secret()
        return None if secret is None else _load(Pairing, secret, _PAIRING)

    @contextmanager
    def in_use(self, credentials: StoredCredentials) -> Iterator[None]:
        """A call to Compass with these credentials; raises CredentialsReplaced when others are usable by its end.

        What such a call tells, a refusal above all, is about a connection that is no more.
        """
        try:
            yield
        finally:
            if self._replaced(credentials):
                raise CredentialsReplaced(f"the Secret {self.cluster_name} has other credentials now")

    def save_pairing(self, pairing: Pairing | None) -> None:
        """Keep the pairing, or forget it; raises informers.ApiError."""
        self._write_cluster({_PAIRING: None if pairing is None else orjson.dumps(asdict(pairing))})

    def save(
        self,
        *,
        key_pem: bytes,
        chain_pem: bytes,
        registration: Registration,
        replacing: StoredCredentials | Pairing | None = None,
    ) -> StoredCredentials:
        """Switch to new credentials, and end the pairing that won them; gives them as `load` will.

        `replacing`: what they follow from, credentials that are renewed or a pairing under way. When that is not
        stored any more, nothing is written: whoever deleted or replaced it may not want what follows from it.

        Raises InvalidCredentials, with nothing written, when key and chain do not belong together; CredentialsReplaced;
        or informers.ApiError.
        """
        fresh = read_credentials(key_pem, chain_pem, registration)
        leaf = certificates.parse_chain(chain_pem)[:1]
        self._write_cluster(
            {
                _CRT: certificates.chain_to_pem(leaf),
                _KEY: key_pem,
                _CHAIN: chain_pem,
                _REGISTRATION: orjson.dumps(asdict(registration)),
                _PAIRING: None,
            },
            replacing=replacing,
        )
        return fresh

    def save_registration(self, registration: Registration, credentials: StoredCredentials) -> None:
        """Keep what belongs to that certificate; raises CredentialsReplaced or informers.ApiError."""
        self._write_cluster({_REGISTRATION: orjson.dumps(asdict(registration))}, replacing=credentials)

    def check_writable(self) -> None:
        """Try a write of the client's Secret without storing anything, before a token or a certificate is spent on it.

        A value does change: an immutable Secret takes a write that changes nothing. Raises informers.ApiError.
        """
        self._write_cluster({_PAIRING: b"dry run"}, dry_run=True)

    # --- the gateway's Secret ---

    def ca_secret_exists(self) -> bool:
        return self._ca_secrets.get(self.ca_name.name, self.ca_name.namespace) is not None

    def ca_secret_differs(self, ca_pem: bytes) -> bool:
        """Whether the gateway's Secret has anything else than these certificates."""
        secret = self._ca_secrets.get(self.ca_name.name, self.ca_name.namespace)
        return member(secret, "data").get(_CACERT) != base64.b64encode(ca_pem).decode()

    def save_ca(self, ca_pem: bytes, *, dry_run: bool = False) -> None:
        """Hand the CA certificates to the gateway; raises informers.ApiError."""
        self._write(self._ca_secrets, self.ca_name, partial(_merged, {_CACERT: ca_pem}), dry_run=dry_run)

    # --- both ---

    def delete_client(self) -> None:
        """Remove the client's Secret, as it is in the cache; raises informers.ApiError.

        Conflict when it has changed: it may hold other credentials.
        """
        self._delete(self._cluster_secrets, self.cluster_name)

    def delete_ca(self) -> None:
        """Remove the gateway's Secret; raises informers.ApiError."""
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

    def _loaded(self, secret: Object | None) -> StoredCredentials:
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
        registration = _load(Registration, secret, _REGISTRATION)
        fault = fault_of_registration(registration) if registration is not None else ""
        if fault:
            damage = f"Secret {self.cluster_name}: in the key connection, {fault}"
            return StoredCredentials(pair=pair, registration=None, damage=damage)
        return StoredCredentials(pair=pair, registration=registration)

    def _replaced(self, credentials: StoredCredentials) -> bool:
        try:
            return self.load().fingerprint != credentials.fingerprint
        except CredentialsError:
            return False  # what was lost meanwhile is better stored again

    def _cluster_secret(self) -> Object | None:
        return self._cluster_secrets.get(self.cluster_name.name, self.cluster_name.namespace)

    def _write_cluster(
        self, values: Values, *, replacing: StoredCredentials | Pairing | None = None, dry_run: bool = False
    ) -> None:
        def data(secret: Object | None) -> Data:
            if replacing is not None:
                self._assert_stored(secret, replacing)
            return _merged(values, secret)

        self._write(self._cluster_secrets, self.cluster_name, data, dry_run=dry_run)

    def _assert_stored(self, secret: Object | None, wanted: StoredCredentials | Pairing) -> None:
        if isinstance(wanted, Pairing):
            under_way = None if secret is None else _load(Pairing, secret, _PAIRING)
            stored = under_way is not None and under_way.is_same(wanted)
        else:
            try:
                stored = self._loaded(secret).fingerprint == wanted.fingerprint
            except CredentialsError:
                stored = False
        if not stored:
            raise CredentialsReplaced(f"the Secret {self.cluster_name} was changed by another client")

    def _write(
        self, cache: MutationCache, name: ObjectName, data: Callable[[Object | None], Data], *, dry_run: bool = False
    ) -> None:
        def wanted(secret: Object | None) -> Object | None:
            values = data(secret)
            if secret is None:
                return _new_secret(name, values) if values else None
            return secret if values == member(secret, "data") else {**secret, "data": values}

        def write(base: Object | None, obj: Object) -> Object:
            if base is None:
                written = self._client.create(SECRET, obj, namespace=name.namespace, dry_run=dry_run)
            else:
                written = self._client.update(SECRET, obj, namespace=name.namespace, dry_run=dry_run)
            if not dry_run:
                cache.mutated(written, base=base)
            return written

        writing.apply(
            wanted,
            what=f"the Secret {name}",
            read=lambda: cache.get(name.name, name.namespace),
            read_live=lambda: cache.refresh(
                name.name, name.namespace, lambda: self._client.get(SECRET, name.name, namespace=name.namespace)
            ),
            write=write,
        )


def read_credentials(key_pem: bytes, chain_pem: bytes, registration: Registration) -> StoredCredentials:
    """Credentials as `CredentialsStore.load` gives them; raises InvalidCredentials when the two do not fit."""
    return StoredCredentials(pair=certificates.load_credentials(key_pem, chain_pem), registration=registration)


def fault_of_registration(registration: Registration) -> str:
    """Which value cannot be used, and why; "" for none."""
    return _faults(
        {"runtime_id": registration.runtime_id, "tenant": registration.tenant},
        {"connector_url": registration.connector_url, "director_url": registration.director_url},
    )


def fault_of_pairing(pairing: Pairing) -> str:
    """Which value of the notes cannot be used, and why; "" for none. Key and subject show when they are used."""
    urls = {"token_url": pairing.token_url}
    if pairing.key:
        urls |= {"connector_url": pairing.connector_url, "director_url": pairing.director_url}
    return _faults({"runtime_id": pairing.runtime_id, "tenant": pairing.tenant, "token": pairing.token}, urls)


def _faults(texts: Mapping[str, str], urls: Mapping[str, str]) -> str:
    faults = {name: fault_of(value) for name, value in texts.items()}
    faults |= {name: fault_of_url(value) for name, value in urls.items()}
    return ", ".join(f"{name} {fault}" for name, fault in faults.items() if fault)


def going_on(pairing: Pairing, configuration: PairingConfiguration | ConfigurationProblem) -> Pairing | None:
    """A pairing under way as the configuration wants it by now; None when it asks for another one, or for none.

    A literal token is taken out of the CompassConnection when its pairing begins. So a pairing that began there goes on
    until a new token is put there, or something else that is configured changes. One that began with a tokenSecretRef
    goes on without that Secret, since its token is spent. The Connector does not ask for Runtime id and tenant. So when
    they are edited, the pairing goes on for the new ones: its token is as good for them, and may be spent.
    """
    if isinstance(configuration, ConfigurationProblem) and configuration.kind is ProblemKind.TOKEN_SECRET:
        return pairing if pairing.origin == SPEC_PAIRING and not pairing.beside else None
    if pairing.beside and not (isinstance(configuration, PairingConfiguration) and configuration.from_connection):
        return pairing if pairing.beside == fingerprint_of(configuration) else None
    if not isinstance(configuration, PairingConfiguration):
        return None
    before = replace(configuration, runtime_id=pairing.runtime_id, tenant=pairing.tenant)
    if pairing.configuration not in (configuration.fingerprint, before.fingerprint):
        return None
    return replace(
        pairing,
        configuration=configuration.fingerprint,
        runtime_id=configuration.runtime_id,
        tenant=configuration.tenant,
        token_url=configuration.connector_url,
    )


def fingerprint_of(configuration: PairingConfiguration | ConfigurationProblem) -> str:
    """Equal for equal configurations, those that cannot be used included."""
    return configuration.fingerprint if isinstance(configuration, PairingConfiguration) else configuration.text


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


@lru_cache(maxsize=4)  # checking a 4096 bit key takes longer than all the rest of a reconcile
def _read_pair(key_pem: bytes, certificate_pem: bytes, chain_pem: bytes) -> certificates.Credentials:
    try:
        pair = certificates.load_credentials(key_pem, chain_pem)
        leaf = certificates.parse_chain(certificate_pem)[0]
    except CompassError as error:
        raise CredentialsError(str(error)) from error
    if certificates.describe(leaf).fingerprint != pair.leaf.fingerprint:
        raise CredentialsError(f"{_CHAIN} does not begin with the certificate in {_CRT}")
    return pair


def _load(kind: type[_T], secret: Mapping[str, Any], key: str) -> _T | None:
    try:
        values = orjson.loads(secret_value(secret, key) or "null")
    except ValueError:
        return None
    if not isinstance(values, dict):
        return None
    known = {f.name: values[f.name] for f in fields(kind) if f.name in values and _fits(values[f.name], f.type)}
    try:
        return kind(**known)
    except TypeError:
        return None  # something without a default is missing


def _fits(value: object, wanted: object) -> bool:
    """Whether a field may have the value; numbers are epoch seconds, which have to be a time that can be written."""
    if wanted is int:
        return isinstance(value, int) and 0 <= value <= _LAST_SECOND
    return isinstance(value, str)
