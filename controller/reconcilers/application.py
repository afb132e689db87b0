"""Makes true: this Application and its Secrets equal the desired ones.

Woken by the desired set, by the Application and by its Secrets; so drift is put right from the caches, without asking
Compass. Objects of users (no ``spec.compassMetadata``) are never touched, and what the agent does not own in its own
objects survives.

Every write says which version it replaces: an update carries the resourceVersion, a deletion uid and resourceVersion.
When a write meets another version than the cache shows, the object is read from the API server and the work begins
anew; so a cache that lags, even for minutes, costs a request and no more.
"""

import logging
from collections.abc import Iterable
from typing import Any

from controller.metrics import AgentMetrics
from controller.model.application import Desired, is_managed, merge_application
from controller.model.desired import DesiredSet
from controller.model.names import params_secret_name, secret_name
from controller.model.secrets import DesiredSecret, merge_secret
from controller.reconcilers.progress import Plan, Progress
from controller.resources import APPLICATION, COMPONENT, SECRET
from controller.runtime.events import EventRecorder
from controller.runtime.reconcile import Result
from controller.settings import Settings
from informers.client import Client
from informers.errors import AlreadyExists, ApiError, Conflict, ConnectionFailed, KubernetesError, NotFound
from informers.lister import Lister
from informers.mutation_cache import MutationCache
from informers.resource import Resource
from workqueue.clock import Clock

_log = logging.getLogger(__name__)

BY_APPLICATION = "application"
"""Index of the Secrets: names of the Applications that they belong to."""

_TRIES = 3  # of one name with fresh data each time; more would be a fight, which back-off should end

Object = dict[str, Any]


class ForeignObject(Exception):
    """An object of that name exists and is not the agent's."""


class SecretsFailed(Exception):
    """The Application is right as far as it can be, and some of its Secrets are not."""


class _StaleError(Exception):
    """A write met another state than the cache showed. The state has been read since, and lies over the cache."""

    def __init__(self, cause: ApiError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def reserved_secrets(settings: Settings) -> frozenset[str]:
    """Names that no Secret of an Application may have, in whatever namespace: those of the agent's own objects."""
    own = (
        settings.configuration_secret,
        settings.configuration_config_map,
        settings.cluster_certificates_secret,
        settings.ca_certificates_secret,
    )
    return frozenset({COMPONENT, *(name.name for name in own)})


def owning_applications(secret: Object) -> list[str]:
    """Names of the Applications that a Secret belongs to; the index function of BY_APPLICATION.

    These are its owners, and the one that its labels name, so a Secret is found also after somebody took its reference
    or its labels away. Labels prove nothing for a Secret that a controller of another kind owns.
    """
    references = secret["metadata"].get("ownerReferences") or ()
    owners = [reference["name"] for reference in references if _is_to_application(reference)]
    labelled = _labelled_application(secret)
    if labelled is None or labelled in owners:
        return owners
    if any(reference.get("controller") and not _is_to_application(reference) for reference in references):
        return owners
    return [*owners, labelled]


def _is_to_application(reference: Object) -> bool:
    group = str(reference.get("apiVersion", "")).split("/")[0]
    return (reference.get("kind"), group) == (APPLICATION.kind, APPLICATION.group)


def _labelled_application(secret: Object) -> str | None:
    """The Application that the labels name, when the Secret's own name is the one that follows from them."""
    labels = secret["metadata"].get("labels") or {}
    application, bundle_id = labels.get("app"), labels.get("bundleId")
    if not application or not bundle_id:
        return None
    names = secret_name(application, bundle_id), params_secret_name(application, bundle_id)
    return application if secret["metadata"]["name"] in names else None


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
        self._client = client
        self._application_lister = applications
        self._applications = MutationCache(applications, clock=clock)
        self._secret_lister = secrets
        self._secrets = MutationCache(secrets, clock=clock)
        self._namespace = namespace
        self._reserved = reserved
        self._progress = progress
        self._recorder = recorder
        self._metrics = metrics
        self._told: dict[str, tuple[str, ...]] = {}  # warnings that have become Events, by Application

    def reconcile(self, name: str) -> Result:
        plan = self._progress.plan
        if plan is None:
            return Result()  # the Director has not answered yet: nothing is known to be wrong
        if name in plan.desired.problems or name in plan.held:
            return Result()  # reported, and left as it is
        try:
            self._make_true(name, plan.desired)
        except ForeignObject as error:
            self._failed(name, plan, str(error))
            return Result()  # when the foreign object goes or changes, its event comes here
        except (KubernetesError, SecretsFailed) as error:
            self._failed(name, plan, str(error))
            raise
        except Exception as error:
            # A mistake in the program. Its text may quote data, so only its kind is told.
            self._failed(name, plan, f"unexpected {type(error).__name__}")
            raise
        self._progress.succeeded(name, plan)
        return Result()

    def managed(self) -> list[Object]:
        """All Applications that the agent manages and that nobody deletes already, as the cache has them."""
        return [
            application
            for application in self._application_lister.list()
            if is_managed(application) and not _is_being_deleted(application)
        ]

    def differing(self, wanted: DesiredSet) -> list[str]:
        """Names whose objects are not as the set wants them: all that need work, except deletions of Applications."""
        owners = self._secret_lister.indexer.index_values(BY_APPLICATION)
        return [
            *(name for name, desired in wanted.by_name.items() if self._differs(desired)),
            *(name for name in owners if self._orphaned(name, wanted)),
        ]

    def _differs(self, desired: Desired) -> bool:
        application = self._applications.get(desired.name)
        if application is None or not is_managed(application) or merge_application(application, desired) is not None:
            return True
        if self._told.get(desired.name, ()) != desired.warnings:
            return True
        for secret in desired.secrets:
            present = self._secrets.get(secret.name, self._namespace)
            if present is None or self._merge(present, secret, application) is not None:
                return True
        return bool(self._unwanted_secrets(desired.name, desired.secrets))

    def _orphaned(self, name: str, wanted: DesiredSet) -> bool:
        """Whether there are Secrets of an Application that is not wanted, and not there or a user's."""
        if name in wanted.by_name or name in wanted.problems:
            return False
        application = self._applications.get(name)
        if application is None:
            return bool(self._unwanted_secrets(name, ()))
        return not is_managed(application) and bool(self._left_secrets(name))

    def _make_true(self, name: str, wanted: DesiredSet) -> None:
        for attempt in range(1, _TRIES + 1):
            application = self._applications.get(name)
            desired = wanted.by_name.get(name)
            try:
                if desired is not None:
                    self._bring_about(desired, application)
                elif application is None or wanted.removes(application):
                    self._remove(name, application)
                elif not is_managed(application):
                    for secret in self._left_secrets(name):
                        self._delete(SECRET, self._secrets, secret)
            except _StaleError as error:
                if attempt == _TRIES:
                    raise error.cause from error
            else:
                return

    def _bring_about(self, desired: Desired, application: Object | None) -> None:
        if application is not None and not is_managed(application):
            raise ForeignObject("an Application of this name exists that is not managed by Compass; it is left alone")
        merged = merge_application(application, desired)
        if application is None:
            assert merged is not None
            application = self._write(APPLICATION, self._applications, merged, None)  # its Secrets need its uid
            merged = None
        hidden = self._hidden_secrets(application, desired.secrets)
        # Secrets first: at no moment does the Application name one that is not there yet.
        problems = self._bring_about_secrets(desired.secrets, application)
        if merged is not None:
            application = self._write(APPLICATION, self._applications, merged, application)
        self._remove_unwanted_secrets(desired, application, hidden)
        self._warn(desired, application)
        if problems:
            raise SecretsFailed("; ".join(problems))

    def _bring_about_secrets(self, wanted: Iterable[DesiredSecret], owner: Object) -> list[str]:
        """Gives what could not be done: one Secret that is refused must not hold up the others."""
        problems = []
        for secret in wanted:
            try:
                self._bring_about_secret(secret, owner)
            except ConnectionFailed:
                raise
            except (ApiError, ForeignObject) as error:
                problems.append(f"Secret {self._namespace}/{secret.name}: {error}")
        return problems

    def _bring_about_secret(self, desired: DesiredSecret, owner: Object) -> None:
        present = self._secrets.get(desired.name, self._namespace)
        if present is not None and not self._owns(owner["metadata"]["name"], present):
            raise ForeignObject("exists and does not belong to this Application; it is left alone")
        merged = self._merge(present, desired, owner)
        if merged is None:
            return
        if present is not None and present.get("immutable") and merged["data"] != present.get("data"):
            self._delete(SECRET, self._secrets, present)
            present, merged = None, self._merge(None, desired, owner) or merged
        self._write(SECRET, self._secrets, merged, present)

    def _remove_unwanted_secrets(self, desired: Desired, application: Object, hidden: list[Object]) -> None:
        unwanted = [*self._unwanted_secrets(desired.name, desired.secrets), *hidden]
        for secret in unwanted:
            self._delete(SECRET, self._secrets, secret)
        bundles = {service["id"] for service in desired.spec["services"]}
        vanished = [
            secret for secret in unwanted if (secret["metadata"].get("labels") or {}).get("bundleId") in bundles
        ]
        if vanished:
            # A Director that hides credentials from this Runtime looks the same as one that has none any more.
            names = ", ".join(secret["metadata"]["name"] for secret in vanished)
            text = f"the Director does not send credentials or parameters of a bundle any more; removed: {names}"
            self._recorder.event(application, "Warning", "CredentialsVanished", text)

    def _remove(self, name: str, application: Object | None) -> None:
        """The Application first: once it is gone as it was seen, its Secrets are nobody's."""
        hidden = self._hidden_secrets(application, ()) if application is not None else []
        if application is not None and not _is_being_deleted(application):
            self._delete(APPLICATION, self._applications, application)
        for secret in (*self._unwanted_secrets(name, ()), *hidden):
            self._delete(SECRET, self._secrets, secret)
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

    def _unwanted_secrets(self, name: str, wanted: Iterable[DesiredSecret]) -> list[Object]:
        """Secrets that the Application owns and should not, as far as they are not deleted already."""
        owned = self._secret_lister.by_index(BY_APPLICATION, name)
        if not owned:
            return owned
        names = {secret.name for secret in wanted}
        present = (
            self._secrets.get(secret["metadata"]["name"], self._namespace)
            for secret in owned
            if secret["metadata"]["name"] not in names
        )
        return [secret for secret in present if secret is not None and self._owns(name, secret)]

    def _left_secrets(self, name: str) -> list[Object]:
        """The Secrets that the agent made for an Application which a user has taken over by removing compassMetadata.

        Their names follow from their labels. Other Secrets that the Application owns are the user's.
        """
        return [secret for secret in self._unwanted_secrets(name, ()) if _labelled_application(secret) == name]

    def _owns(self, application: str, secret: Object) -> bool:
        """Whether a Secret may be written and deleted as one of this Application."""
        return secret["metadata"]["name"] not in self._reserved and application in owning_applications(secret)

    def _hidden_secrets(self, application: Object, wanted: Iterable[DesiredSecret]) -> list[Object]:
        """Secrets like the unwanted ones that the cache does not hold, because somebody took their labels away.

        The Application still names them. Costs a request for each that it names and that is neither wanted nor cached.
        """
        names = _referenced_secrets(application) - {secret.name for secret in wanted}
        hidden = []
        for name in sorted(names):
            if self._secret_lister.get(name, self._namespace) is not None:
                continue
            try:
                secret = self._client.get(SECRET, name, namespace=self._namespace)
            except NotFound:
                continue
            if self._owns(application["metadata"]["name"], secret):
                hidden.append(secret)
        return hidden

    def _write(self, resource: Resource, cache: MutationCache, obj: Object, base: Object | None) -> Object:
        try:
            written = self._client.create(resource, obj) if base is None else self._client.update(resource, obj)
        except AlreadyExists as error:
            self._read_again(resource, cache, obj)
            raise _StaleError(error) from error
        except (Conflict, NotFound) as error:
            if base is None:
                raise  # not the object, but what it needs: its namespace is missing, say, or is going away
            self._read_again(resource, cache, obj)
            raise _StaleError(error) from error
        cache.mutated(written, base=base)
        self._metrics.written(resource.kind, "create" if base is None else "update")
        return written

    def _delete(self, resource: Resource, cache: MutationCache, base: Object) -> None:
        metadata = base["metadata"]
        name, namespace = metadata["name"], metadata.get("namespace")
        try:
            self._client.delete(
                resource, name, namespace=namespace, uid=metadata["uid"], resource_version=metadata["resourceVersion"]
            )
        except NotFound:
            pass
        except Conflict as error:
            self._read_again(resource, cache, base)
            raise _StaleError(error) from error
        else:
            self._metrics.written(resource.kind, "delete")
        cache.deleted(name, namespace, base=base)

    def _read_again(self, resource: Resource, cache: MutationCache, obj: Object) -> None:
        """Lay what the API server has now over the cache, which is behind or does not hold objects without labels."""
        name, namespace = obj["metadata"]["name"], obj["metadata"].get("namespace")
        cache.refresh(name, namespace, lambda: self._client.get(resource, name, namespace=namespace))

    def _merge(self, present: Object | None, desired: DesiredSecret, owner: Object) -> Object | None:
        return merge_secret(present, desired, namespace=self._namespace, owner=owner)

    def _failed(self, name: str, plan: Plan, error: str) -> None:
        self._progress.failed(name, plan, error)
        about = self._applications.get(name) or {
            "apiVersion": APPLICATION.api_version,
            "kind": APPLICATION.kind,
            "metadata": {"name": name},
        }
        self._recorder.event(about, "Warning", "ApplicationFailed", error)
        _log.warning("Application is not as desired", extra={"application": name, "error": error})


def _is_being_deleted(obj: Object) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def _referenced_secrets(application: Object) -> set[str]:
    """Names of the Secrets that an Application names, whatever a user has made of it."""
    entries = [entry for service in application["spec"].get("services") or () for entry in service.get("entries") or ()]
    found = [(entry.get("credentials") or {}).get("secretName") for entry in entries]
    found += [entry.get("requestParametersSecretName") for entry in entries]
    return {name for name in found if name}
