"""Makes true: the certificate is never older than its threshold, and the URLs are the ones the Connector tells.

Asks the Connector once a period over mTLS, and at the very moment the threshold is crossed. The old certificate stays
in use until the new one is stored; the new one was proven to belong to its key before.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from controller.backoff import Backoff
from controller.compass import certificates
from controller.compass.connector import ConnectorClient
from controller.compass.errors import CompassError, Refused, Unavailable
from controller.compass.types import Configuration
from controller.connection import status as cc
from controller.connection.credentials import (
    Connection,
    CredentialsError,
    CredentialsReplaced,
    CredentialsStore,
    StoredCredentials,
)
from controller.connection.health import CONNECTOR, Health
from controller.connection.sessions import Sessions, announced_urls, request_id
from controller.connection.store import ConnectionStore
from controller.metrics import AgentMetrics
from controller.runtime.events import EventRecorder
from controller.runtime.reconcile import Result
from informers.errors import ApiError
from workqueue.clock import Clock

_log = logging.getLogger(__name__)

Object = dict[str, Any]

_PERIOD_JITTER = 0.1


@dataclass(frozen=True)
class RenewalPolicy:
    """When to renew and how often to ask; seconds, and a part of the validity."""

    threshold: float
    minimal_sync_time: float
    sync_period: float

    def due_at(self, *, not_before: float, not_after: float) -> float:
        """The moment from which the certificate is too old; epoch seconds."""
        margin = max((not_after - not_before) * self.threshold, 2 * self.minimal_sync_time)
        return not_after - min(margin, not_after - not_before)


class RenewalReconciler:
    """Keyed by the name of the CompassConnection."""

    def __init__(
        self,
        *,
        policy: RenewalPolicy,
        connections: ConnectionStore,
        credentials: CredentialsStore,
        sessions: Sessions,
        health: Health,
        backoff: Backoff,
        recorder: EventRecorder,
        metrics: AgentMetrics,
        clock: Clock,
        random: Callable[[], float],
        new_key: Callable[[], RSAPrivateKey] = certificates.new_key,
    ) -> None:
        self._new_key = new_key
        self._policy = policy
        self._connections = connections
        self._credentials = credentials
        self._sessions = sessions
        self._health = health
        self._backoff = backoff
        self._recorder = recorder
        self._metrics = metrics
        self._clock = clock
        self._random = random
        self._next_check = 0.0
        self._checked = ""

    def reconcile(self, name: str) -> Result:
        connection = self._connections.get(name)
        if connection is None or cc.state_of(connection) in (None, cc.State.CONNECTION_FAILED):
            return Result()  # pairing comes first, and its end wakes this
        try:
            credentials = self._credentials.load()
        except CredentialsError:
            return Result()
        known = credentials.connection
        now = self._clock.time()
        if known is None or now >= credentials.not_after:
            return Result()
        self._metrics.certificate(credentials.not_before, credentials.not_after)
        self._mend_ca(credentials)
        due_at = self._policy.due_at(not_before=credentials.not_before, not_after=credentials.not_after)
        why = self._why_renew(connection, now >= due_at)
        next_check = self._next_check - self._clock.monotonic() if self._checked == credentials.fingerprint else 0.0
        if not why and next_check > 0:
            return Result(requeue_after=min(next_check, due_at - now))
        delay = self._backoff.wait(credentials.fingerprint)
        if delay > 0:
            return Result(requeue_after=delay)
        try:
            credentials = self._maintain(connection, credentials, known, why)
        except CredentialsReplaced:
            return Result(requeue_after=0.0)
        except (CompassError, ApiError) as error:
            return self._failed(connection, credentials, error, why)
        self._backoff.succeeded()
        self._checked = credentials.fingerprint
        period = self._policy.sync_period * (1 + _PERIOD_JITTER * self._random())
        self._next_check = self._clock.monotonic() + period
        due_at = self._policy.due_at(not_before=credentials.not_before, not_after=credentials.not_after)
        return Result(requeue_after=max(0.0, min(period, due_at - self._clock.time())))

    def _why_renew(self, connection: Object | None, too_old: bool) -> str:
        if too_old:
            return "the threshold of its validity is crossed"
        if cc.flag(connection, "refreshCredentialsNow"):
            return "refreshCredentialsNow is set"
        if not self._credentials.ca_secret_exists():
            return f"the Secret {self._credentials.ca_name} is missing"
        return ""

    def _mend_ca(self, credentials: StoredCredentials) -> None:
        """Undo what was done to the CA Secret; one that is missing is a reason to renew instead."""
        if not credentials.ca_pem or not self._credentials.ca_secret_exists():
            return
        try:
            self._credentials.save_ca(credentials.ca_pem)  # a write only when it is not the chain's
        except ApiError as error:
            _log.warning(
                "CA certificate not stored", extra={"secret": str(self._credentials.ca_name), "error": str(error)}
            )

    def _maintain(
        self, connection: Object, credentials: StoredCredentials, known: Connection, why: str
    ) -> StoredCredentials:
        if why:
            self._credentials.check_writable()  # before a certificate is issued that could not be stored
        connector = self._sessions.connector(credentials)
        identifier = request_id(known.runtime_id)
        with self._credentials.in_use(credentials):
            offered = connector.configuration(known.connector_url, request_id=identifier)
        urls = announced_urls(offered, request_id=identifier)
        self._health.accepted(CONNECTOR)
        if urls != (known.connector_url, known.director_url):
            known = replace(known, connector_url=urls[0], director_url=urls[1])
            if not why:
                self._credentials.save_connection(known)
            _log.info("Compass has moved", extra={"connector": urls[0], "director": urls[1]})
        if why:
            credentials = self._renew(connection, credentials, connector, offered, known, why)
        else:
            credentials = replace(credentials, connection=known)
        self._tell(connection, known)
        return credentials

    def _renew(
        self,
        connection: Object,
        credentials: StoredCredentials,
        connector: ConnectorClient,
        offered: Configuration,
        known: Connection,
        why: str,
    ) -> StoredCredentials:
        _log.info("renewing the certificate", extra={"reason": why})
        key = self._new_key()
        csr = certificates.build_csr(offered.subject, key)
        with self._credentials.in_use(credentials):
            signed = connector.sign(known.connector_url, csr, request_id=request_id(known.runtime_id))
        fresh = self._credentials.save(
            key_pem=certificates.key_to_pem(key), chain_pem=signed.chain_pem, connection=known
        )
        now = self._clock.time()
        validity = cc.Validity(fresh.not_before, fresh.not_after)

        def change(obj: Object) -> None:
            cc.renewed(obj, validity=validity, now=now)
            obj["spec"].pop("refreshCredentialsNow", None)

        written = self._connections.update(connection, change)
        self._metrics.certificate(validity.not_before, validity.not_after)
        self._metrics.renewal("success")
        if written is not None:
            self._recorder.event(
                written,
                "Normal",
                "CertificateRenewed",
                f"renewed because {why}; valid until {cc.timestamp(validity.not_after)}",
            )
        self._credentials.save_ca(signed.ca_pem)
        return fresh

    def _tell(self, connection: Object, known: Connection) -> None:
        """Clears a failure and writes moved URLs. That all is well once more is told with the next sync's status."""
        current = self._connections.get(connection["metadata"]["name"])
        spec = (current or {}).get("spec", {}).get("managementInfo")
        management_info = {"connectorUrl": known.connector_url, "directorUrl": known.director_url}
        failed = cc.state_of(current) is cc.State.CONNECTION_MAINTENANCE_FAILED and self._health.suspicion is None
        now = self._clock.time()
        self._health.connector_answered(now)
        if not failed and spec == management_info:
            return

        def change(obj: Object) -> None:
            obj["spec"]["managementInfo"] = management_info
            if failed:
                cc.maintained(obj, now=now)

        written = self._connections.update(connection, change)
        if failed and written is not None:
            self._recorder.event(written, "Normal", "ConnectionRestored", "the Connector accepts the certificate again")

    def _failed(
        self, connection: Object, credentials: StoredCredentials, error: CompassError | ApiError, why: str
    ) -> Result:
        self._health.connector_failed()
        if isinstance(error, Refused):
            self._health.refused(CONNECTOR, str(error))
        if why:
            self._metrics.renewal("error")
        at_least = error.retry_after if isinstance(error, Unavailable) else None
        delay = self._backoff.failed(credentials.fingerprint, at_least=at_least)
        now = self._clock.time()
        text = str(error)
        if why:
            left = max(0, int(credentials.not_after - now))
            text = f"renewal failed, the certificate is valid for {_duration(left)} more: {text}"
        written = self._connections.update(connection, lambda obj: cc.maintenance_failed(obj, text, now=now))
        if written is not None:
            self._recorder.event(written, "Warning", "RenewalFailed" if why else "ConnectionMaintenanceFailed", text)
        _log.warning("maintaining the connection failed", extra={"error": text})
        return Result(requeue_after=delay)


def _duration(seconds: int) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
