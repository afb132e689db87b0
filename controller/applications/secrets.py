"""The Secrets of Applications: to which Application a Secret belongs, and writes of the Secrets of one Application."""

from collections.abc import Collection, Iterable
from typing import Any

from controller import fields
from controller.applications.conversion import Desired, DesiredSecret, is_to_application, merge_secret
from controller.applications.names import name_problem, params_secret_name, secret_name
from controller.applications.objects import NotApplied, Objects, is_being_deleted
from controller.resources import COMPONENT
from controller.settings import Settings
from informers.errors import ApiError, ConnectionFailed

BY_APPLICATION = "application"
"""Index of the Secrets by the names of their Applications."""

NOT_ASSIGNED = "its Application is no longer assigned in Compass"
NOT_WANTED = "Compass no longer returns credentials or parameters for it"
_REPLACED = "it is immutable and differs from what Compass assigns"

#: Seconds between two looks at a foreign Secret that is in the way. No watch reports it.
_FOREIGN_SECONDS = 5.0

#: Seconds between two looks at a Secret that other components keep. Their change of it is an event, too.
_FINALIZERS_SECONDS = 60.0

Object = dict[str, Any]


def reserved_secrets(settings: Settings) -> frozenset[str]:
    """Names that no Secret of an Application may have, in any namespace: those of the agent's own objects."""
    own = (
        settings.configuration,
        settings.cluster_certificates_secret,
        settings.ca_certificates_secret,
    )
    return frozenset({COMPONENT, *(name.name for name in own)})


def owning_applications(secret: Object) -> list[str]:
    """Names of the Applications that a Secret belongs to; the index function of BY_APPLICATION.

    These are its owners and the Application in its labels, so a Secret is found even if its reference or its labels
    were removed. Labels are ignored for a Secret that a controller of another kind owns.
    """
    references = fields.owner_references(secret)
    owners = [reference["name"] for reference in references if is_to_application(reference)]
    labelled = _labelled_application(secret)
    if labelled is None or labelled in owners:
        return owners
    if any(reference.get("controller") and not is_to_application(reference) for reference in references):
        return owners
    return [*owners, labelled]


def _labelled_application(secret: Object) -> str | None:
    """The Application in the labels, if the Secret's name is the one that follows from the labels."""
    labels = fields.labels(secret)
    application, bundle_id = labels.get("app"), labels.get("bundleId")
    if not application or not bundle_id:
        return None
    names = secret_name(application, bundle_id), params_secret_name(application, bundle_id)
    return application if secret["metadata"]["name"] in names else None


class ApplicationSecrets:
    """Reads and writes the Secrets of one Application at a time; Secrets with `reserved` names are never changed."""

    def __init__(self, secrets: Objects, *, namespace: str, reserved: frozenset[str]) -> None:
        self._secrets = secrets
        self._namespace = namespace
        self._reserved = reserved

    def owners(self) -> Iterable[str]:
        """Names of all Applications that Secrets belong to, whether the Applications exist or not."""
        return self._secrets.indexer.index_values(BY_APPLICATION)

    def differ(self, desired: Desired, application: Object) -> bool:
        """Whether any Secret of the Application needs a write, or should not exist."""
        return any(
            self._merged(self._secrets.get(secret.name), secret, application) is not None for secret in desired.secrets
        ) or bool(self.unwanted(desired.name, desired.secrets))

    def differs(self, secret: Object, desired: Desired | None, application: Object | None) -> bool:
        """Whether this Secret is not as desired for the Application that it belongs to."""
        if desired is None or application is None:
            return True
        wanted = next((wanted for wanted in desired.secrets if wanted.name == secret["metadata"]["name"]), None)
        return wanted is None or self._merged(secret, wanted, application) is not None

    def apply(self, wanted: Iterable[DesiredSecret], owner: Object) -> list[NotApplied]:
        """Write the Secrets that differ. Returns the failures, because one Secret must not block the others.

        Raises Stale, and ConnectionFailed, if further writes are useless.
        """
        problems = []
        for secret in wanted:
            try:
                self._apply(secret, owner)
            except ConnectionFailed:
                raise
            except (ApiError, NotApplied) as error:
                retry_after = error.retry_after if isinstance(error, NotApplied) else None
                text = f"Secret {self._namespace}/{secret.name}: {error}"
                problems.append(NotApplied(text, retry_after=retry_after))
        return problems

    def _apply(self, desired: DesiredSecret, owner: Object) -> None:
        name = owner["metadata"]["name"]
        present = self._secrets.get(desired.name)
        if present is not None and not self._owns(name, present):
            if self._secrets.indexer.get(desired.name, self._namespace) is None:
                # The cache has only Secrets with the labels of the agent, so it does not see changes of this one.
                present = self._secrets.refresh(desired.name)
            if present is not None and not self._owns(name, present):
                raise NotApplied(
                    "exists and does not belong to this Application; it stays unchanged. If nothing needs it, "
                    "delete it",
                    retry_after=_FOREIGN_SECONDS,
                )
        merged = self._merged(present, desired, owner)
        if merged is None:
            return
        if present is not None and present.get("immutable") and merged["data"] != present.get("data"):
            if self.remove([present], _REPLACED):
                raise NotApplied(
                    f"{_REPLACED}, and its deletion is not complete: other components have to remove their finalizers "
                    f"(kubectl get --output yaml); if such a component is gone, remove its finalizer with kubectl edit",
                    retry_after=_FINALIZERS_SECONDS,
                )
            present, merged = None, self._merged(None, desired, owner) or merged
        self._secrets.write(
            merged, present, content=desired, correct=lambda stored: self._merged(stored, desired, owner)
        )

    def remove(self, secrets: Iterable[Object], why: str) -> list[Object]:
        """Delete these Secrets; `why` is for the log. Returns those that exist until their finalizers are removed."""
        kept = []
        for secret in secrets:
            if not is_being_deleted(secret):
                self._secrets.delete(secret, why)
            present = self._secrets.get(secret["metadata"]["name"])
            if present is not None and is_being_deleted(present):
                kept.append(present)
        return kept

    def unwanted(self, name: str, wanted: Iterable[DesiredSecret]) -> list[Object]:
        """Secrets that the Application owns and should not."""
        present = map(self._secrets.get, self._others(name, [secret.name for secret in wanted]))
        return [secret for secret in present if secret is not None and self._owns(name, secret)]

    def _others(self, name: str, wanted: Collection[str]) -> list[str]:
        """Names of the cached Secrets that belong to the Application, except these."""
        owned = self._secrets.indexer.by_index(BY_APPLICATION, name)
        return [other for secret in owned if (other := secret["metadata"]["name"]) not in wanted]

    def left_behind(self, name: str) -> list[Object]:
        """The Secrets that the agent created for an Application whose compassMetadata a user has removed.

        Their names follow from their labels. Other Secrets of the Application belong to the user.
        """
        return [secret for secret in self.unwanted(name, ()) if _labelled_application(secret) == name]

    def hidden(self, application: Object, wanted: Iterable[DesiredSecret]) -> list[Object]:
        """Undesired Secrets that are not in the cache, because their labels were removed.

        The Application still refers to them. Needs a request for each referenced Secret that is neither desired nor
        cached.
        """
        names = _named_secrets(application) - {secret.name for secret in wanted}
        uncached = [name for name in sorted(names) if self._secrets.indexer.get(name, self._namespace) is None]
        found = [self._secrets.read(name) for name in uncached]
        return [
            secret for secret in found if secret is not None and self._owns(application["metadata"]["name"], secret)
        ]

    def _owns(self, application: str, secret: Object) -> bool:
        """Whether a Secret may be written and deleted as one of this Application."""
        return secret["metadata"]["name"] not in self._reserved and application in owning_applications(secret)

    def _merged(self, present: Object | None, desired: DesiredSecret, owner: Object) -> Object | None:
        return merge_secret(present, desired, namespace=self._namespace, owner=owner)


def _named_secrets(application: Object) -> set[str]:
    """Names of the Secrets that an Application refers to, for any content of the Application."""
    entries = [
        entry
        for service in fields.objects(fields.spec(application).get("services"))
        for entry in fields.objects(service.get("entries"))
    ]
    found = [entry.get("requestParametersSecretName") for entry in entries]
    found += [
        credentials.get("secretName") for entry in entries for credentials in fields.objects([entry.get("credentials")])
    ]
    return {name for name in found if isinstance(name, str) and name_problem(name) is None}
