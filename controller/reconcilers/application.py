"""Makes true: this Application and its Secrets equal the desired ones.

Woken by the desired set, by the Application and by the Secrets it owns; so drift is put right from the caches, without
asking Compass. Objects of users (no ``spec.compassMetadata``) are never touched, and what the agent does not own in its
own objects survives.
"""

import logging
from collections.abc import Iterable
from typing import Any

from controller.metrics import AgentMetrics
from controller.model.application import Desired, is_managed, merge_application
from controller.model.desired import DesiredSet
from controller.model.secrets import DesiredSecret, merge_secret
from controller.reconcilers.progress import Progress
from controller.resources import APPLICATION, SECRET
from controller.runtime.events import EventRecorder
from controller.runtime.reconcile import Result
from informers.client import Client
from informers.errors import AlreadyExists, ApiError, Conflict, NotFound
from informers.lister import Lister
from informers.mutation_cache import MutationCache
from workqueue.clock import Clock

_log = logging.getLogger(__name__)

BY_APPLICATION = "application"
"""Index of the Secrets: names of the Applications that own them."""

Object = dict[str, Any]


class ForeignObject(Exception):  # noqa: N818 - the reason, as operators read it
    """An object of that name exists and is not the agent's."""


def owning_applications(secret: Object) -> list[str]:
    """Names of the Applications that own a Secret; the index function of BY_APPLICATION."""
    return [
        reference["name"]
        for reference in secret["metadata"].get("ownerReferences", ())
        if reference.get("kind") == APPLICATION.kind
        and reference.get("apiVersion", "").split("/")[0] == APPLICATION.group
    ]


class ApplicationReconciler:
    """Keyed by the name of an Application; several names are worked on at the same time."""

    def __init__(
        self,
        client: Client,
        *,
        applications: Lister,
        secrets: Lister,
        namespace: str,
        progress: Progress,
        recorder: EventRecorder,
        metrics: AgentMetrics,
        clock: Clock,
    ) -> None:
        self._client = client
        self._lister = applications
        self._applications = MutationCache(applications, clock=clock)
        self._secrets = MutationCache(secrets, clock=clock)
        self._namespace = namespace
        self._progress = progress
        self._recorder = recorder
        self._metrics = metrics

    def reconcile(self, name: str) -> Result:
        wanted = self._progress.desired
        if wanted is None:
            return Result()  # the Director has not answered yet: nothing is known to be wrong
        if name in wanted.problems or name in self._progress.held:
            return Result()  # reported, and left as it is
        application = self._applications.get(name)
        desired = wanted.by_name.get(name)
        try:
            if desired is not None:
                self._bring_about(desired, application)
            elif application is None or wanted.removes(application):
                self._remove(name, application)
        except (Conflict, AlreadyExists):
            raise  # the cache is behind; it will have caught up at the next attempt
        except ForeignObject as error:
            self._failed(name, application, str(error))
            return Result()  # when the foreign object goes or changes, its event comes here
        except ApiError as error:
            self._failed(name, application, str(error))
            raise
        self._progress.succeeded(name)
        return Result()

    def managed(self) -> list[Object]:
        """All Applications that the agent manages, as the cache has them."""
        return [application for application in self._lister.list() if is_managed(application)]

    def differing(self, wanted: DesiredSet) -> list[str]:
        """Names in the set whose objects are not as desired."""
        return [name for name, desired in wanted.by_name.items() if self._differs(desired)]

    def _differs(self, desired: Desired) -> bool:
        application = self._applications.get(desired.name)
        if application is None or not is_managed(application) or merge_application(application, desired) is not None:
            return True
        present = self._present_secrets(desired.name)
        return len(present) != len(desired.secrets) or any(
            self._merge(present.get(secret.name), secret, application) is not None for secret in desired.secrets
        )

    def _bring_about(self, desired: Desired, application: Object | None) -> None:
        if application is not None and not is_managed(application):
            raise ForeignObject("an Application of this name exists that is not managed by Compass; it is left alone")
        merged = merge_application(application, desired)
        if merged is not None:
            application = self._write_application(merged, application)
            for warning in desired.warnings:
                self._recorder.event(application, "Warning", "CredentialsNotServed", warning)
        assert application is not None
        present = self._present_secrets(desired.name)
        for secret in desired.secrets:
            self._bring_about_secret(secret, present.get(secret.name), application)
        wanted = {secret.name for secret in desired.secrets}
        unwanted = [secret for name, secret in present.items() if name not in wanted]
        if unwanted:
            # A Director that hides credentials from this Runtime looks the same as one that has none any more.
            names = ", ".join(secret["metadata"]["name"] for secret in unwanted)
            self._recorder.event(
                application, "Warning", "SecretsRemoved", f"the Director does not send what they held any more: {names}"
            )
            self._delete_secrets(unwanted)

    def _write_application(self, merged: Object, base: Object | None) -> Object:
        operation = self._client.create if base is None else self._client.update
        written = operation(APPLICATION, merged)
        self._applications.mutated(written, base=base)
        self._metrics.written(APPLICATION.kind, "create" if base is None else "update")
        return written

    def _bring_about_secret(self, desired: DesiredSecret, present: Object | None, owner: Object) -> None:
        merged = self._merge(present, desired, owner)
        if merged is None:
            return
        try:
            self._write_secret(merged, present)
        except AlreadyExists:
            # Not in the cache, which holds the Secrets with the agent's labels: somebody removed them, or it is not
            # the agent's Secret.
            hidden = self._client.get(SECRET, desired.name, namespace=self._namespace)
            if owner["metadata"]["name"] not in owning_applications(hidden):
                raise ForeignObject(
                    f"the Secret {self._namespace}/{desired.name} exists and does not belong to this Application; "
                    f"it is left alone"
                ) from None
            merged = self._merge(hidden, desired, owner)
            if merged is not None:
                self._write_secret(merged, hidden)

    def _write_secret(self, merged: Object, base: Object | None) -> None:
        operation = self._client.create if base is None else self._client.update
        written = operation(SECRET, merged, namespace=self._namespace)
        self._secrets.mutated(written, base=base)
        self._metrics.written(SECRET.kind, "create" if base is None else "update")

    def _remove(self, name: str, application: Object | None) -> None:
        """Secrets first: an Application that is gone tells nobody that its Secrets are still there."""
        if application is not None and not is_managed(application):
            return
        self._delete_secrets(self._present_secrets(name).values())
        if application is None:
            return
        metadata = application["metadata"]
        try:
            self._client.delete(APPLICATION, name, uid=metadata["uid"])
        except NotFound:
            pass
        else:
            self._metrics.written(APPLICATION.kind, "delete")
        self._applications.deleted(name, None, base=application)

    def _delete_secrets(self, secrets: Iterable[Object]) -> None:
        for secret in secrets:
            metadata = secret["metadata"]
            try:
                self._client.delete(SECRET, metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"])
            except NotFound:
                pass
            else:
                self._metrics.written(SECRET.kind, "delete")
            self._secrets.deleted(metadata["name"], metadata["namespace"], base=secret)

    def _merge(self, present: Object | None, desired: DesiredSecret, owner: Object) -> Object | None:
        return merge_secret(present, desired, namespace=self._namespace, owner=owner)

    def _present_secrets(self, name: str) -> dict[str, Object]:
        return {secret["metadata"]["name"]: secret for secret in self._secrets.by_index(BY_APPLICATION, name)}

    def _failed(self, name: str, application: Object | None, error: str) -> None:
        self._progress.failed(name, error)
        about = application or {
            "apiVersion": APPLICATION.api_version,
            "kind": APPLICATION.kind,
            "metadata": {"name": name},
        }
        self._recorder.event(about, "Warning", "ApplicationFailed", error)
        _log.warning("Application is not as desired", extra={"application": name, "error": error})
