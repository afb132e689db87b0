"""The objects that the agent reads and writes: kinds and names."""

from informers.resource import Resource

COMPASS_CONNECTION = Resource(
    group="compass.kyma-project.io",
    version="v1alpha1",
    plural="compassconnections",
    kind="CompassConnection",
    namespaced=False,
)
APPLICATION = Resource(
    group="applicationconnector.kyma-project.io",
    version="v1alpha1",
    plural="applications",
    kind="Application",
    namespaced=False,
)
CONFIG_MAP = Resource(group="", version="v1", plural="configmaps", kind="ConfigMap")
SECRET = Resource(group="", version="v1", plural="secrets", kind="Secret")

COMPONENT = "compass-runtime-agent"
"""The name of the agent's Lease, and its name in Events."""

CONNECTION_NAME = "compass-connection"
"""The name of the CompassConnection that the agent serves. One with another name is ignored, with an Event."""

SYNC_STATUS = "compass.kyma-project.io/sync-status"
"""Annotation of an Application: SYNCED, or the kind of problem. Events and the CompassConnection have the details.

Both CRDs store an annotation. It has no time, so a sync without changes writes nothing. An Application of the Go agent
gets it with its next change, so an upgrade writes none of them.
"""

SYNCED = "Synced"
SECRETS_FAILED = "SecretsFailed"
DELETION_HELD = "DeletionHeld"
OVERRIDDEN = "Overridden"

APPLY_RELEASE = (
    "apply install.yaml of the release again, or run helm upgrade; where Kyma's operator runs, apply kyma.yaml of the "
    "release"
)
"""The cure for objects of a release that are missing or were changed."""
