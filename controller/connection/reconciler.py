"""Ensures that there are credentials that Compass accepts, or that the status says why not.

A reconcile observes the state, lets the rules decide, and carries out the action, until they decide to rest. Then it
writes the status. So a pairing and the status "Connected" are one reconcile, and what is done is always decided from
the newest state.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from controller.compass.errors import CompassError, Refused
from controller.connection import problem, rules, status
from controller.connection.backoff import Pauses, reconcile_with_backoff, with_jitter
from controller.connection.clients import Dependencies
from controller.connection.configuration import ConfigurationReader, RevokedMeanwhile, has_spec_token
from controller.connection.credentials import CredentialsReplaced, GatewaySecret, StoredCredentials, StoredPairing
from controller.connection.observations import CompassService, Failure, Health
from controller.connection.pairing import Pairing
from controller.connection.renewal import Renewal, RenewalDeferred
from controller.connection.report import Reporter
from controller.connection.state import (
    GATEWAY,
    DeferredRenewal,
    LastConnectorCall,
    Memory,
    NewCredentials,
    PairingFailure,
    State,
)
from controller.metrics import AgentMetrics
from controller.resources import CONNECTION_NAME
from controller.runtime.controller import Result
from controller.runtime.events import EventRecorder
from controller.settings import Settings
from informers.errors import ApiError

log = logging.getLogger(__name__)

_MAX_ACTIONS = 8  # of one reconcile; normally at most four lead to a Rest


class _WritesUndone(CompassError):
    """Actions do not lead to a rest, because something undoes them."""


class ConnectionReconciler:
    """Keyed by the name of a CompassConnection. `_memory` and the back-offs are all that a restart loses."""

    def __init__(
        self,
        dependencies: Dependencies,
        *,
        configurations: ConfigurationReader,
        health: Health,
        settings: Settings,
        recorder: EventRecorder,
        pauses: Pauses,
        metrics: AgentMetrics,
        jitter: Callable[[], float],
    ) -> None:
        self._connections = dependencies.connections
        self._reporter = Reporter(dependencies.connections, recorder)
        self._pairing = Pairing(dependencies)
        self._renewal = Renewal(dependencies)
        self._credentials = dependencies.credentials
        self._clock = dependencies.clock
        self._configurations = configurations
        self._health = health
        self._pauses = pauses
        self._metrics = metrics
        self._jitter = jitter
        self._settings = settings
        self._memory: Memory | None = None

    def reconcile(self, name: str) -> Result:
        """Handles unexpected errors: they become a problem in the status, with a back-off. Raises
        informers.ApiError, for which the queue has one.
        """
        if name != CONNECTION_NAME:
            self._reporter.ignore(name)
            return Result()
        return reconcile_with_backoff(
            self._reconcile,
            self._pauses.internal,
            name,
            report=lambda error: self._reporter.report_internal_error(
                problem.internal_error(error), self._clock.time()
            ),
        )

    def _reconcile(self) -> Result:
        for _ in range(_MAX_ACTIONS):
            state = self._observe()
            decision = rules.decide(state)
            if isinstance(decision, rules.Rest):
                self._report(state, decision)
                return Result(requeue_after=decision.requeue_after)
            try:
                self._carry_out(decision, state)
            except (RevokedMeanwhile, CredentialsReplaced) as error:
                log.info("The connection has changed during the reconcile", extra={"error": str(error)})
        raise _WritesUndone(
            f"{_MAX_ACTIONS} actions in a row did not change the state; another client or an admission policy may undo "
            f"the writes of the Secret {self._credentials.cluster_name}: exclude it from their work"
        )

    def _observe(self) -> State:
        """Reads caches, and the API server only if a cache may be outdated or does not have the object."""
        connection, secret = self._connections.get(CONNECTION_NAME), self._credentials.read()
        now, monotonic = self._clock.time(), self._clock.monotonic()
        stored = secret.credentials
        ca_pem = stored.ca_pem if isinstance(stored, StoredCredentials) else b""
        # The configuration may have been changed just before the CompassConnection was deleted.
        deleted_or_new = status.state_of(connection) is None
        state = State(
            now=now,
            monotonic=monotonic,
            settings=self._settings,
            connection=connection,
            secret=secret,
            ids=self._configurations.ids(connection),
            gateway=self._credentials.gateway_secret(ca_pem) if ca_pem else GatewaySecret.AS_WANTED,
            configuration=self._configurations.resolve(connection, live=deleted_or_new),
            fallback_fingerprint=self._configurations.resolve(None).fingerprint if has_spec_token(connection) else "",
            pauses=self._pauses,
            observations=self._health.observations(),
            memory=self._memory or Memory.after_restart(connection, now=now, monotonic=monotonic),
        )
        self._memory = state.remembered()
        return replace(state, memory=self._memory)

    def _report(self, state: State, decision: rules.Rest) -> None:
        stored = state.stored
        self._metrics.certificate(*((stored.not_before, stored.not_after) if stored is not None else (0.0, 0.0)))
        if not self._reporter.report(state, decision.problem, rules.warnings(state)):
            return
        self._remember(unreported=None)
        if state.accepted:
            self._remember(failing_before=None)
        works = state.is_usable and decision.problem is None and state.token_failure is None
        if works and state.stored_pairing is None:
            self._pauses.pairing.succeeded()
            self._remember(pairing_failure=None)

    def _carry_out(self, decision: rules.Action, state: State) -> None:
        match decision:
            case rules.Pair(pairing):
                self._pair(pairing, state)
            case rules.StoreRegistration(registration):
                self._credentials.save_registration(registration, state.credentials)
                log.info("Stored the registration of the certificate", extra={"runtime": registration.runtime_id})
            case rules.Act.ABANDON_PAIRING:
                self._credentials.save_pairing(None)
            case rules.Renew():
                self._renew(decision, state)
            case rules.Act.CHECK_CONNECTOR:
                self._check(state)
            case rules.Act.WRITE_GATEWAY_CA:
                self._write_gateway_ca(state.credentials.ca_pem)

    # --- pairing ---

    def _pair(self, pairing: StoredPairing, state: State) -> None:
        result = self._pairing.run(pairing, state)
        if isinstance(result, PairingFailure):
            self._metrics.pairing("error")
            self._pauses.pairing.failed(result.fingerprint, at_least=result.retry_after)
            self._remember(pairing_failure=result, unsaved=result.unsaved)
            return
        self._metrics.pairing("success")
        self._pauses.pairing.succeeded()
        self._health.replaced()
        self._remember(pairing_failure=None, unsaved=None)
        self._after_new_credentials(result, NewCredentials(_is_requested(state)))

    # --- maintenance ---

    def _check(self, state: State) -> None:
        try:
            self._renewal.check(state)
        except CredentialsReplaced:
            raise
        except Exception as error:  # noqa: BLE001 - reported
            self._connector_failed(state, error, renewing=False)
        else:
            self._connector_accepted(state.credentials)

    def _renew(self, cause: rules.Renew, state: State) -> None:
        is_for_ca = cause is rules.Renew.CA_MISSING
        if is_for_ca and not self._write_gateway_ca(state.credentials.ca_pem, dry_run=True):
            return  # the CA of a new certificate could not be written either
        try:
            result = self._renewal.renew(cause, state)
        except (CredentialsReplaced, RevokedMeanwhile):
            raise
        except RenewalDeferred as error:
            self._metrics.renewal("error")
            self._connector_accepted(state.credentials)
            deferred = DeferredRenewal(state.credentials.fingerprint, error.until, str(error))
            self._remember(deferred_renewal=deferred)
            return
        except Exception as error:  # noqa: BLE001 - reported
            self._metrics.renewal("error")
            self._connector_failed(state, error, renewing=True)
            return
        if result is None:
            self._connector_accepted(state.credentials)
            return
        self._metrics.renewal("success")
        self._health.connector_answered()
        self._remember(renewed_at=self._clock.monotonic())
        self._after_new_credentials(result, NewCredentials(_is_requested(state), renewed_because=cause.value))

    def _after_new_credentials(self, credentials: StoredCredentials, report: NewCredentials) -> None:
        """What follows a pairing or a renewal. These credentials replace the earlier ones."""
        self._pauses.connector.succeeded()
        self._remember(unreported=report, last_call=self._call_with(credentials))
        self._write_gateway_ca(credentials.ca_pem)

    def _write_gateway_ca(self, ca_pem: bytes, *, dry_run: bool = False) -> bool:
        """Whether it could be written. The connection does not fail without this copy for the gateway."""
        failure = None
        try:
            self._credentials.save_ca(ca_pem, dry_run=dry_run)
        except ApiError as error:
            failure = Failure.of(error)
            self._pauses.gateway.failed(GATEWAY)
        else:
            if dry_run or self._credentials.gateway_secret(ca_pem) is not GatewaySecret.DIFFERENT:
                self._pauses.gateway.succeeded()
            else:
                failure = Failure(ApiError, "the cluster changes its key cacert; exclude this Secret from the policy")
                self._pauses.gateway.failed(GATEWAY)
        self._remember(gateway_failure=failure)
        return failure is None

    def _connector_accepted(self, credentials: StoredCredentials) -> None:
        self._pauses.connector.succeeded()
        self._health.connector_answered()
        self._remember(last_call=self._call_with(credentials))

    def _connector_failed(self, state: State, error: Exception, *, renewing: bool) -> None:
        certificate, failure = state.credentials.fingerprint, Failure.of(error)
        if isinstance(error, CompassError):
            self._health.connector_failed()
        elif not isinstance(error, ApiError):
            log.error("Unexpected error in a call to the Connector", exc_info=error)
        if isinstance(error, Refused):
            self._health.refused(CompassService.CONNECTOR, certificate, error)
        self._pauses.connector.failed(certificate, at_least=failure.retry_after)
        self._remember(last_call=replace(self._call_with(state.credentials), failure=failure, renewing=renewing))

    # --- memory ---

    def _call_with(self, credentials: StoredCredentials) -> LastConnectorCall:
        now = self._clock.monotonic()
        period = with_jitter(self._settings.sync_period, self._jitter)
        return LastConnectorCall(credentials.fingerprint, at=now, next=now + period)

    def _remember(self, **changes: Any) -> None:
        self._memory = replace(self._memory or Memory(), **changes)


def _is_requested(state: State) -> bool:
    return status.flag(state.connection, "refreshCredentialsNow")
