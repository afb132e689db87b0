"""Makes one Application and its Secrets what Compass assigns.

Woken by the desired set, by the Application and by its Secrets; so drift is reverted from the caches, without asking
Compass. Objects of users (no ``spec.compassMetadata``) are never touched, and what the agent does not own in its own
objects survives. What cannot be applied is left as it is, but for the annotation that says so.
"""

import logging
from collections.abc import Collection

from controller.context import Context, Process, name_of, rate_limiter
from controller.metrics import AgentMetrics
from controller.model import fields
from controller.model.application import Desired, is_managed, merge_application
from controller.model.desired import DesiredSet
from controller.model.sync_status import DELETION_HELD, SECRETS_FAILED, SYNCED, tells, with_sync_status
from controller.reconcilers.application_secrets import (
    NOT_ASSIGNED,
    NOT_WANTED,
    ApplicationSecrets,
    ForeignObject,
    Object,
    owning_applications,
    reserved_secrets,
)
from controller.reconcilers.objects import Objects, Stale
from controller.reconcilers.progress import Plan, Progress
from controller.resources import APPLICATION, SECRET
from controller.runtime import logs
from controller.runtime.controller import Controller
from controller.runtime.events import EventRecorder
from controller.runtime.reconcile import ReconcileFailed, Result
from informers.client import Client
from informers.errors import KubernetesError
from informers.lister import Lister
from workqueue.clock import Clock

log = logging.getLogger(__name__)

_WORKERS = 8  # the API server answers a write in some milliseconds; more threads only wait for each other
_RETRY_CAP = 300.0  # what Kubernetes refuses is often a quota or a policy, which people change within minutes
_TRIES = 3  # of one name with fresh data each time; more would be a fight, which back-off should end


_Compared = tuple[Desired, tuple[str, ...], Object | None, list[Object | None]]


class SecretsFailed(ReconcileFailed):
    """The Application is right as far as it can be, and some of its Secrets are not."""


class ApplicationReconciler:
    """Keyed by the name of an Application; several names are worked on at the same time."""

    def __init__(
        self,
        client: Client,
        *,
        applications: Lister,
        secrets: Lister,
        namespace: str,
        reserved: frozenset[str],
        progress: Progress,
        recorder: EventRecorder,
        metrics: AgentMetrics,
        clock: Clock,
    ) -> None:
        self._applications = Objects(client, APPLICATION, applications, namespace=None, metrics=metrics, clock=clock)
        self._secrets = ApplicationSecrets(
            Objects(client, SECRET, secrets, namespace=namespace, metrics=metrics, clock=clock),
            namespace=namespace,
            reserved=reserved,
        )
        self._progress = progress
        self._recorder = recorder
        self._told: dict[str, tuple[str, ...]] = {}  # warnings that have become Events, by Application
        self._equal: dict[str, _Compared] = {}  # what the last `differing` found equal, by Application

    def reconcile(self, name: str) -> Result:
        plan = self._progress.plan
        if plan is None:
            log.debug("Skipped", extra={"reason": "no sync has finished yet"})
            return Result()
        with logs.bind(requestID=plan.request_id):
            try:
                self._make_true(name, plan)
            except ForeignObject as error:
                self._failed(name, plan, str(error))
                log.warning("Cannot apply the Application", extra={"error": str(error)})
                return Result()  # when the foreign object goes or changes, its event comes here
            except (KubernetesError, SecretsFailed) as error:
                self._failed(name, plan, str(error))
                raise
            except Exception as error:
                # A mistake in the program. Its text may quote data, so only its kind is told.
                self._failed(name, plan, f"unexpected {type(error).__name__}")
                raise
        problem = plan.desired.problems.get(name)
        if problem is None:
            self._progress.succeeded(name, plan)
        else:
            self._progress.failed(name, plan, problem.message)
        return Result()

    def managed(self) -> list[Object]:
        """All Applications that the agent manages and that nobody deletes already, as the cache has them."""
        return [
            application
            for application in self._applications.lister.list()
            if is_managed(application) and not _is_being_deleted(application)
        ]

    def differing(self, wanted: DesiredSet, held: Collection[str]) -> list[str]:
        """Names whose objects are not as the set wants them: all that need work, except deletions of Applications.

        Called by one thread.
        """
        compared = {name: self._to_compare(desired) for name, desired in wanted.by_name.items()}
        different = [
            name
            for name, values in compared.items()
            # Nearly always all of them are the very objects that were found equal before.
            if values != self._equal.get(name) and self._differ(*values)
        ]
        for name in different:
            del compared[name]
        self._equal = compared
        return [
            *different,
            *(name for name, problem in wanted.problems.items() if self._to_mark(name, problem.reason.value)),
            *(name for name in held if self._to_mark(name, DELETION_HELD)),
            *(name for name in self._secrets.owners() if self._is_orphaned(name, wanted)),
        ]

    def _to_compare(self, desired: Desired) -> "_Compared":
        """All that it depends on whether anything is to be done for this Application."""
        told = self._told.get(desired.name, ())
        return desired, told, self._applications.get(desired.name), self._secrets.to_compare(desired)

    def _differ(
        self, desired: Desired, told: tuple[str, ...], application: Object | None, secrets: list[Object | None]
    ) -> bool:
        if application is None or not is_managed(application):
            return True
        return (
            merge_application(application, desired) is not None
            or not tells(application, SYNCED)
            or told != desired.warnings
            or self._secrets.differ(desired, application, secrets)
        )

    def _to_mark(self, name: str, status: str) -> Object | None:
        """The Application that has to get this status; None when there is none, or it has it."""
        application = self._applications.get(name)
        if application is None or not is_managed(application) or _is_being_deleted(application):
            return None
        return None if tells(application, status) else application

    def _is_orphaned(self, name: str, wanted: DesiredSet) -> bool:
        """Whether there are Secrets of an Application that is not wanted, and not there or a user's."""
        if name in wanted.by_name or name in wanted.problems:
            return False
        application = self._applications.get(name)
        if application is None:
            return bool(self._secrets.unwanted(name, ()))
        return not is_managed(application) and bool(self._secrets.left_behind(name))

    def _make_true(self, name: str, plan: Plan) -> None:
        for attempt in range(1, _TRIES + 1):
            try:
                self._try(name, plan)
            except Stale as error:
                if attempt == _TRIES:
                    raise error.cause from error
            else:
                return

    def _try(self, name: str, plan: Plan) -> None:
        problem = plan.desired.problems.get(name)
        if problem is not None:
            self._leave(name, problem.reason.value)
        elif name in plan.held:
            self._leave(name, DELETION_HELD)
        elif name in plan.desired.by_name:
            self._apply(plan.desired.by_name[name], self._applications.get(name))
        else:
            self._remove(name, plan.desired)

    def _leave(self, name: str, status: str) -> None:
        """Reported already, and left as it is: the Application only says so."""
        log.debug("Skipped", extra={"reason": status})
        application = self._to_mark(name, status)
        if application is not None:
            self._applications.write(with_sync_status(application, status), application)

    def _apply(self, desired: Desired, application: Object | None) -> None:
        if application is not None and not is_managed(application):
            raise ForeignObject(
                "an Application with this name exists and is not managed by Compass; it stays unchanged"
            )
        if application is None:
            application = self._create(desired)  # its Secrets need its uid
        hidden = self._secrets.hidden(application, desired.secrets)
        # Secrets first: at no moment does the Application name one that is not there yet.
        problems = self._secrets.apply(desired.secrets, application)
        merged = merge_application(application, desired)
        status = SECRETS_FAILED if problems else SYNCED
        if merged is not None or not tells(application, status):
            application = self._applications.write(with_sync_status(merged or application, status), application)
        self._remove_unwanted_secrets(desired, application, hidden)
        self._warn(desired, application)
        if problems:
            raise SecretsFailed("; ".join(problems))

    def _create(self, desired: Desired) -> Object:
        fresh = merge_application(None, desired)
        assert fresh is not None
        return self._applications.write(with_sync_status(fresh, SYNCED), None)

    def _remove_unwanted_secrets(self, desired: Desired, application: Object, hidden: list[Object]) -> None:
        unwanted = [*self._secrets.unwanted(desired.name, desired.secrets), *hidden]
        self._secrets.remove(unwanted, NOT_WANTED)
        bundles = {service["id"] for service in desired.spec["services"]}
        vanished = [secret for secret in unwanted if fields.labels(secret).get("bundleId") in bundles]
        if vanished:
            # A Director that hides credentials from this Runtime looks the same as one that has none any more.
            names = ", ".join(secret["metadata"]["name"] for secret in vanished)
            text = f"The Director no longer returns credentials or parameters of a bundle; removed: {names}"
            self._recorder.event(application, "Warning", "CredentialsVanished", text)

    def _remove(self, name: str, wanted: DesiredSet) -> None:
        """The Application first: once it is gone as it was seen, its Secrets are nobody's. A user's stays."""
        application = self._applications.get(name)
        if application is None:
            self._secrets.remove(self._secrets.unwanted(name, ()), NOT_ASSIGNED)
        elif not is_managed(application):
            self._secrets.remove(self._secrets.left_behind(name), NOT_ASSIGNED)
        elif wanted.removes(application):
            hidden = self._secrets.hidden(application, ())
            if not _is_being_deleted(application):
                self._applications.delete(application, "it is no longer assigned in Compass")
            self._secrets.remove([*self._secrets.unwanted(name, ()), *hidden], NOT_ASSIGNED)
        else:
            log.debug("Skipped", extra={"reason": "the application has a problem under another name"})
            return
        self._told.pop(name, None)

    def _warn(self, desired: Desired, application: Object) -> None:
        """Tells what of the Director's data is not served: once, and again when it changes."""
        if self._told.get(desired.name, ()) == desired.warnings:
            return
        for warning in desired.warnings:
            self._recorder.event(application, "Warning", "CredentialsNotServed", warning)
        if desired.warnings:
            self._told[desired.name] = desired.warnings
        else:
            self._told.pop(desired.name, None)

    def _failed(self, name: str, plan: Plan, error: str) -> None:
        self._progress.failed(name, plan, error)
        about = self._applications.get(name) or {
            "apiVersion": APPLICATION.api_version,
            "kind": APPLICATION.kind,
            "metadata": {"name": name},
        }
        self._recorder.event(about, "Warning", "ApplicationFailed", error)


def _is_being_deleted(obj: Object) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


class ApplicationController(Controller[str]):
    """The controller of this reconciler, and the reconciler itself for whoever decides what there is to do."""

    def __init__(self, applications: ApplicationReconciler, process: Process) -> None:
        super().__init__(
            "application",
            applications.reconcile,
            workers=_WORKERS,
            rate_limiter=rate_limiter(_RETRY_CAP),
            clock=process.clock,
            metrics=process.metrics,
            kind=APPLICATION.kind,
        )
        self.applications = applications


def build(context: Context) -> ApplicationController:
    """The controller of this reconciler."""
    process, caches = context.process, context.process.caches
    applications = ApplicationReconciler(
        context.client,
        applications=caches.applications.lister(),
        secrets=caches.application_secrets.lister(),
        namespace=process.settings.integration_namespace,
        reserved=reserved_secrets(process.settings),
        progress=context.progress,
        recorder=process.recorder,
        metrics=process.agent_metrics,
        clock=process.clock,
    )
    controller = ApplicationController(applications, process)
    controller.watches(caches.applications, name_of)
    controller.watches(caches.application_secrets, owning_applications)
    return controller
