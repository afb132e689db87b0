"""The credentials that pairing won, and how they are kept in the cluster.

Two Secrets, as the Go agent and the Istio gateway know them:

| Secret | key | content |
|---|---|---|
| ``APP_CLUSTER_CERTIFICATES_SECRET`` | ``crt`` | client certificate, PEM |
| | ``key`` | its private key, PKCS#1 PEM |
| | ``crtChain`` | client certificate, CA (and root), PEM |
| | ``connection`` | what else belongs to this connection: runtime id, tenant, URLs (JSON) |
| | ``pairing`` | a pairing under way: key, second token, subject (JSON); gone when it is done |
| ``APP_CA_CERTIFICATES_SECRET`` | ``cacert`` | CA certificate (and root), PEM |

One write of the first Secret switches key, certificate and connection together, so a reader never sees a half. The
second Secret follows from ``crtChain`` and can be written again at any time. Other keys, labels and annotations
survive.

    CredentialsError          the stored credentials cannot be used: says which key of which Secret
    ├── CredentialsMissing    there are none at all
    └── CredentialsReplaced   others are stored by now
"""

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from typing import Any, TypeVar

import orjson

from controller.compass import certificates
from controller.compass.errors import CompassError
from controller.connection.configuration import PairingConfiguration, secret_value
from controller.resources import SECRET
from controller.settings import ObjectName
from informers.client import Client
from informers.errors import AlreadyExists, Conflict, NotFound
from informers.mutation_cache import MutationCache

_T = TypeVar("_T", "Connection", "Pairing")

_MAX_CONFLICTS = 5  # each retry starts from what the API server has, so more mean a fight that back-off should end

_CRT, _KEY, _CHAIN, _CONNECTION, _PAIRING, _CACERT = "crt", "key", "crtChain", "connection", "pairing", "cacert"

Object = dict[str, Any]


class CredentialsError(Exception):
    """There are no credentials that could be used."""


class CredentialsMissing(CredentialsError):
    """There is no Secret, or it holds no credentials yet."""


class CredentialsReplaced(CredentialsError):
    """While a call to Compass was under way, other credentials were stored."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """What belongs to the certificate: who we are, and where. ``paired_with`` is the configuration's fingerprint."""

    runtime_id: str
    tenant: str
    connector_url: str
    director_url: str
    paired_with: str = ""


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """A pairing whose first token is spent: all that is needed to go on after a restart."""

    configuration: str  # fingerprint of the configuration that it began with
    origin: str
    from_connection: bool
    runtime_id: str
    tenant: str
    token_url: str
    connector_url: str
    director_url: str
    subject: str
    key: str = field(repr=False)
    token: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class StoredCredentials:
    """A key and its certificate chain, proven to belong together, and the connection they were won for."""

    pair: certificates.Credentials
    connection: Connection | None  # None: stored by the Go agent, which keeps this elsewhere

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

    def load(self) -> StoredCredentials:
        """The stored credentials; raises CredentialsError saying what is missing or wrong."""
        secret = self._cluster_secret()
        if secret is None:
            raise CredentialsMissing(f"the Secret {self.cluster_name} does not exist")
        if not {_KEY, _CRT, _CHAIN} & (secret.get("data") or {}).keys():
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
        return StoredCredentials(pair=pair, connection=_load(Connection, secret, _CONNECTION))

    @contextmanager
    def in_use(self, credentials: StoredCredentials) -> Iterator[None]:
        """A call to Compass with these credentials; raises CredentialsReplaced when others are usable by its end.

        What such a call tells, a refusal above all, is about a connection that is no more.
        """
        try:
            yield
        finally:
            if self._replaced(credentials):
                raise CredentialsReplaced(f"the Secret {self.cluster_name} holds other credentials by now")

    def load_pairing(self) -> Pairing | None:
        """The pairing under way, if any; one that cannot be read counts as none."""
        secret = self._cluster_secret()
        return None if secret is None else _load(Pairing, secret, _PAIRING)

    def save_pairing(self, pairing: Pairing | None) -> None:
        """Keep the pairing, or forget it; raises informers.ApiError."""
        self._write_cluster({_PAIRING: None if pairing is None else orjson.dumps(asdict(pairing))})

    def save(self, *, key_pem: bytes, chain_pem: bytes, connection: Connection) -> StoredCredentials:
        """Switch to new credentials, and end the pairing that won them; gives them as `load` will.

        Raises InvalidCredentials, with nothing written, when key and chain do not belong together; or
        informers.ApiError.
        """
        fresh = StoredCredentials(pair=certificates.load_credentials(key_pem, chain_pem), connection=connection)
        leaf = certificates.parse_chain(chain_pem)[:1]
        self._write_cluster(
            {
                _CRT: certificates.chain_to_pem(leaf),
                _KEY: key_pem,
                _CHAIN: chain_pem,
                _CONNECTION: orjson.dumps(asdict(connection)),
                _PAIRING: None,
            }
        )
        return fresh

    def save_connection(self, connection: Connection) -> None:
        """Keep what belongs to the certificate, the certificate staying as it is; raises informers.ApiError."""
        self._write_cluster({_CONNECTION: orjson.dumps(asdict(connection))})

    def ca_secret_exists(self) -> bool:
        return self._ca_secrets.get(self.ca_name.name, self.ca_name.namespace) is not None

    def save_ca(self, ca_pem: bytes) -> None:
        """Hand the CA certificates to the gateway; raises informers.ApiError."""
        self._write(self._ca_secrets, self.ca_name, {_CACERT: ca_pem})

    def check_writable(self) -> None:
        """Try both writes without storing anything, before a token is spent on them; raises informers.ApiError."""
        self._write(self._cluster_secrets, self.cluster_name, {}, dry_run=True)
        self._write(self._ca_secrets, self.ca_name, {}, dry_run=True)

    def delete(self) -> None:
        """Remove both Secrets; raises informers.ApiError."""
        for name in (self.cluster_name, self.ca_name):
            try:
                self._client.delete(SECRET, name.name, namespace=name.namespace)
            except NotFound:
                continue

    def _replaced(self, credentials: StoredCredentials) -> bool:
        try:
            return self.load().fingerprint != credentials.fingerprint
        except CredentialsError:
            return False  # what was lost meanwhile is better stored again

    def _cluster_secret(self) -> Object | None:
        return self._cluster_secrets.get(self.cluster_name.name, self.cluster_name.namespace)

    def _write_cluster(self, values: Mapping[str, bytes | None]) -> None:
        self._write(self._cluster_secrets, self.cluster_name, values)

    def _write(
        self, cache: MutationCache, name: ObjectName, values: Mapping[str, bytes | None], *, dry_run: bool = False
    ) -> None:
        base = cache.get(name.name, name.namespace)
        for _ in range(_MAX_CONFLICTS):
            try:
                written = self._write_onto(base, name, values, dry_run=dry_run)
            except (AlreadyExists, Conflict):
                base = self._get_live(cache, name)
            except NotFound:
                if base is None:
                    raise  # the namespace is missing
                base = self._get_live(cache, name)
            else:
                if written is not None and not dry_run:
                    cache.mutated(written, base=base)
                return
        raise Conflict(f"the Secret {name} kept changing while it was written", status=409, reason="Conflict")

    def _write_onto(
        self, base: Object | None, name: ObjectName, values: Mapping[str, bytes | None], *, dry_run: bool
    ) -> Object | None:
        data = dict((base or {}).get("data") or {})
        for key, value in values.items():
            if value is None:
                data.pop(key, None)
            else:
                data[key] = base64.b64encode(value).decode()
        if base is None and not data and not dry_run:
            return None
        if base is None:
            wanted: Object = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name.name, "namespace": name.namespace},
                "data": data,
            }
            return self._client.create(SECRET, wanted, namespace=name.namespace, dry_run=dry_run)
        if dry_run or data != (base.get("data") or {}):
            return self._client.update(SECRET, {**base, "data": data}, namespace=name.namespace, dry_run=dry_run)
        return None

    def _get_live(self, cache: MutationCache, name: ObjectName) -> Object | None:
        return cache.refresh(
            name.name, name.namespace, lambda: self._client.get(SECRET, name.name, namespace=name.namespace)
        )


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


def pairing_matches(pairing: Pairing, configuration: PairingConfiguration | None) -> bool:
    """Whether a pairing under way is the one that the configuration asks for.

    A literal token is removed from the CompassConnection as soon as it is spent. So a pairing that began there goes on
    until somebody puts a new token into the CompassConnection.
    """
    if configuration is None or (pairing.from_connection and not configuration.from_connection):
        return pairing.from_connection
    return pairing.configuration == configuration.fingerprint


def _load(kind: type[_T], secret: Mapping[str, Any], key: str) -> _T | None:
    try:
        values = orjson.loads(secret_value(secret, key) or "null")
    except ValueError:
        return None
    if not isinstance(values, dict):
        return None
    known = {f.name for f in fields(kind)}
    try:
        loaded = kind(**{name: value for name, value in values.items() if name in known})
    except TypeError:
        return None  # something is missing
    fits = all(
        isinstance(getattr(loaded, f.name), f.type if isinstance(f.type, type) else object) for f in fields(kind)
    )
    return loaded if fits else None
