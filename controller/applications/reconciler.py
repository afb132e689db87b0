"""Keeps one Application and its Secrets equal to what Compass assigns.

Triggered by the desired set, by the Application and by its Secrets, so drift is reverted from the caches without a call
to Compass. A change after which the object is as assigned, such as an own write, triggers nothing. Objects of users
(without `spec.compassMetadata`) are never changed, and in its own objects the agent keeps the fields that it does not
own. An application that cannot be applied stays unchanged except for the annotation that says so.
"""

import datetime
import logging
from collections.abc import Iterable
from typing import NamedTuple

from controller import fields
from controller.applications.conversion import (
    Desired,
    has_sync_status,
    is_managed,
    merge_application,
    with_sync_status,
)
from controller.applications.desired import DesiredSet
from controller.applications.objects import NotApplied, Objects, Overridden, Stale, is_being_deleted
from controller.applications.progress import Plan, Progress
from controller.applications.secrets import (
    NOT_ASSIGNED,
    NOT_WANTED,
    ApplicationSecrets,
    Object,
    owning_applications,
)
from controller.metrics import AgentMetrics
from controller.resources import APPLICATION, DELETION_HELD, OVERRIDDEN, SECRET, SECRETS_FAILED, SYNCED
from controller.runtime import logs
from controller.runtime.controller import ReconcileFailed, Result
from controller.runtime.events import EventRecorder
from informers.client import Client
from informers.errors import KubernetesError
from informers.indexer import Indexer
from workqueue.clock import Clock

log = logging.getLogger(__name__)

_TRIES = 10  # of one name with fresh data; if they fail, another client changes it all the time, and back-off applies
_DELETION_SECONDS = 10.0  # components remove their finalizers within seconds; after this time, a deletion is reported
_LOOK_AGAIN = 300.0  # seconds until a retry when others have to act; usually their change triggers the key earlier


class _Comparison(NamedTuple):
    """All inputs of a comparison of all objects with a plan, and the names that it found."""

    inputs: tuple[object, ...]
    differing: list[str]


class DeletionPending(Exception):
    """The deletion of the object is not complete yet, which is normal in the first seconds. `retry_after`: seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__()
        self.retry_after = retry_after


class ApplicationReconciler:
    """Keyed by the name of an Application; several names are reconciled at the same time."""

    def __init__(
        self,
        client: Client,
        *,
        applications: Indexer,
        secrets: Indexer,
        namespace: str,
        reserved: frozenset[str],
        progress: Progress,
        recorder: EventRecorder,
        metrics: AgentMetrics,
        clock: Clock,
    ) -> None:
        self._applications = Objects(client, APPLICATION, applications, namespace=None, metrics=metrics, clock=clock)
        secret_objects = Objects(client, SECRET, secrets, namespace=namespace, metrics=metrics, clock=clock)
        self._secrets = ApplicationSecrets(secret_objects, namespace=namespace, reserved=reserved)
        self._caches = (self._applications.cache, secret_objects.cache)
        self._progress = progress
        self._recorder = recorder
        self._clock = clock
        self._warned: dict[str, tuple[str, ...]] = {}  # warnings for which an Event was written, by Application
        self._last_comparison: _Comparison | None = None

    def reconcile(self, name: str) -> Result:
        plan = self._progress.plan
        if plan is None:
            log.debug("Skipped", extra={"reason": "no sync has finished yet"})
            return Result()
        with logs.bind(requestID=plan.request_id):
            try:
                self._reconcile_until_current(name, plan)
            except DeletionPending as wait:
                return Result(requeue_after=wait.retry_after)
            except (KubernetesError, ReconcileFailed) as error:
                retry_after = error.retry_after if isinstance(error, NotApplied) else None
                # While writes are paused, each event of the object ends here: no further Event, no further log line.
                is_news = self._failed(name, plan, str(error), repeatedly=retry_after is None)
                if retry_after is None:
                    raise
                if is_news:
                    log.warning("Cannot apply the Application", extra={"error": str(error)})
                return Result(requeue_after=retry_after)
            except Exception as error:
                # A programming error. Its text may contain data, so only its type is reported.
                self._failed(name, plan, f"unexpected {type(error).__name__}")
                raise
        problem = plan.desired.problems.get(name)
        if problem is None:
            self._progress.succeeded(name, plan)
        else:
            self._progress.failed(name, plan, problem.message)
        return Result()

    def managed(self) -> list[Object]:
        """All cached Applications that the agent manages and that are not being deleted."""
        return [
            application
            for application in self._applications.indexer.list()
            if is_managed(application) and not is_being_deleted(application)
        ]

    def application_may_need_work(self, _: Object | None, new: Object | None) -> bool:
        """Whether a change of an Application may need work. Before the first plan none does: the sync compares all."""
        plan = self._progress.plan
        if plan is None or new is None:
            return plan is not None
        name = new["metadata"]["name"]
        desired = plan.desired.by_name.get(name)
        return desired is None or self._progress.has_failed(name) or not self._is_synced(new, desired)

    def secret_may_need_work(self, old: Object | None, new: Object | None) -> bool:
        """The same for a Secret."""
        plan = self._progress.plan
        if plan is None or new is None:
            return plan is not None
        names = owning_applications(new)
        if old is not None and owning_applications(old) != names:
            return True
        return any(
            self._progress.has_failed(name)
            or self._secrets.differs(new, plan.desired.by_name.get(name), self._applications.get(name))
            for name in names
        )

    def differing(self, plan: Plan) -> list[str]:
        """Names whose objects differ from the published plan, except those of Applications to delete.

        Called by one thread. If neither the plan nor an object has changed, the result is that of the last comparison.
        """
        changes = (cache.changes() for cache in self._caches)
        inputs = (plan.desired, plan.deletions.held, *changes, {**self._warned})
        last = self._last_comparison
        if last is None or last.inputs != inputs:
            last = self._last_comparison = _Comparison(inputs, self._compare(plan))
        return last.differing

    def _compare(self, plan: Plan) -> list[str]:
        wanted = plan.desired
        return [
            *(name for name, desired in wanted.by_name.items() if self._differs(desired)),
            *(name for name, problem in wanted.problems.items() if self._to_mark(name, problem.reason.value)),
            *(name for name in plan.deletions.held if self._to_mark(name, DELETION_HELD)),
            *(name for name in self._secrets.owners() if self._is_orphaned(name, wanted)),
            *(
                obj["metadata"]["name"]
                for obj in self._applications.indexer.list()
                if self._waits_for_finalizers(obj, wanted)
            ),
        ]

    def _differs(self, desired: Desired) -> bool:
        application = self._applications.get(desired.name)
        return (
            application is None
            or not self._is_synced(application, desired)
            or self._warned.get(desired.name, ()) != desired.warnings
            or self._secrets.differ(desired, application)
        )

    def _is_synced(self, application: Object, desired: Desired) -> bool:
        return (
            is_managed(application)
            and not is_being_deleted(application)
            and has_sync_status(application, SYNCED)
            and merge_application(application, desired) is None
        )

    def _to_mark(self, name: str, status: str) -> Object | None:
        """The Application that needs this status; None if there is none, or if it has the status already."""
        application = self._applications.get(name)
        if application is None or not is_managed(application) or is_being_deleted(application):
            return None
        return None if has_sync_status(application, status) else application

    def _is_orphaned(self, name: str, wanted: DesiredSet) -> bool:
        """Whether there are Secrets of an Application that is not desired and that is absent or belongs to a user."""
        if name in wanted.by_name or name in wanted.problems:
            return False
        application = self._applications.get(name)
        if application is None:
            return bool(self._secrets.unwanted(name, ()))
        return not is_managed(application) and bool(self._secrets.left_behind(name))

    def _waits_for_finalizers(self, application: Object, wanted: DesiredSet) -> bool:
        """Whether the Application is deleted because it is not assigned, and finalizers keep it."""
        return is_being_deleted(application) and wanted.removes(application)

    def _reconcile_until_current(self, name: str, plan: Plan) -> None:
        for _ in range(_TRIES):
            try:
                self._try(name, plan)
            except Stale as error:
                last = error.__cause__
            else:
                return
        raise NotApplied(
            f"another client changes it all the time: {_TRIES} writes in a row met a newer version ({last})"
        ) from last

    def _try(self, name: str, plan: Plan) -> None:
        problem = plan.desired.problems.get(name)
        if problem is not None:
            self._leave(name, problem.reason.value)
        elif name in plan.deletions.held:
            self._leave(name, DELETION_HELD)
        elif name in plan.desired.by_name:
            self._apply(plan.desired.by_name[name], self._applications.get(name))
        else:
            self._remove(name, plan)

    def _leave(self, name: str, status: str) -> None:
        """The problem is reported already. The Application stays unchanged except for its status annotation."""
        log.debug("Skipped", extra={"reason": status})
        application = self._to_mark(name, status)
        if application is not None:
            self._mark(application, status)

    def _apply(self, desired: Desired, application: Object | None) -> None:
        if application is not None and not is_managed(application):
            raise NotApplied(
                "an Application with this name exists and is not managed by Compass; it stays unchanged. If nothing "
                "needs it, delete it",
                retry_after=_LOOK_AGAIN,
            )
        if application is None:
            application = self._write(desired, None, SYNCED)  # its Secrets need its uid
        hidden = self._secrets.hidden(application, desired.secrets)
        # Secrets first, so that the Application never refers to a Secret that does not exist yet.
        problems = self._secrets.apply(desired.secrets, application)
        status = SECRETS_FAILED if problems else SYNCED
        try:
            application = self._write(desired, application, status)
        except Overridden as error:
            problems.append(error)
        kept = self._remove_unwanted_secrets(desired, application, hidden)
        self._warn(desired, application)
        if problems:
            pauses = [problem.retry_after for problem in problems if problem.retry_after is not None]
            soonest = min(pauses) if len(pauses) == len(problems) else None
            raise NotApplied("; ".join(map(str, problems)), retry_after=soonest)
        self._check_deletion(application, "it is created again afterwards")
        self._check_deletions(kept, NOT_WANTED)

    def _write(self, desired: Desired, application: Object | None, status: str) -> Object:
        """Write the Application unless it has the desired content and status; returns the stored object."""
        merged = merge_application(application, desired)
        if merged is None:
            assert application is not None
            return application if has_sync_status(application, status) else self._mark(application, status)
        first_status = OVERRIDDEN if self._applications.is_overridden(desired.name, desired) else status
        try:
            stored = self._applications.write(
                with_sync_status(merged, first_status),
                application,
                content=desired,
                correct=lambda stored: merge_application(stored, desired),
            )
        except Overridden as error:
            if error.stored is not None and is_managed(error.stored) and not has_sync_status(error.stored, OVERRIDDEN):
                self._mark(error.stored, OVERRIDDEN)
            raise
        return stored if has_sync_status(stored, status) else self._mark(stored, status)

    def _mark(self, application: Object, status: str) -> Object:
        """Write the status annotation."""
        return self._applications.write(
            with_sync_status(application, status),
            application,
            content=status,
            correct=lambda stored: None if has_sync_status(stored, status) else with_sync_status(stored, status),
        )

    def _remove_unwanted_secrets(self, desired: Desired, application: Object, hidden: list[Object]) -> list[Object]:
        """Returns those that exist until their finalizers are removed."""
        unwanted = [*self._secrets.unwanted(desired.name, desired.secrets), *hidden]
        kept = self._secrets.remove(unwanted, NOT_WANTED)
        bundles = {service["id"] for service in desired.spec["services"]}
        removed = (secret for secret in unwanted if not is_being_deleted(secret))
        vanished = [secret for secret in removed if fields.labels(secret).get("bundleId") in bundles]
        if vanished:
            # The answer is the same if the Director hides the credentials from this Runtime.
            names = ", ".join(secret["metadata"]["name"] for secret in vanished)
            text = f"The Director no longer returns credentials or parameters of a bundle; removed: {names}"
            self._recorder.event(application, "Warning", "CredentialsVanished", text)
        return kept

    def _remove(self, name: str, plan: Plan) -> None:
        """The Application first: after its deletion, its Secrets have no owner. A Secret of a user stays."""
        application = self._applications.get(name)
        if application is None:
            kept = self._secrets.remove(self._secrets.unwanted(name, ()), NOT_ASSIGNED)
        elif not is_managed(application):
            kept = self._secrets.remove(self._secrets.left_behind(name), NOT_ASSIGNED)
        elif not plan.desired.removes(application):
            log.debug("Skipped", extra={"reason": "the application has a problem under another name"})
            return
        elif not is_being_deleted(application) and not plan.deletions.allows(application["metadata"]):
            log.debug("Skipped", extra={"reason": "the next fetch counts it and decides"})
            return
        else:
            hidden = self._secrets.hidden(application, ())
            if not is_being_deleted(application):
                self._applications.delete(application, "it is no longer assigned in Compass")
            kept = self._secrets.remove([*self._secrets.unwanted(name, ()), *hidden], NOT_ASSIGNED)
            self._check_deletion(self._applications.get(name), "it is no longer assigned in Compass")
        self._warned.pop(name, None)
        self._check_deletions(kept, NOT_ASSIGNED)

    def _warn(self, desired: Desired, application: Object) -> None:
        """Write an Event for data that is not supported: once, and again when it changes."""
        if self._warned.get(desired.name, ()) == desired.warnings:
            return
        for warning in desired.warnings:
            self._recorder.event(application, "Warning", "CredentialsNotServed", warning)
        if desired.warnings:
            self._warned[desired.name] = desired.warnings
        else:
            del self._warned[desired.name]

    def _check_deletions(self, secrets: Iterable[Object], why: str) -> None:
        for secret in secrets:
            self._check_deletion(secret, why, named=f"Secret {secret['metadata']['name']}: ")

    def _check_deletion(self, obj: Object | None, why: str, *, named: str = "") -> None:
        """Raise DeletionPending, and NotApplied after some time, if the object is being deleted."""
        if obj is None or not is_being_deleted(obj):
            return
        since = datetime.datetime.fromisoformat(obj["metadata"]["deletionTimestamp"]).timestamp()
        wait = since + _DELETION_SECONDS - self._clock.time()
        if wait > 0:
            raise DeletionPending(min(wait, _DELETION_SECONDS))
        found = obj["metadata"].get("finalizers")
        finalizers = ", ".join(map(str, found)) if found and isinstance(found, list) else "none"
        raise NotApplied(
            f"{named}its deletion is not complete ({why}): other components have to remove their finalizers "
            f"({finalizers}); if such a component is gone, remove its finalizer with kubectl edit",
            retry_after=_LOOK_AGAIN,
        )

    def _failed(self, name: str, plan: Plan, error: str, *, repeatedly: bool = True) -> bool:
        """Returns whether the failure differs from the last one; if not, an Event is written only `repeatedly`."""
        is_news = self._progress.failed(name, plan, error)
        if is_news or repeatedly:
            about = self._applications.get(name) or {
                "apiVersion": APPLICATION.api_version,
                "kind": APPLICATION.kind,
                "metadata": {"name": name},
            }
            self._recorder.event(about, "Warning", "ApplicationFailed", error)
        return is_news
