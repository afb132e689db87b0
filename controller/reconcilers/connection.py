"""Makes true: there are valid credentials, or pairing is being tried.

    no CompassConnection ─┐                        ┌─ credentials unreadable or expired (loss)
    ConnectionFailed ─────┴─▶ pair with the token ◀┴─ credentials refused (loss is suspected: they are kept meanwhile)

Pairing survives being killed at any point. The first token is spent by asking the Connector for its configuration, and
what came back is stored before the second token is used; the credentials are stored before the state tells of them.
Only between the Connector's signing and the storing of its answer may a token be lost, and then the error says so.
"""

import logging
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from controller import status as cc
from controller.compass import certificates
from controller.compass.errors import (
    CompassError,
    GraphQLError,
    InvalidAnswer,
    InvalidCredentials,
    Refused,
    Unavailable,
)
from controller.compass.types import SignedCertificate
from controller.configuration import ConfigurationError, PairingConfiguration
from controller.connections import ConnectionStore
from controller.credentials import (
    Connection,
    CredentialsError,
    CredentialsMissing,
    CredentialsStore,
    Pairing,
    StoredCredentials,
    pairing_matches,
)
from controller.metrics import AgentMetrics
from controller.reconcilers.attempts import Attempts
from controller.reconcilers.configured import Configured
from controller.reconcilers.link import Link
from controller.resources import CONNECTION_NAME
from controller.runtime.events import EventRecorder
from controller.runtime.reconcile import Result
from controller.sessions import Sessions, request_id
from informers.errors import ApiError
from workqueue.clock import Clock

_log = logging.getLogger(__name__)

_TOKEN_SPENT = (Refused, GraphQLError, InvalidAnswer, InvalidCredentials)
"""After one of these, a pairing under way cannot go on: its token is spent, or its key is unreadable."""

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
        link: Link,
        attempts: Attempts,
        recorder: EventRecorder,
        metrics: AgentMetrics,
        clock: Clock,
    ) -> None:
        self._connections = connections
        self._credentials = credentials
        self._configured = configured
        self._sessions = sessions
        self._link = link
        self._attempts = attempts
        self._recorder = recorder
        self._metrics = metrics
        self._clock = clock
        self._signed: tuple[Pairing, SignedCertificate] | None = None
        self._suspected: str | None = None

    def reconcile(self, name: str) -> Result:
        connection = self._connections.get(name)
        if name != CONNECTION_NAME:
            return self._ignore(name, connection)
        credentials, problem = self._usable_credentials()
        if credentials is not None and self._established(connection, credentials):
            credentials = self._complete(connection, credentials)
            if self._link.suspicion is None:
                return self._keep(connection, credentials)
            return self._try_token(connection, credentials)
        return self._pair(connection, problem)

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

    def _usable_credentials(self) -> tuple[StoredCredentials | None, str]:
        try:
            credentials = self._credentials.load()
        except CredentialsMissing:
            return None, ""  # nothing to tell before the first pairing
        except CredentialsError as error:
            return None, str(error)
        if self._clock.time() >= credentials.not_after:
            return None, f"the client certificate expired at {cc.timestamp(credentials.not_after)}"
        return credentials, ""

    def _established(self, connection: Object | None, credentials: StoredCredentials) -> bool:
        """Whether the stored credentials are the ones to use, or the operator asks for new ones.

        Deleting the CompassConnection asks for a new pairing. But when the configured token is the very one that won
        the stored credentials, or there is none, a new pairing is neither possible nor meant: it is what is found after
        a crash between storing the credentials and telling of them.
        """
        state = cc.state_of(connection)
        if state not in (None, cc.State.CONNECTION_FAILED):
            return True
        if credentials.connection is None:
            return False
        try:
            configuration = self._configured.resolve(connection)
        except ConfigurationError:
            return state is None
        return configuration.fingerprint == credentials.connection.paired_with

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

    def _keep(self, connection: Object | None, credentials: StoredCredentials) -> Result:
        self._attempts.succeeded()
        self._suspected = None
        known = credentials.connection
        if known is None:
            return self._tell_failure(
                connection,
                "runtime id, tenant or URLs of the connection are not known: add RUNTIME_ID and TENANT to the "
                "configuration, or pair anew with a new token",
                suspected=True,
            )
        now = self._clock.time()
        validity = _validity(credentials)

        def change(obj: Object) -> None:
            obj.setdefault("spec", {})["managementInfo"] = _management_info(known)
            if cc.state_of(obj) in (None, cc.State.CONNECTION_FAILED):
                cc.paired(obj, validity=validity, runtime_id=known.runtime_id, tenant=known.tenant, now=now)
            cc.describe_runtime(obj, runtime_id=known.runtime_id, tenant=known.tenant)
            cc.certificate_known(obj, validity=validity)

        self._connections.update(CONNECTION_NAME, change, create=True)
        return Result(requeue_after=max(0.0, credentials.not_after - now))

    def _try_token(self, connection: Object | None, credentials: StoredCredentials) -> Result:
        """The credentials are refused: see whether the configured token works, and keep them until it does."""
        try:
            configuration = self._configured.resolve(connection)
        except ConfigurationError as error:
            _log.warning("no token to pair anew with", extra={"error": str(error)})
            return Result(requeue_after=max(0.0, credentials.not_after - self._clock.time()))
        spent = credentials.connection is not None and (configuration.fingerprint == credentials.connection.paired_with)
        if spent and self._suspected != configuration.fingerprint:
            # Refusals may be over in a moment, and a token that is known to be spent is the least of hopes.
            self._suspected = configuration.fingerprint
            return Result(requeue_after=self._attempts.failed(configuration.fingerprint))
        return self._pair(connection, self._link.suspicion or "", suspected=True)

    def _pair(self, connection: Object | None, problem: str, *, suspected: bool = False) -> Result:
        configuration: PairingConfiguration | None = None
        missing = ""
        try:
            configuration = self._configured.resolve(connection)
        except ConfigurationError as error:
            missing = str(error)
        pairing = self._credentials.load_pairing()
        if pairing is not None and not pairing_matches(pairing, configuration):
            pairing = None
        if pairing is not None:
            what = pairing.configuration
        elif configuration is not None:
            what = configuration.fingerprint
        else:
            return self._tell_failure(connection, f"{problem}; {missing}" if problem else missing, suspected=suspected)
        delay = self._attempts.wait(what)
        if delay > 0:
            return Result(requeue_after=delay)
        resumed = pairing is not None
        try:
            if pairing is None:
                assert configuration is not None
                pairing = self._begin(configuration)
            self._finish(pairing)
        except (CompassError, ApiError) as error:
            return self._failed(connection, error, what=what, resumed=resumed, suspected=suspected)
        self._attempts.succeeded()
        self._suspected = None
        self._metrics.pairing("success")
        return Result(requeue_after=0.0)

    def _begin(self, configuration: PairingConfiguration) -> Pairing:
        """Spends the configured token; what it gives is stored before anything is done with it."""
        self._credentials.check_writable()
        _log.info("pairing with Compass", extra={"origin": configuration.origin, "url": configuration.connector_url})
        with self._sessions.pairing_connector() as connector:
            offered = connector.configuration(
                configuration.connector_url,
                token=configuration.token,
                request_id=request_id(configuration.runtime_id),
            )
        key = certificates.new_key()
        pairing = Pairing(
            configuration=configuration.fingerprint,
            origin=configuration.origin,
            from_connection=configuration.from_connection,
            runtime_id=configuration.runtime_id,
            tenant=configuration.tenant,
            token_url=configuration.connector_url,
            connector_url=offered.connector_url or "",
            director_url=offered.director_url or "",
            subject=offered.subject,
            key=certificates.key_to_pem(key).decode(),
            token=offered.token or "",
        )
        self._credentials.save_pairing(pairing)
        self._connections.update(CONNECTION_NAME, _without_literal_token)
        return pairing

    def _finish(self, pairing: Pairing) -> None:
        """Has the key signed, stores the credentials, then tells of them."""
        if self._signed is None or self._signed[0] != pairing:
            csr = certificates.build_csr(pairing.subject, _rsa_key(pairing.key))
            with self._sessions.pairing_connector() as connector:
                signed = connector.sign(
                    pairing.token_url, csr, token=pairing.token, request_id=request_id(pairing.runtime_id)
                )
            self._signed = (pairing, signed)
        signed = self._signed[1]
        known = Connection(
            runtime_id=pairing.runtime_id,
            tenant=pairing.tenant,
            connector_url=pairing.connector_url,
            director_url=pairing.director_url,
            paired_with=pairing.configuration,
        )
        self._credentials.save(key_pem=pairing.key.encode(), chain_pem=signed.chain_pem, connection=known)
        self._signed = None
        self._save_ca(signed.ca_pem)
        now = self._clock.time()
        self._link.replaced(now)
        validity = cc.Validity(signed.leaf.not_before.timestamp(), signed.leaf.not_after.timestamp())

        def change(obj: Object) -> None:
            _without_literal_token(obj)
            obj["spec"]["managementInfo"] = _management_info(known)
            cc.paired(obj, validity=validity, runtime_id=known.runtime_id, tenant=known.tenant, now=now)

        connection = self._connections.update(CONNECTION_NAME, change, create=True)
        if connection is not None:
            self._recorder.event(
                connection,
                "Normal",
                "Connected",
                f"paired with Compass through {pairing.origin} as Runtime {pairing.runtime_id}; the certificate is "
                f"valid until {cc.timestamp(validity.not_after)}",
            )
        _log.info("paired with Compass", extra={"runtime": known.runtime_id, "fingerprint": signed.leaf.fingerprint})

    def _save_ca(self, ca_pem: bytes) -> None:
        """The gateway's copy of the CA: no reason to fail a pairing, since renewal looks after it from now on."""
        try:
            self._credentials.save_ca(ca_pem)
        except ApiError as error:
            _log.warning(
                "CA certificate not stored", extra={"secret": str(self._credentials.ca_name), "error": str(error)}
            )

    def _failed(
        self, connection: Object | None, error: CompassError | ApiError, *, what: str, resumed: bool, suspected: bool
    ) -> Result:
        pairing = self._credentials.load_pairing()
        if pairing is not None and isinstance(error, _TOKEN_SPENT) and self._signed is None:
            self._credentials.save_pairing(None)
            if resumed and isinstance(error, Refused):
                error = _lost_answer(error, pairing)
        self._metrics.pairing("error")
        at_least = error.retry_after if isinstance(error, Unavailable) else None
        delay = self._attempts.failed(what, at_least=at_least)
        if isinstance(error, ApiError):
            text = f"Failed to preserve certificate: {error}"
        else:
            text = f"Failed to retrieve certificate: x-request-id: {error.request_id} failed: {error}"
        self._tell_failure(connection, text, suspected=suspected)
        return Result(requeue_after=delay)

    def _tell_failure(self, connection: Object | None, text: str, *, suspected: bool = False) -> Result:
        """Write the failure where the operator looks. The same failure again is written once."""
        _log.warning("pairing with Compass failed", extra={"error": text})
        if suspected and cc.state_of(connection) is cc.State.CONNECTION_MAINTENANCE_FAILED:
            if connection is not None:
                self._recorder.event(connection, "Warning", "PairingFailed", text)
            return Result()
        told = (connection or {}).get("status", {}).get("connectionStatus", {}) or {}
        if cc.state_of(connection) is not cc.State.CONNECTION_FAILED or told.get("error") != text:
            now = self._clock.time()
            written = self._connections.update(
                CONNECTION_NAME, lambda obj: cc.connection_failed(obj, text, now=now), create=True
            )
            if written is not None:
                self._recorder.event(written, "Warning", "PairingFailed", text)
        return Result()


def _rsa_key(pem: str) -> RSAPrivateKey:
    key = certificates.load_key(pem.encode())
    if not isinstance(key, RSAPrivateKey):
        raise InvalidCredentials("the key of the pairing under way is no RSA key", part="key")
    return key


def _lost_answer(error: Refused, pairing: Pairing) -> Refused:
    told = Refused(
        f"{error} (the agent was stopped while the Connector signed, and the answer is lost with the token: "
        f"put a new one-time token into {pairing.origin})"
    )
    told.request_id = error.request_id
    return told


def _validity(credentials: StoredCredentials) -> cc.Validity:
    return cc.Validity(credentials.not_before, credentials.not_after)


def _management_info(connection: Connection) -> Object:
    return {"connectorUrl": connection.connector_url, "directorUrl": connection.director_url}


def _without_literal_token(obj: Object) -> None:
    pairing = obj.setdefault("spec", {}).get("pairing")
    if isinstance(pairing, dict):
        pairing.pop("token", None)
