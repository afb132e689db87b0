"""What an Application tells of itself: whether it is as Compass wants it.

An annotation, because that is what both CRDs store: the one that clusters have has no conditions, and its
`status.installationStatus` belongs to the operator that once installed Applications. The annotation holds a word and no
time, so a cycle in which nothing changes writes nothing; it goes into the same write as the fields that it is about.
"""

from controller.model.secrets import Object

SYNC_STATUS = "compass.kyma-project.io/sync-status"
"""Annotation of an Application: SYNCED, or one word for what is wrong. Events and the CompassConnection say more."""

SYNCED = "Synced"
SECRETS_FAILED = "SecretsFailed"
DELETION_HELD = "DeletionHeld"


def with_sync_status(application: Object, status: str) -> Object | None:
    """The Application with this status; None when it has it already. `application` is not changed."""
    metadata = application["metadata"]
    annotations = metadata.get("annotations") or {}
    if annotations.get(SYNC_STATUS) == status:
        return None
    return {**application, "metadata": {**metadata, "annotations": {**annotations, SYNC_STATUS: status}}}
