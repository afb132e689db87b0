"""The annotation of an Application that says whether it is in sync with Compass.

It is an annotation because both CRDs store it: the CRD of the Go agent has no conditions, and its
`status.installationStatus` belongs to the operator that used to install Applications. The annotation has no time, so a
sync without changes writes nothing. It is part of the same write as the fields of the Application.

An Application without the annotation is in sync, too. Applications that the Go agent has written get it with their next
change, so an upgrade writes none of them.
"""

from typing import Any

from controller import fields

SYNC_STATUS = "compass.kyma-project.io/sync-status"
"""Annotation of an Application: SYNCED, or the kind of problem. Events and the CompassConnection have the details."""

SYNCED = "Synced"
SECRETS_FAILED = "SecretsFailed"
DELETION_HELD = "DeletionHeld"
OVERRIDDEN = "Overridden"

Object = dict[str, Any]


def tells(application: Object, status: str) -> bool:
    """Whether the Application has this status. An absent annotation means SYNCED."""
    return fields.annotations(application).get(SYNC_STATUS, SYNCED) == status


def with_sync_status(application: Object, status: str) -> Object:
    """The Application with this status in its annotation. `application` is not changed."""
    annotations = {**fields.annotations(application), SYNC_STATUS: status}
    return {**application, "metadata": {**application["metadata"], "annotations": annotations}}
