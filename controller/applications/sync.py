"""Fetches the assignment from the Director, and reports the labels of the Runtime to it.

It never writes an Application. It publishes the desired set, enqueues the names that differ, and writes the results to
the status when all of them are done. If nothing differs, a sync needs one write: the status.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller import fields
from controller.applications.conversion import ConversionSettings
from controller.applications.deletions import CONFIRM_DELETIONS, DeletionGuard, Verdict
from controller.applications.desired import DesiredSet, Problem, desired_set
from controller.applications.progress import HANGING_SECONDS, Outcome, Plan, Progress
from controller.applications.reconciler import ApplicationReconciler
from controller.applications.secrets import reserved_secrets
from controller.compass.director import DirectorClient
from controller.compass.errors import CompassError, Refused, Unavailable
from controller.compass.types import Assignment
from controller.connection import status
from controller.connection.backoff import Backoff, reconcile_with_backoff, with_jitter
from controller.connection.clients import CompassClients, new_request_id
from controller.connection.credentials import (
    CredentialsError,
    CredentialsReplaced,
    CredentialsStore,
    Registration,
    StoredCredentials,
)
from controller.connection.observations import CompassService, Failure, Health, OwnerCheck
from controller.connection.store import ConnectionStore
from controller.metrics import AgentMetrics
from controller.runtime import logs
from controller.runtime.controller import Controller, Result
from controller.runtime.events import EventRecorder
from controller.settings import Settings
from workqueue.clock import Clock

log = logging.getLogger(__name__)

EVENTS_LABEL = "runtime_eventServiceUrl"
CONSOLE_LABEL = "runtime_consoleUrl"

_MIN_CONCLUSION_SECONDS = 1.0  # failures that alternate with successes must not lead to a write each
_MIN_REQUEST_PAUSE = 1.0  # minimum seconds between two fetches that resyncNow requests, for any settings
_LATEST_LOOK_SECONDS = 60.0  # certificates expire by the wall clock, whose corrections are no events
_NAMES_SHOWN = 5
# A change must not wait for thousands of new Applications, and neither must drift, whose events have priority 0.
_CHANGE_PRIORITY = 10
_MASS_PRIORITY = -10

Object = dict[str, Any]


@dataclass(frozen=True)
class _Fetch:
    """The last successful fetch: what it was made for, its start, and its results except the Applications."""

    made_for: tuple[object, ...]
    plan: Plan
    began: float  # monotonic
    at: float  # epoch
    held_because: str  # "" if no deletion is held
    labels_error: str  # "" if the labels of the Runtime are right


class SyncReconciler:
    """Keyed by the name of the CompassConnection."""

    def __init__(
        self,
        *,
        settings: Settings,
        connections: ConnectionStore,
        credentials: CredentialsStore,
        clients: CompassClients,
        applications: ApplicationReconciler,
        workers: Controller[str],
        progress: Progress,
        health: Health,
        backoff: Backoff,
        internal_backoff: Backoff,
        recorder: EventRecorder,
        metrics: AgentMetrics,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._conversion = ConversionSettings(
            gateway_url=settings.central_gateway_url,
            skip_verify=settings.skip_apps_tls_verify,
            reserved_secrets=reserved_secrets(settings),
        )
        self._connections = connections
        self._credentials = credentials
        self._clients = clients
        self._applications = applications
        self._workers = workers
        self._progress = progress
        self._health = health
        self._owner_check = OwnerCheck(health)
        self._backoff = backoff
        self._internal_backoff = internal_backoff
        self._recorder = recorder
        self._metrics = metrics
        self._clock = clock
        self._jitter = jitter
        self._guard = DeletionGuard(settings.max_deletion_percent)
        self._request_pause = max(settings.minimal_sync_time, _MIN_REQUEST_PAUSE)
        self._fetch: _Fetch | None = None
        self._backoff_key = ""
        self._next_fetch = 0.0
        self._next_request = 0.0  # monotonic time from which resyncNow is accepted again
        self._problems: Mapping[str, Problem] = {}
        self._concluded: Outcome | None = None
        self._concluded_at = float("-inf")

    def reconcile(self, name: str) -> Result:
        """Unexpected errors become a failed synchronisation, with a back-off. Raises informers.ApiError."""
        connection = self._connections.get(name)

        def report(error: Exception) -> None:
            if connection is None:
                raise error
            self._report_failure(connection, Failure.of(error).text)

        return reconcile_with_backoff(lambda: self._reconcile(connection), self._internal_backoff, name, report=report)

    def _reconcile(self, connection: Object | None) -> Result:
        state = status.state_of(connection)
        self._metrics.connection_state(state)
        if connection is None or state is None:
            return _skip("there is no CompassConnection, or it has no state")
        try:
            credentials = self._credentials.load()
        except CredentialsError as error:
            return _skip(str(error))
        registration = credentials.registration
        if registration is None or self._clock.time() >= credentials.not_after:
            return _skip("the certificate has expired, or its Runtime is unknown")
        if state is status.ConnectionState.CONNECTION_FAILED and not self._owner_check.is_of_another_runtime(
            credentials, registration
        ):
            return _skip("the connection has failed")
        # For a new object, a new certificate or another Runtime, earlier results do not count.
        made_for = (connection["metadata"]["uid"], credentials.fingerprint, registration)
        self._backoff_key = f"{credentials.fingerprint} {registration.director_url}"
        overdue = self._is_overdue(connection, made_for)
        now = self._clock.monotonic()
        wait = self._backoff.wait(self._backoff_key) if overdue else self._next_fetch - now
        if status.flag(connection, "resyncNow"):
            wait = min(wait, self._next_request - now)
        if wait <= 0:
            return self._synchronise(connection, credentials, registration, made_for)
        if overdue:
            return Result(requeue_after=wait)
        return Result(requeue_after=_earlier(wait, self._conclude(connection)))

    def _is_overdue(self, connection: Object, made_for: tuple[object, ...]) -> bool:
        """Whether a fetch is due, and only the back-off after a failure may delay it."""
        fetch = self._fetch
        if fetch is None or fetch.made_for != made_for or self._clock.monotonic() >= self._next_fetch:
            return True
        # Only the value that confirms the held deletions makes a fetch due: another one would do so again and again.
        return bool(fetch.plan.deletions.held) and _confirmation(connection) == fetch.plan.deletions.fingerprint

    def _synchronise(
        self,
        connection: Object,
        credentials: StoredCredentials,
        registration: Registration,
        made_for: tuple[object, ...],
    ) -> Result:
        began, at = self._clock.monotonic(), self._clock.time()
        identifier = new_request_id(registration.runtime_id)
        requested = status.flag(connection, "resyncNow")
        if requested:
            # Reset it at the start and not after a success: otherwise a failing Compass would get requests in a loop.
            self._connections.apply_to(connection, _without_resync_now)
        try:
            director = self._clients.director(credentials, registration)
            with self._credentials.unchanged(credentials), logs.bind(requestID=identifier):
                if not self._owner_check.check_owner(director, credentials, registration, request_id=identifier):
                    return Result(requeue_after=self._backoff.failed(self._backoff_key))
                assignment = director.fetch(registration.runtime_id, request_id=identifier)
                if not self._owner_check.check_owner(
                    director, credentials, registration, request_id=identifier, after_fetch=True
                ):
                    return Result(requeue_after=self._backoff.failed(self._backoff_key))
        except CredentialsReplaced:
            return Result(requeue_after=0.0)
        except CompassError as error:
            if isinstance(error, Refused):
                self._health.refused(CompassService.DIRECTOR, credentials.fingerprint, error)
            return self._fetch_failed(connection, error, identifier)
        finally:
            if requested:
                self._next_request = self._clock.monotonic() + self._request_pause
        self._backoff.succeeded()
        self._health.accepted(CompassService.DIRECTOR)
        with logs.bind(requestID=identifier):
            plan, held_because = self._take_over(connection, assignment, identifier)
        labels_error = self._report_labels(director, registration, assignment.labels)
        self._fetch = _Fetch(made_for, plan, began, at, held_because, labels_error)
        period = max(self._settings.sync_period, self._settings.minimal_sync_time)
        # If the Director needs more than a period for its answer, wait for the minimal time before the next fetch.
        earliest = self._clock.monotonic() + self._settings.minimal_sync_time
        self._next_fetch = max(began + with_jitter(period, self._jitter), earliest)
        again = self._conclude(connection)
        return Result(requeue_after=_earlier(self._next_fetch - self._clock.monotonic(), again))

    def _fetch_failed(self, connection: Object, error: CompassError, identifier: str) -> Result:
        at_least = error.retry_after if isinstance(error, Unavailable) else None
        delay = self._backoff.failed(self._backoff_key, at_least=at_least)
        self._report_failure(connection, str(error), identifier)
        return Result(requeue_after=delay)

    def _report_failure(self, connection: Object, error: str, identifier: str = "") -> None:
        """`identifier`: that of the failed call; "" if the error is one of the agent."""
        self._next_fetch = self._clock.monotonic()  # no status is written from an older fetch before the next success
        self._metrics.sync_failed()
        call = f"x-request-id: {identifier} failed: " if identifier else ""
        text, now = f"Failed to fetch configuration: {call}{error}", self._clock.time()
        self._health.synchronised(status.ConnectionState.SYNCHRONIZATION_FAILED)
        written = self._connections.apply_to(connection, lambda obj: status.set_sync_failed(obj, text, now=now))
        if written is not None:
            # Without the request id, so that the same failure leads to the same Event.
            self._recorder.event(written, "Warning", "SynchronizationFailed", f"Failed to fetch configuration: {error}")
        log.warning("Fetch from the Director failed", extra={"error": text, "requestID": identifier})

    def _take_over(self, connection: Object, assignment: Assignment, identifier: str) -> tuple[Plan, str]:
        """Publish the fetched assignment as the desired set, and enqueue the names that differ.

        Also returns the reason why deletions are held: "" if none is.
        """
        before = self._progress.plan
        managed = {obj["metadata"]["name"]: obj for obj in self._applications.managed()}
        previous = before.desired if before is not None else None
        wanted = desired_set(assignment, self._conversion, previous=previous, stored=managed)
        gone = {name: obj["metadata"]["uid"] for name, obj in managed.items() if wanted.removes(obj)}
        verdict = self._judge(connection, gone, len(managed))
        urgent: list[str] = []
        later = [name for name in gone if name not in verdict.held]
        plan = self._progress.publish(wanted, verdict, request_id=identifier)
        known = previous.by_name if previous is not None else {}
        for name in self._applications.differing(plan):
            # Retries are not urgent: slow failures would occupy all workers with each sync, and drift would wait.
            is_retry = self._progress.has_failed(name) and known.get(name) is wanted.by_name.get(name)
            (urgent if name in managed and not is_retry else later).append(name)
        self._progress.expect([*urgent, *later])
        for name in urgent:
            self._workers.enqueue(name, priority=_CHANGE_PRIORITY)
        for name in later:  # deletions, creations and retries
            self._workers.enqueue(name, priority=_MASS_PRIORITY)
        self._announce_problems(connection, wanted, managed)
        log.info(
            "Fetched from the Director",
            extra={
                "applications": len(wanted.by_name),
                "differing": len(urgent) + len(later),
                "problems": len(wanted.problems),
                "held": len(verdict.held),
            },
        )
        return plan, self._explain_hold(connection, verdict, len(managed))

    def _judge(self, connection: Object, gone: Mapping[str, str], managed: int) -> Verdict:
        """Decide about the deletions. A confirmation is removed, whether it matches or not."""
        confirmation = _confirmation(connection)
        verdict = self._guard.judge(gone, managed=managed, confirmation=confirmation)
        if confirmation is not None:
            self._connections.apply_to(connection, lambda obj: _remove_confirmation(obj, confirmation))
            if not verdict.confirmed:
                text = (
                    f"Removed the annotation {CONFIRM_DELETIONS}: it does not match the deletions that wait for a "
                    f"confirmation now"
                )
                self._recorder.event(connection, "Warning", "ConfirmationVoid", text)
                log.warning(text)
        self._guard.settle(verdict)
        if not verdict.held and verdict.new * 2 > managed:
            text = f"{verdict.new} of {managed} Applications are being deleted"
            self._recorder.event(connection, "Warning", "MassDeletion", text)
        return verdict

    def _explain_hold(self, connection: Object, verdict: Verdict, managed: int) -> str:
        if not verdict.held:
            return ""
        names = sorted(verdict.held)
        text = (
            f"{len(names)} of {managed} Applications would be deleted, more than "
            f"APP_MAX_DELETION_PERCENT={self._settings.max_deletion_percent} allows. To delete them: "
            f"kubectl annotate --overwrite compassconnection {connection['metadata']['name']} "
            f"{CONFIRM_DELETIONS}={verdict.fingerprint} (they are {_some(names)})"
        )
        if self._fetch is None or self._fetch.plan.deletions.fingerprint != verdict.fingerprint:
            self._recorder.event(connection, "Warning", "DeletionsHeld", text)
        return text

    def _announce_problems(self, connection: Object, wanted: DesiredSet, managed: Mapping[str, Object]) -> None:
        """Write an Event for each application that cannot be applied: once, and again when its problem changes."""
        for name, problem in wanted.problems.items():
            if self._problems.get(name) != problem:
                about = managed.get(name, connection)
                self._recorder.event(about, "Warning", problem.reason, f"{name}: {problem.message}")
        self._problems = wanted.problems

    def _conclude(self, connection: Object) -> float | None:
        """Write the results to the status, when the last Application is done or when a result has changed.

        Returns the seconds after which to try again if it was too early, else None.
        """
        fetch, now = self._fetch, self._clock.monotonic()
        assert fetch is not None
        self._progress.report_hanging(self._workers.seconds_without_answer(), workers=self._workers.workers)
        outcome = self._progress.outcome()  # of this fetch, because no other reconcile publishes
        counts = status.ApplicationCounts(outcome.desired, outcome.synced, outcome.failed)
        self._metrics.applications(desired=counts.desired, synced=counts.synced, failed=len(counts.failed))
        if outcome.pending:
            return HANGING_SECONDS
        first = self._concluded is None or self._concluded.generation != outcome.generation
        if self._concluded == outcome:
            return None
        too_soon = self._concluded_at + _MIN_CONCLUSION_SECONDS - now
        if not first and too_soon > 0:
            return too_soon
        self._write_status(connection, fetch, counts)
        self._concluded, self._concluded_at = outcome, now
        if first:
            success = not (outcome.failed or fetch.held_because or fetch.labels_error)
            self._metrics.sync_concluded(success=success, seconds=now - fetch.began, at=self._clock.time())
        return None

    def _write_status(self, connection: Object, fetch: _Fetch, counts: status.ApplicationCounts) -> None:
        apply_error = "; ".join(filter(None, [fetch.held_because, status.failures_text(counts.failed)]))
        now = self._clock.time()
        before = status.state_of(self._connections.get(connection["metadata"]["name"]))
        health = self._health.observations()
        result: status.ConnectionState | None = None

        def change(obj: Object) -> None:
            nonlocal result
            if health.connector_accepted_at is not None and not health.refusals:
                status.set_contacted(obj, at=health.connector_accepted_at)
            result = status.set_synchronized(
                obj,
                fetched_at=fetch.at,
                now=now,
                counts=counts,
                apply_error=apply_error or None,
                labels_error=fetch.labels_error or None,
            )

        written = self._connections.apply_to(connection, change)
        state = status.state_of(written)
        self._metrics.connection_state(state)
        if result is not None:
            self._health.synchronised(result)
        if written is None or state == before or state != result:
            return  # another state than the result is that of a lost connection
        error = apply_error or fetch.labels_error
        text = error or f"{counts.synced} Applications are in sync with the Director"
        self._recorder.event(written, "Warning" if error else "Normal", state or "Pending", text)
        shown = {"state": state, "applications": counts.desired, "failed": len(counts.failed), "error": error}
        log.log(logging.WARNING if error else logging.INFO, "Sync finished", extra=shown)

    def _report_labels(self, director: DirectorClient, registration: Registration, labels: Mapping[str, str]) -> str:
        """Report the URLs that differ from the Director's labels; returns the errors, "" if there are none."""
        errors = []
        for key, value in (
            (EVENTS_LABEL, self._settings.runtime_events_url),
            (CONSOLE_LABEL, self._settings.runtime_console_url),
        ):
            if labels.get(key) == value:
                continue
            identifier = new_request_id(registration.runtime_id)
            try:
                director.set_runtime_label(registration.runtime_id, key, value, request_id=identifier)
            except CompassError as error:
                errors.append(f"{key}: {error}")
                log.warning("Report of a label failed", extra={"error": errors[-1], "requestID": identifier})
        return "; ".join(errors)


def _skip(why: str) -> Result:
    """There is nothing to fetch. A change triggers this key. A correction of the clock does not, so the time is checked
    again.
    """
    log.debug("Skipped", extra={"reason": why})
    return Result(requeue_after=_LATEST_LOOK_SECONDS)


def _confirmation(connection: Object) -> str | None:
    return fields.annotations(connection).get(CONFIRM_DELETIONS)


def _remove_confirmation(obj: Object, value: str) -> None:
    """Remove the confirmation unless it has another value now."""
    if _confirmation(obj) == value:
        del obj["metadata"]["annotations"][CONFIRM_DELETIONS]


def _without_resync_now(obj: Object) -> None:
    fields.spec(obj).pop("resyncNow", None)


def _earlier(seconds: float, other: float | None) -> float:
    return max(0.0, seconds if other is None else min(seconds, other))


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"
