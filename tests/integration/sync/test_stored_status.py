"""What is stored in the CompassConnection, field by field, with each set of CRDs.

The expectations are written out by hand. People and dashboards read this object, so nothing in it may drift along with
the code that makes it. Applications and Secrets: tests/unit/applications.
"""

import re
from typing import Any

import yaml

from e2e.world import CA_SECRET, CLUSTER_SECRET, World
from tests.integration.conftest import Servers
from tests.integration.sync.conftest import StartAgent
from tests.integration.sync.test_isolation import director_application

STATUS = yaml.safe_load("""
connectionState: Synchronized
connectionStatus:
  certificateStatus: {acquired: TIME, notBefore: TIME, notAfter: TIME}
  established: TIME
  lastSync: TIME
  lastSuccess: TIME
  renewed: null
synchronizationStatus: {lastAttempt: TIME, lastSuccessfulFetch: TIME, lastSuccessfulApplication: TIME}
""")

#: What the agent's own CRD has beyond that.
ADDITIONS = yaml.safe_load("""
applications: {desired: 1, synced: 1, failed: 0, failing: []}
summary: {applications: 1/1, message: ""}
conditions:
  - {type: Ready, status: "True", reason: Ready, message: "", lastTransitionTime: TIME, observedGeneration: 1}
  - {type: Connected, status: "True", reason: Connected, message: "", lastTransitionTime: TIME, observedGeneration: 1}
  - type: Synchronized
    status: "True"
    reason: Synchronized
    message: ""
    lastTransitionTime: TIME
    observedGeneration: 1
observedGeneration: 1
""")

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def _without_times(value: Any) -> Any:
    """The value with every moment in the form that the Go agent writes replaced by TIME."""
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    return "TIME" if isinstance(value, str) and _TIME.fullmatch(value) else value


def test_a_connection_field_by_field(world: World, start: StartAgent, servers: Servers) -> None:
    """Nothing is missing, nothing is left over, every value is the written one."""
    world.compass.put_application(director_application("mp-shop"))
    start()
    world.wait_for_state("Synchronized")
    connection, compass = world.connection(), world.compass
    assert connection is not None
    assert connection["spec"] == {
        "managementInfo": {"connectorUrl": compass.secured_connector_url, "directorUrl": compass.director_url}
    }
    assert not {"annotations", "labels", "finalizers", "ownerReferences"} & connection["metadata"].keys()
    additions = {**ADDITIONS, "runtime": {"id": compass.runtime_id, "tenant": compass.tenant}}
    assert _without_times(connection["status"]) == STATUS | (additions if servers.own_crds else {})

    for name, keys in ((CLUSTER_SECRET, {"crt", "key", "crtChain"}), (CA_SECRET, {"cacert"})):
        secret = world.secret(name)
        assert secret is not None
        assert keys <= secret.keys()
