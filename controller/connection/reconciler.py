"""Makes true: there are valid credentials, or pairing is being tried.

| credentials | CompassConnection | what is done |
|---|---|---|
| none, unreadable, expired (loss) | any | pair with the configured token |
| usable | deleted, new, or ConnectionFailed, with a token configured that did not win them | pair: a reconnect |
| usable | else | keep them, and tell of them what the CompassConnection lacks |
| refused (loss is suspected) | any | keep them, and try the configured token meanwhile |
| any but usable | marked as revoked | wait until something else is configured |
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from controller.backoff import Backoff
from controller.compass import certificates
from controller.compass.errors import Unavailable
from controller.connection import revocation
from controller.connection import status as cc
from controller.connection.configuration import (
    ConfigurationError,
    NothingConfigured,
    PairingConfiguration,
    TokenSecretUnusable,
)
from controller.connection.configured import Configured
from controller.connection.credentials import (
    Connection,
    CredentialsError,
    CredentialsMissing,
    CredentialsStore,
    StoredCredentials,
)
from controller.connection.health import Health
from controller.connection.pair import PairingFailed, PairingProcedure
from controller.connection.sessions import Sessions
from controller.connection.store import Change, ConnectionStore
from controller.metrics import AgentMetrics
from controller.resources import CONNECTION_NAME
from controller.runtime.events import EventRecorder
from controller.runtime.reconcile import Result
from workqueue.clock import Clock

_log = logging.getLogger(__name__)

_LOOK_AGAIN_SECONDS = 10.0
"""For what no event tells: the Secret of a tokenSecretRef, which may be any, is not watched."""

_CLOCK_CHECK_SECONDS = 60.0
"""Expiry is a matter of the wall clock, which may be set while a timer of the monotonic clock runs."""

_TO_RECONNECT = "to reconnect, configure a new one-time token"

Object = dict[str, Any]


class ConnectionReconciler:
    """Keyed by the name of a CompassConnection."""

    def __init__(
        self,
        *,
        connections: ConnectionStore,
        credentials: CredentialsStore,
        configured: Configured,
        sessions: Sessions,
        health: Health,
        backoff: Backoff,
        recorder: EventRecorder,
        metrics: AgentMetrics,
        clock: Clock,
        new_key: Callable[[], RSAPrivateKey] = certificates.new_key,
    ) -> None:
        self._connections = connections
        self._credentials = credentials
        self._configured = configured
        self._pairing = PairingProcedure(
            connections=connections, credentials=credentials, sessions=sessions, new_key=new_key
        )
        self._health = health
        self._backoff = backoff
        self._recorder = recorder
        self._metrics = metrics
        self._clock = clock
        self._spared = ""  # a configuration whose token is known to be spent, and the suspicion is young
        self._outlook = ""  # what became of the configured token while the connection is suspected to be lost
        self._failure = ""  # of the last pairing; its token may have gone from the configuration since

    def reconcile(self, name: str) -> Result:
        connection = self._connections.get(name)
        if name != CONNECTION_NAME:
            return self._ignore(name, connection)
        credentials, problem = self._usable_credentials(connection)
        if credentials is None:
            return self._pair(connection, problem)
        known = credentials.connection
        if known is None:
            return self._pair(connection, "Runtime id, tenant or URLs of the stored credentials are not known")
        if self._reconnect_is_wanted(connection, known):
            return self._pair(connection, "")
        if self._health.suspicion is None:
            return self._keep(connection, credentials, known)
        return self._suspect(connection, credentials, known)

    def _ignore(self, name: str, connection: Object | None) -> Result:
        if connection is not None:
            self._recorder.event(
                connection,
                "Warning",
                "Ignored",
                f"only the CompassConnection {CONNECTION_NAME} is served; this one has no effect",
            )
            _log.warning("CompassConnection ignored", extra={"connection": name, "served": CONNECTION_NAME})
        return Result()

    # --- what there is ---

    def _usable_credentials(self, connection: Object | None) -> tuple[StoredCredentials | None, str]:
        try:
            credentials = self._credentials.load()
        except CredentialsMissing as error:
            return None, str(error) if cc.was_established(connection) else ""  # before the first pairing, no loss
        except CredentialsError as error:
            return None, str(error)
        if self._clock.time() >= credentials.not_after:
            return None, f"the client certificate expired at {cc.timestamp(credentials.not_after)}"
        return self._complete(connection, credentials), ""

    def _complete(self, connection: Object | None, credentials: StoredCredentials) -> StoredCredentials:
        """Credentials that the Go agent left behind: write down what it keeps in other places."""
        if credentials.connection is not None:
            return credentials
        identity = self._configured.identity(connection)
        urls = (connection or {}).get("spec", {}).get("managementInfo") or {}
        if identity is None or not urls.get("directorUrl") or not urls.get("connectorUrl"):
            return credentials
        known = Connection(
            runtime_id=identity[0],
            tenant=identity[1],
            connector_url=urls["connectorUrl"],
            director_url=urls["directorUrl"],
        )
        self._credentials.save_connection(known)
        _log.info("connection of an earlier agent taken over", extra={"runtime": known.runtime_id})
        return replace(credentials, connection=known)

    def _reconnect_is_wanted(self, connection: Object | None, known: Connection) -> bool:
        """Whether the operator asks for new credentials although the stored ones are usable.

        Deleting the CompassConnection asks for it, or making one that does not tell of them. But when the configured
        token is the very one that won them, or there is none, a pairing is neither possible nor meant: it is what is
        found after a crash between storing credentials and telling of them.
        """
        state = cc.state_of(connection)
        if connection is not None and state is None:
            if connection.get("spec", {}).get("managementInfo") == _management_info(known):
                return False  # somebody wiped the status
        elif state not in (None, cc.State.CONNECTION_FAILED):
            return False
        configuration, missing = self._resolve(connection)
        if configuration is None:
            return not isinstance(missing, NothingConfigured)  # for its problem to be told
        return configuration.fingerprint != known.paired_with

    def _resolve(self, connection: Object | None) -> tuple[PairingConfiguration | None, ConfigurationError | None]:
        deleted_or_new = cc.state_of(connection) is None
        try:
            return self._configured.resolve(connection, live=deleted_or_new), None
        except ConfigurationError as error:
            return None, error

    # --- what is done ---

    def _keep(self, connection: Object | None, credentials: StoredCredentials, known: Connection) -> Result:
        self._backoff.succeeded()
        self._spared = self._outlook = ""
        self._write(connection, self._description(credentials, known, paired_now=False))
        left = credentials.not_after - self._clock.time()
        return Result(requeue_after=min(max(0.0, left), _CLOCK_CHECK_SECONDS))

    def _suspect(self, connection: Object | None, credentials: StoredCredentials, known: Connection) -> Result:
        """The credentials are refused: see whether the configured token works, and keep them until it does."""
        # An unknown tenant or Runtime is refused like a revoked certificate, so whoever reads this has to see both.
        suspicion = f"{self._health.suspicion} (asked as Runtime {known.runtime_id} of tenant {known.tenant})"
        configuration, missing = self._resolve(connection)
        spent = configuration is not None and configuration.fingerprint == known.paired_with
        if configuration is not None and spent and self._spared != configuration.fingerprint:
            # Refusals may be over in a moment, and a token that is known to be spent is the least of hopes.
            self._spared = configuration.fingerprint
            self._backoff.failed(configuration.fingerprint)
        left = max(0.0, credentials.not_after - self._clock.time())
        if configuration is None:
            self._outlook = ""
            self._tell_suspicion(connection, f"{suspicion}; {_TO_RECONNECT}; {missing}")
            return Result(requeue_after=min(_LOOK_AGAIN_SECONDS, left))
        delay = self._backoff.wait(configuration.fingerprint)
        if delay > 0:
            outlook = self._outlook or f"{_TO_RECONNECT} in {configuration.origin}"
            self._tell_suspicion(connection, f"{suspicion}; {outlook}")
            return Result(requeue_after=min(delay, left))
        return self._pair(connection, suspicion, suspected=True)

    def _pair(self, connection: Object | None, problem: str, *, suspected: bool = False) -> Result:
        configuration, missing = self._resolve(connection)
        if revocation.is_marked(connection, configuration):
            self._tell_failure(connection, revocation.reason(configuration))
            return Result()
        under_way = self._pairing.under_way(configuration)
        what = under_way.configuration if under_way else configuration.fingerprint if configuration else None
        if what is None:
            text = str(missing)
            if self._failure and isinstance(missing, NothingConfigured):
                text += f"; the last pairing ended so: {self._failure}"
            self._tell_failure(connection, _because(text, problem))
            return Result(requeue_after=_LOOK_AGAIN_SECONDS if isinstance(missing, TokenSecretUnusable) else None)
        delay = self._backoff.wait(what)
        if delay > 0:
            return Result(requeue_after=delay)
        try:
            fresh, origin = self._pairing.run(configuration, under_way)
        except PairingFailed as failure:
            return self._failed(connection, failure, problem, what=what, suspected=suspected)
        self._paired(fresh, origin)
        return Result(requeue_after=0.0)

    def _paired(self, fresh: StoredCredentials, origin: str) -> None:
        self._backoff.succeeded()
        self._spared = self._outlook = self._failure = ""
        self._metrics.pairing("success")
        self._health.replaced(self._clock.time())
        known = fresh.connection
        if known is None:
            raise ValueError("pairing gave credentials without what belongs to them")
        _log.info("paired with Compass", extra={"runtime": known.runtime_id, "fingerprint": fresh.fingerprint})
        connection = self._connections.put(CONNECTION_NAME, self._description(fresh, known, paired_now=True))
        self._recorder.event(
            connection,
            "Normal",
            "Connected",
            f"paired with Compass through {origin} as Runtime {known.runtime_id}; the certificate is valid until "
            f"{cc.timestamp(fresh.not_after)}",
        )

    def _failed(
        self, connection: Object | None, failure: PairingFailed, problem: str, *, what: str, suspected: bool
    ) -> Result:
        self._metrics.pairing("error")
        cause = failure.__cause__
        delay = self._backoff.failed(what, at_least=cause.retry_after if isinstance(cause, Unavailable) else None)
        identified = f"x-request-id: {failure.request_id} failed: " if failure.request_id else ""
        prefix, _, rest = str(failure).partition(": ")
        text = f"{prefix}: {identified}{rest}"
        if suspected:
            self._outlook = f"pairing anew failed too: {text}"
            self._tell_suspicion(connection, f"{problem}; {self._outlook}", event=f"{problem}; {failure}")
        else:
            self._failure = text
            self._tell_failure(connection, _because(text, problem), event=_because(str(failure), problem))
        return Result(requeue_after=delay)

    # --- what is told ---

    def _write(self, connection: Object | None, change: Change) -> Object | None:
        """Change the CompassConnection that was reconciled, or create one where there was none.

        One that is deleted at this moment asks for a reconnect: it is not created again, and this gives None.
        """
        if connection is None:
            return self._connections.put(CONNECTION_NAME, change)
        return self._connections.update(connection, change)

    def _description(self, credentials: StoredCredentials, known: Connection, *, paired_now: bool) -> Change:
        now = self._clock.time()
        validity = cc.Validity(credentials.not_before, credentials.not_after)

        def change(obj: Object) -> None:
            obj.setdefault("spec", {})["managementInfo"] = _management_info(known)
            if paired_now:
                revocation.unmark(obj)
            if paired_now or cc.state_of(obj) in (None, cc.State.CONNECTION_FAILED):
                cc.paired(obj, validity=validity, runtime_id=known.runtime_id, tenant=known.tenant, now=now)
            cc.describe_runtime(obj, runtime_id=known.runtime_id, tenant=known.tenant)
            cc.certificate_known(obj, validity=validity)

        return change

    def _tell_failure(self, connection: Object | None, text: str, *, event: str = "") -> None:
        """Write the failure where the operator looks. The same failure again is written once."""
        if cc.state_of(connection) is cc.State.CONNECTION_FAILED and cc.connection_error(connection) == cc.shorten(
            text
        ):
            return
        _log.warning("no connection to Compass", extra={"error": text})
        now = self._clock.time()
        written = self._connections.put(CONNECTION_NAME, lambda obj: cc.connection_failed(obj, text, now=now))
        self._recorder.event(written, "Warning", "PairingFailed", event or text)

    def _tell_suspicion(self, connection: Object | None, text: str, *, event: str = "") -> None:
        """The same for a connection that may be lost."""
        now = self._clock.time()
        wanted: Object = {}
        cc.maintenance_failed(wanted, text, now=now)
        if (cc.state_of(connection), cc.connection_error(connection)) == (
            cc.state_of(wanted),
            cc.connection_error(wanted),
        ):
            return
        _log.warning("the connection to Compass may be lost", extra={"error": text})
        written = self._write(connection, lambda obj: cc.maintenance_failed(obj, text, now=now))
        if written is not None:
            self._recorder.event(written, "Warning", "ConnectionSuspected", event or text)


def _because(text: str, problem: str) -> str:
    return f"{text} (pairing is needed: {problem})" if problem else text


def _management_info(connection: Connection) -> Object:
    return {"connectorUrl": connection.connector_url, "directorUrl": connection.director_url}
