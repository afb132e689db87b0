"""The kinds of objects that the agent reads and writes."""

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
