"""Clients of Connector and Director, each with the connections of one certificate.

A pooled TLS connection keeps its certificate and its trusted CAs. So when the certificate or the file with the CAs of
Compass changes, the old pool is dropped.
"""

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from controller.compass import tls
from controller.compass.connector import ConnectorClient
from controller.compass.director import DirectorClient
from controller.compass.errors import InvalidAnswer
from controller.compass.fetch import KnownApplications
from controller.compass.graphql import Observe, Transport
from controller.compass.limits import Limits
from controller.compass.types import SigningOffer
from controller.connection.credentials import CredentialsStore, Registration, StoredCredentials
from controller.connection.store import ConnectionStore
from controller.validation import fault_of_url
from informers import Stop
from workqueue.clock import Clock


def new_request_id(runtime_id: str = "") -> str:
    """A new x-request-id. It contains the id of the Runtime, so operators of Compass can find it in their logs."""
    return f"{runtime_id}_{uuid.uuid4()}" if runtime_id else str(uuid.uuid4())


def announced_urls(offered: SigningOffer, *, request_id: str) -> tuple[str, str]:
    """The URLs of Connector and Director for the certificate. Raises InvalidAnswer if they are invalid, because such a
    connection could never be used or renewed.
    """
    connector_url, director_url = offered.connector_url or "", offered.director_url or ""
    for field, url in (("certificateSecuredConnectorURL", connector_url), ("directorURL", director_url)):
        if fault := fault_of_url(url):
            raise InvalidAnswer(
                f"the address {fault}" if url else "is missing",
                path=f"configuration.managementPlaneInfo.{field}",
                request_id=request_id,
            )
    return connector_url, director_url


class CompassClients:
    """Thread-safe. `stop` ends the calls. Methods raise InvalidRequest for an invalid CA file, InvalidCredentials for
    an invalid pair."""

    def __init__(
        self,
        *,
        ca_file: Path | None,
        skip_verify: bool,
        limits: Limits | None = None,
        log_queries: bool = False,
        observe: Observe | None = None,
        stop: Stop | None = None,
    ) -> None:
        self._ca_file = ca_file
        self._skip_verify = skip_verify
        self._limits = limits or Limits()
        self._log_queries = log_queries
        self._observe = observe
        self._stop = stop or Stop()
        self._lock = threading.Lock()
        self._known: KnownApplications = {}
        self._transport: tuple[tuple[str, str], Transport] | None = None  # and what it was opened for

    @contextmanager
    def temporary_connector(self, credentials: StoredCredentials | None) -> Iterator[ConnectorClient]:
        """A Connector client for a few calls, without a certificate or with one that is not used yet."""
        transport = self._open(credentials)
        try:
            yield ConnectorClient(transport)
        finally:
            transport.close()

    def connector(self, credentials: StoredCredentials) -> ConnectorClient:
        return ConnectorClient(self._transport_of(credentials))

    def director(self, credentials: StoredCredentials, registration: Registration) -> DirectorClient:
        return DirectorClient(
            self._transport_of(credentials),
            registration.director_url,
            tenant=registration.tenant,
            limits=self._limits,
            known=self._known,
        )

    def close(self) -> None:
        with self._lock:
            transport, self._transport = self._transport, None
        if transport is not None:
            transport[1].close()

    def _transport_of(self, credentials: StoredCredentials) -> Transport:
        opened_for = (credentials.fingerprint, self._trusted())
        with self._lock:
            if self._transport is not None and self._transport[0] == opened_for:
                return self._transport[1]
            fresh = self._open(credentials)
            old, self._transport = self._transport, (opened_for, fresh)
        if old is not None:
            old[1].close()
        return fresh

    def _trusted(self) -> str:
        """A fingerprint of the CA file; "" if there is none, or if it cannot be read, which the next pool reports."""
        if self._ca_file is None:
            return ""
        try:
            return hashlib.sha256(self._ca_file.read_bytes()).hexdigest()
        except OSError:
            return ""

    def _open(self, credentials: StoredCredentials | None) -> Transport:
        context = tls.client_context(
            credentials.pair if credentials else None, ca_file=self._ca_file, skip_verify=self._skip_verify
        )
        return Transport(
            context,
            answer_bytes=self._limits.answer_bytes,
            log_queries=self._log_queries,
            observe=self._observe,
            stop=self._stop,
        )


@dataclass(frozen=True, kw_only=True)
class Dependencies:
    """The cluster, Compass and the time, for all parts of the connection. `new_key` makes client keys of that many
    bits.
    """

    connections: ConnectionStore
    credentials: CredentialsStore
    clients: CompassClients
    clock: Clock
    new_key: Callable[[int], RSAPrivateKey]
