"""Ensures that there are credentials that Compass accepts, or that the status says why not.

Each reconcile collects the facts, decides on one action, reports the state, and performs the action. The result is a
fact of the next reconcile, which follows at once.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from controller.backoff import Backoff
from controller.compass.errors import CompassError, Refused
from controller.connection import policy
from controller.connection.configuration import ConfigurationReader, has_literal_token
from controller.connection.credentials import CredentialsReplaced, StoredCredentials
from controller.connection.facts import (
    Asked,
    Facts,
    Limits,
    MaintenanceTrouble,
    Memory,
    Paired,
    PairingTrouble,
    Renewed,
    Waits,
)
from controller.connection.gathering import Gatherer
from controller.connection.health import Health, Party
from controller.connection.maintain import HasRenewed, Maintainer
from controller.connection.pair import HasNotPaired, Pairer
from controller.connection.reasons import Failure, GatewaySecretFailed
from controller.connection.report import Report
from controller.connection.revocation import RevokedMeanwhile
from controller.connection.tools import Tools
from controller.context import Context, connection_name, name_of, rate_limiter
from controller.metrics import AgentMetrics
from controller.resources import COMPASS_CONNECTION, CONNECTION_NAME
from controller.runtime.controller import Controller
from controller.runtime.events import EventRecorder
from controller.runtime.reconcile import Result
from informers.errors import ApiError

log = logging.getLogger(__name__)

_PERIOD_JITTER = 0.1


@dataclass(frozen=True)
class Pauses:
    """Back-offs of actions that may fail repeatedly: a pairing, calls to the Connector, writes of the gateway's
    Secret, and reconciles with an unexpected error.
    """

    pairing: Backoff
    maintenance: Backoff
    gateway: Backoff
    internal: Backoff


class ConnectionReconciler:
    """Keyed by the name of a CompassConnection. `_memory` is the only state between two reconciles."""

    def __init__(
        self,
        tools: Tools,
        *,
        configurations: ConfigurationReader,
        health: Health,
        limits: Limits,
        recorder: EventRecorder,
        pauses: Pauses,
        metrics: AgentMetrics,
        jitter: Callable[[], float],
    ) -> None:
        self._gatherer = Gatherer(tools, configurations=configurations, health=health, limits=limits)
        self._report = Report(tools.connections, recorder)
        self._pairer = Pairer(tools)
        self._maintainer = Maintainer(tools)
        self._health = health
        self._pauses = pauses
        self._metrics = metrics
        self._clock = tools.clock
        self._jitter = jitter
        self._sync_period = limits.sync_period
        self._gateway_secret = str(tools.credentials.ca_name)
        self._memory = Memory()

    def reconcile(self, name: str) -> Result:
        """The one border for unexpected errors: they become a problem in the status, with a back-off. Raises
        informers.ApiError, for which the queue has one.
        """
        if name != CONNECTION_NAME:
            self._report.ignore(name)
            return Result()
        wait = self._pauses.internal.wait(CONNECTION_NAME)
        if wait > 0:
            return Result(requeue_after=wait)
        try:
            result = self._reconcile()
        except ApiError:
            raise
        except Exception as error:
            log.exception("Unexpected error in the connection")
            wait = self._pauses.internal.failed(CONNECTION_NAME)
            self._report.fail(error, self._clock.time())
            return Result(requeue_after=wait)
        self._pauses.internal.succeeded()
        return result

    def _reconcile(self) -> Result:
        facts = self._facts()
        self._memory = facts.memory
        decision = policy.decide(facts)
        if facts.usable:
            self._metrics.certificate(facts.current.not_before, facts.current.not_after)
        if self._report.tell(facts, decision):
            self._remember(news=None)
            if isinstance(decision, policy.Keep) and facts.under_way is None and facts.reconnect_trouble is None:
                self._pauses.pairing.succeeded()
                self._remember(trouble=None)
        if isinstance(decision, policy.Rest):
            return Result(requeue_after=decision.look_again)
        try:
            self._carry_out(decision, facts)
        except (RevokedMeanwhile, CredentialsReplaced) as error:
            log.info("The connection has changed during the reconcile", extra={"error": str(error)})
        return Result(requeue_after=0.0)

    def _facts(self) -> Facts:
        facts = self._gatherer.gather(CONNECTION_NAME, self._memory)
        if facts.trouble is not None and has_literal_token(facts.connection):
            applied = replace(facts.trouble, applied=facts.monotonic)
            facts = replace(facts, memory=replace(facts.memory, trouble=applied))
        waits = Waits(
            pairing=self._pauses.pairing.wait(facts.what),
            maintenance=self._pauses.maintenance.wait(facts.credentials.fingerprint if facts.credentials else ""),
            gateway=self._pauses.gateway.wait(self._gateway_secret),
        )
        return replace(facts, waits=waits)

    def _carry_out(self, decision: policy.Action, facts: Facts) -> None:
        match decision:
            case policy.Pair() | policy.Resume():
                self._pair(decision, facts)
            case policy.GiveUp():
                self._maintainer.give_up_pairing()
            case policy.Adopt(registration):
                self._maintainer.adopt(registration, facts)
            case policy.Renew(cause):
                self._renew(cause, facts)
            case policy.Check():
                self._check(facts)
            case policy.Share():
                self._share(facts.current.ca_pem)

    # --- pairing ---

    def _pair(self, decision: policy.Pair | policy.Resume, facts: Facts) -> None:
        outcome = self._pairer.run(decision, facts)
        if isinstance(outcome, HasNotPaired):
            self._metrics.pairing("error")
            self._pauses.pairing.failed(outcome.what, at_least=outcome.failed.failure.retry_after)
            now = self._clock.monotonic()
            # If the certificate is refused as well, Compass may have an outage, and the token may still be valid.
            outage = facts.usable and bool(facts.refusals)
            since = facts.trouble.since if facts.trouble and not outage else now
            failed = outcome.failed.following(facts.trouble.failed if facts.trouble else None)
            trouble = PairingTrouble(outcome.what, failed, since, now, outcome.final)
            self._remember(trouble=trouble, unstored=outcome.unstored)
            return
        fresh = outcome.credentials
        told = {"origin": outcome.origin, "fingerprint": fresh.fingerprint, "requestID": outcome.request_id}
        log.info("Paired with Compass", extra=told)
        self._metrics.pairing("success")
        self._pauses.pairing.succeeded()
        self._remember(trouble=None, unstored=None)
        self._put_into_use(fresh, Paired(fresh.fingerprint, outcome.origin))
        self._share(outcome.ca_pem)

    # --- maintenance ---

    def _check(self, facts: Facts) -> None:
        try:
            self._maintainer.check(facts)
        except CredentialsReplaced:
            raise
        except Exception as error:  # noqa: BLE001 - told below
            self._maintenance_failed(facts, error, renewing=False)
        else:
            self._accepted(facts.current)

    def _renew(self, cause: policy.RenewalCause, facts: Facts) -> None:
        if cause is policy.RenewalCause.CA_MISSING and not self._share(facts.current.ca_pem, dry_run=True):
            return  # the CA of a new certificate could not be written either
        try:
            outcome = self._maintainer.renew(cause, facts)
        except (CredentialsReplaced, RevokedMeanwhile):
            raise
        except Exception as error:  # noqa: BLE001 - told below
            self._remember(fresh=None)
            self._maintenance_failed(facts, error, renewing=True)
            return
        if isinstance(outcome, HasRenewed):
            told = {"fingerprint": outcome.credentials.fingerprint, "requestID": outcome.request_id}
            log.info("Certificate renewed", extra=told)
            self._metrics.renewal("success")
            self._remember(renewed_at=self._clock.monotonic())
            self._put_into_use(outcome.credentials, Renewed(outcome.credentials.fingerprint, cause.value))
            self._share(outcome.ca_pem)
            return
        self._remember(fresh=outcome.fresh)
        if outcome.failure is None:
            self._accepted(facts.current)
        else:
            self._metrics.renewal("error")
            self._pause_maintenance(facts, outcome.failure, renewing=True)

    def _maintenance_failed(self, facts: Facts, error: Exception, *, renewing: bool) -> None:
        certificate = facts.current.fingerprint
        if renewing:
            self._metrics.renewal("error")
        if isinstance(error, CompassError):
            self._health.connector_failed()
        if isinstance(error, Refused):
            self._health.refused(Party.CONNECTOR, certificate, error)
        if isinstance(error, CompassError | ApiError):
            failure = Failure.of(error)
        else:
            log.error("Unexpected error in a call to the Connector", exc_info=error)
            failure = Failure.unexpected(error)
        self._pause_maintenance(facts, failure, renewing=renewing)

    def _pause_maintenance(self, facts: Facts, failure: Failure, *, renewing: bool) -> None:
        certificate = facts.current.fingerprint
        self._pauses.maintenance.failed(certificate, at_least=failure.retry_after)
        trouble = MaintenanceTrouble(certificate, failure, renewing)
        self._remember(maintenance=trouble, asked=self._asked(certificate))

    def _accepted(self, credentials: StoredCredentials) -> None:
        """The Connector accepts the certificate."""
        self._pauses.maintenance.succeeded()
        self._health.connector_answered()
        self._remember(maintenance=None, asked=self._asked(credentials.fingerprint))

    def _put_into_use(self, fresh: StoredCredentials, news: Paired | Renewed) -> None:
        """They replace the earlier ones, and observations of these are dropped."""
        self._pauses.maintenance.succeeded()
        if isinstance(news, Paired):
            self._health.replaced()
        else:
            self._health.connector_answered()
        self._remember(fresh=None, maintenance=None, news=news, asked=self._asked(fresh.fingerprint))

    def _share(self, ca_pem: bytes, *, dry_run: bool = False) -> bool:
        """The connection does not fail without the gateway's copy: the failure is reported, and the write is
        retried.
        """
        try:
            self._maintainer.share(ca_pem, dry_run=dry_run)
        except ApiError as error:
            self._pauses.gateway.failed(self._gateway_secret)
            self._remember(gateway=GatewaySecretFailed(self._gateway_secret, Failure.of(error)))
            return False
        self._pauses.gateway.succeeded()
        self._remember(gateway=None)
        return True

    # --- memory ---

    def _asked(self, certificate: str) -> Asked:
        now = self._clock.monotonic()
        period = self._sync_period * (1 + _PERIOD_JITTER * self._jitter())
        return Asked(certificate, at=now, next=now + period)

    def _remember(self, **changes: Any) -> None:
        self._memory = replace(self._memory, **changes)


def build(context: Context) -> Controller[str]:
    """The controller of this reconciler."""
    process, settings = context.process, context.process.settings
    reconciler = ConnectionReconciler(
        Tools(
            connections=context.connections,
            credentials=context.credentials,
            sessions=process.sessions,
            clock=process.clock,
            new_key=process.new_key,
        ),
        configurations=ConfigurationReader(
            context.client,
            secrets=process.caches.configuration_secret.lister(),
            secret_name=settings.configuration_secret,
            config_maps=process.caches.configuration_map.lister(),
            config_map_name=settings.configuration_config_map,
        ),
        health=context.health,
        limits=Limits.of(settings),
        recorder=process.recorder,
        pauses=Pauses(*(context.backoff() for _ in range(4))),
        metrics=process.agent_metrics,
        jitter=random.random,
    )
    controller: Controller[str] = Controller(
        "connection",
        reconciler.reconcile,
        rate_limiter=rate_limiter(settings.sync_period),
        clock=process.clock,
        metrics=process.metrics,
        kind=COMPASS_CONNECTION.kind,
    )
    caches = process.caches
    controller.watches(caches.connections, name_of)
    for cache in (caches.configuration_map, caches.configuration_secret, caches.cluster_secret, caches.ca_secret):
        controller.watches(cache, connection_name)
    context.health.subscribe(lambda: controller.enqueue(CONNECTION_NAME))
    controller.enqueue(CONNECTION_NAME)  # there may be no object whose event triggers it; it creates the object then
    return controller
