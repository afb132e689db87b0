"""Makes true: the desired set of Applications is what the Director says now, and the Runtime's labels are reported.

It fetches and decides, and never writes an Application itself: it publishes the desired set, enqueues the names that
differ, and tells the outcome when the last of them was tried. When nothing differs, a cycle costs one write: the
status.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controller import status as cc
from controller.compass.director import DirectorClient
from controller.compass.errors import CompassError, Refused, Unavailable
from controller.compass.types import Assignment
from controller.connections import ConnectionStore
from controller.credentials import Connection, CredentialsError, CredentialsStore, StoredCredentials
from controller.metrics import AgentMetrics
from controller.model.application import ConversionSettings
from controller.model.desired import desired_set
from controller.reconcilers.application import ApplicationReconciler
from controller.reconcilers.attempts import Attempts
from controller.reconcilers.link import DIRECTOR, Link
from controller.reconcilers.progress import Outcome, Progress
from controller.runtime.controller import Controller
from controller.runtime.events import EventRecorder
from controller.runtime.reconcile import Result
from controller.sessions import Sessions, request_id
from controller.settings import Settings
from workqueue.clock import Clock

_log = logging.getLogger(__name__)

CONFIRM_DELETIONS = "compass.kyma-project.io/confirm-deletions"
"""Annotation of the CompassConnection: so many Applications may be deleted at once. Taken away when it was used."""

EVENTS_LABEL = "runtime_eventServiceUrl"
CONSOLE_LABEL = "runtime_consoleUrl"

_PERIOD_JITTER = 0.1
_MIN_CONCLUSION_SECONDS = 1.0  # failures that come and go must not turn into a write each
_CHANGE_PRIORITY = 10  # a change must not wait behind thousands of new Applications

Object = dict[str, Any]


@dataclass(frozen=True)
class _Fetch:
    """The last fetch: when it began, and what it says beside the Applications."""

    generation: int
    began: float  # monotonic
    at: float  # epoch
    labels: Mapping[str, Any]
    held: str  # why deletions are held back, "" when they are not


class SyncReconciler:
    """Keyed by the name of the CompassConnection."""

    def __init__(
        self,
        *,
        settings: Settings,
        connections: ConnectionStore,
        credentials: CredentialsStore,
        sessions: Sessions,
        applications: ApplicationReconciler,
        workers: Controller[str],
        progress: Progress,
        link: Link,
        attempts: Attempts,
        recorder: EventRecorder,
        metrics: AgentMetrics,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._conversion = ConversionSettings(
            gateway_url=settings.central_gateway_url, skip_verify=settings.skip_apps_tls_verify
        )
        self._connections = connections
        self._credentials = credentials
        self._sessions = sessions
        self._applications = applications
        self._workers = workers
        self._progress = progress
        self._link = link
        self._attempts = attempts
        self._recorder = recorder
        self._metrics = metrics
        self._clock = clock
        self._random = random
        self._fetch: _Fetch | None = None
        self._fetched_as: Connection | None = None
        self._next_fetch = 0.0
        self._concluded: tuple[Outcome, str] | None = None
        self._concluded_at = float("-inf")

    def reconcile(self, name: str) -> Result:
        connection = self._connections.get(name)
        state = cc.state_of(connection)
        self._metrics.connection_state(state)
        if connection is None or state in (None, cc.State.CONNECTION_FAILED):
            return Result()
        try:
            credentials = self._credentials.load()
        except CredentialsError:
            return Result()
        known = credentials.connection
        if known is None or self._clock.time() >= credentials.not_after:
            return Result()
        now = self._clock.monotonic()
        if self._must_fetch(connection, known, now):
            what = f"{credentials.fingerprint} {known.director_url}"
            delay = self._attempts.wait(what)
            if delay <= 0 or cc.flag(connection, "resyncNow"):
                return self._synchronise(connection, credentials, known, what)
            return Result(requeue_after=delay)
        return self._conclude(name, credentials, known)

    def _must_fetch(self, connection: Object, known: Connection, now: float) -> bool:
        if self._fetch is None or self._fetched_as != known or now >= self._next_fetch:
            return True
        return cc.flag(connection, "resyncNow") or (bool(self._fetch.held) and _confirmed(connection) is not None)

    def _synchronise(self, connection: Object, credentials: StoredCredentials, known: Connection, what: str) -> Result:
        name = connection["metadata"]["name"]
        began, at = self._clock.monotonic(), self._clock.time()
        identifier = request_id(known.runtime_id)
        if cc.flag(connection, "resyncNow"):
            # Reset when acted upon, not when it worked: else a Compass that fails would be asked in a tight loop.
            self._connections.update(name, _without_resync_now)
        try:
            director = self._sessions.director(credentials, known)
            assignment = director.fetch(known.runtime_id, request_id=identifier)
        except CompassError as error:
            return self._fetch_failed(name, error, what, identifier)
        self._attempts.succeeded()
        self._link.accepted(DIRECTOR)
        self._take_over(connection, assignment, began=began, at=at)
        self._fetched_as = known
        period = max(self._settings.sync_period, self._settings.minimal_sync_time)
        self._next_fetch = began + period * (1 + _PERIOD_JITTER * self._random())
        return self._conclude(name, credentials, known)

    def _fetch_failed(self, name: str, error: CompassError, what: str, identifier: str) -> Result:
        at_least = error.retry_after if isinstance(error, Unavailable) else None
        delay = self._attempts.failed(what, at_least=at_least)
        self._metrics.sync_failed()
        text = f"Failed to fetch configuration: x-request-id: {identifier} failed: {error}"
        refused = isinstance(error, Refused)
        if refused:
            self._link.refused(DIRECTOR, str(error))
        now = self._clock.time()

        def change(obj: Object) -> None:
            cc.sync_failed(obj, text, now=now)
            if refused:
                cc.maintenance_failed(obj, f"the Director does not accept the certificate: {error}", now=now)

        written = self._connections.update(name, change)
        if written is not None:
            self._recorder.event(written, "Warning", "SynchronizationFailed", text)
        _log.warning("fetching from the Director failed", extra={"error": text})
        return Result(requeue_after=delay)

    def _take_over(self, connection: Object, assignment: Assignment, *, began: float, at: float) -> None:
        """Publish what was fetched as the desired set, and enqueue what differs from it."""
        wanted = desired_set(assignment, self._conversion)
        managed = self._applications.managed()
        gone = [obj["metadata"]["name"] for obj in managed if wanted.removes(obj)]
        held = self._hold(connection, len(gone), len(managed))
        if not held and len(gone) * 2 > len(managed):
            self._recorder.event(
                connection, "Warning", "MassDeletion", f"{len(gone)} of {len(managed)} Applications are being deleted"
            )
        pending = self._applications.differing(wanted) + ([] if held else gone)
        generation = self._progress.publish(wanted, pending=pending, held=gone if held else ())
        self._fetch = _Fetch(generation, began, at, assignment.labels, held)
        existing = {obj["metadata"]["name"] for obj in managed}
        for name in pending:
            self._workers.enqueue(name, priority=_CHANGE_PRIORITY if name in existing else 0)
        _log.info(
            "fetched from the Director",
            extra={"applications": len(wanted.by_name), "differing": len(pending), "problems": len(wanted.problems)},
        )

    def _hold(self, connection: Object, gone: int, managed: int) -> str:
        limit = self._settings.max_deletion_percent
        if limit is None or gone * 100 <= limit * managed:
            return ""
        confirmed = _confirmed(connection)
        if confirmed is not None and confirmed >= gone:
            self._connections.update(connection["metadata"]["name"], _without_confirmation)
            return ""
        return (
            f"{gone} of {managed} Applications would be deleted, more than APP_MAX_DELETION_PERCENT={limit} allows; "
            f"to let it happen: kubectl annotate compassconnection {connection['metadata']['name']} "
            f"{CONFIRM_DELETIONS}={gone}"
        )

    def _conclude(self, name: str, credentials: StoredCredentials, known: Connection) -> Result:
        """Tell the outcome, once the last Application was tried or when an outcome changed."""
        fetch, now = self._fetch, self._clock.monotonic()
        assert fetch is not None
        until_fetch = max(0.0, self._next_fetch - now)
        outcome = self._progress.outcome()
        if outcome.pending or outcome.generation != fetch.generation:
            return Result(requeue_after=until_fetch)
        first = self._concluded is None or self._concluded[0].generation != outcome.generation
        if not first and self._concluded is not None and self._concluded[0] == outcome:
            return Result(requeue_after=until_fetch)
        too_soon = self._concluded_at + _MIN_CONCLUSION_SECONDS - now
        if not first and too_soon > 0:
            return Result(requeue_after=too_soon)
        if first:
            labels_error = self._report_labels(self._sessions.director(credentials, known), known, fetch.labels)
        else:
            labels_error = self._concluded[1] if self._concluded is not None else ""
        self._tell(name, fetch, outcome, labels_error)
        self._concluded, self._concluded_at = (outcome, labels_error), now
        return Result(requeue_after=until_fetch)

    def _tell(self, name: str, fetch: _Fetch, outcome: Outcome, labels_error: str) -> None:
        apply_error = "; ".join(filter(None, [fetch.held, cc.failures_text(outcome.failed)]))
        counts = cc.ApplicationCounts(outcome.desired, outcome.synced, outcome.failed)
        now = self._clock.time()
        before = cc.state_of(self._connections.get(name))

        def change(obj: Object) -> None:
            if self._link.suspicion is None and self._link.checked_at is not None:
                cc.maintained(obj, now=self._link.checked_at)
            cc.synchronized(
                obj,
                fetched_at=fetch.at,
                now=now,
                counts=counts,
                apply_error=apply_error or None,
                labels_error=labels_error or None,
            )

        written = self._connections.update(name, change)
        state = cc.state_of(written)
        self._metrics.connection_state(state)
        self._metrics.applications(desired=outcome.desired, synced=outcome.synced, failed=len(outcome.failed))
        success = not apply_error and not labels_error
        self._metrics.sync_concluded(success=success, seconds=self._clock.monotonic() - fetch.began, at=now)
        if written is not None and state != before:
            text = apply_error or labels_error or f"{outcome.synced} Applications are as the Director says"
            self._recorder.event(written, "Normal" if success else "Warning", state or "Pending", text)
            _log.log(
                logging.INFO if success else logging.WARNING,
                "synchronisation concluded",
                extra={"state": state, "applications": outcome.desired, "failed": len(outcome.failed), "error": text}
                if not success
                else {"state": state, "applications": outcome.desired},
            )

    def _report_labels(self, director: DirectorClient, known: Connection, labels: Mapping[str, Any]) -> str:
        """Report the URLs that the Director does not have yet; gives the errors, "" when there is none."""
        errors = []
        for key, value in (
            (EVENTS_LABEL, self._settings.runtime_events_url),
            (CONSOLE_LABEL, self._settings.runtime_console_url),
        ):
            if labels.get(key) == value:
                continue
            try:
                director.set_runtime_label(known.runtime_id, key, value, request_id=request_id(known.runtime_id))
            except CompassError as error:
                errors.append(f"{key}: {error}")
        return "; ".join(errors)


def _confirmed(connection: Object) -> int | None:
    text = (connection["metadata"].get("annotations") or {}).get(CONFIRM_DELETIONS, "")
    return int(text) if text.isascii() and text.isdigit() else None


def _without_confirmation(obj: Object) -> None:
    obj["metadata"].get("annotations", {}).pop(CONFIRM_DELETIONS, None)


def _without_resync_now(obj: Object) -> None:
    obj["spec"].pop("resyncNow", None)
