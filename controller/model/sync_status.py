"""The annotation of an Application that says whether it is in sync with Compass.

An annotation, because that is what both CRDs store: the one that clusters have has no conditions, and its
`status.installationStatus` belongs to the operator that once installed Applications. The annotation holds a word and no
time, so a cycle in which nothing changes writes nothing; it goes into the same write as the fields that it is about.

An Application without the annotation is in sync, too. Those that the Go agent has written get it with
their next change, so an upgrade writes none of them.
"""

from controller.model import fields
from controller.model.secrets import Object

SYNC_STATUS = "compass.kyma-project.io/sync-status"
"""Annotation of an Application: SYNCED, or one word for what is wrong. Events and the CompassConnection say more."""

SYNCED = "Synced"
SECRETS_FAILED = "SecretsFailed"
DELETION_HELD = "DeletionHeld"


def tells(application: Object, status: str) -> bool:
    """Whether the Application has this status, for which no annotation at all stands for SYNCED."""
    return fields.annotations(application).get(SYNC_STATUS, SYNCED) == status


def with_sync_status(application: Object, status: str) -> Object:
    """The Application with this status in its annotation. `application` is not changed."""
    annotations = {**fields.annotations(application), SYNC_STATUS: status}
    return {**application, "metadata": {**application["metadata"], "annotations": annotations}}
