"""An admission policy changes what the agent writes. (A CRD that prunes: tests/unit/applications.)"""

import time
from collections.abc import Iterator

import pytest

from controller.resources import APPLICATION, SYNC_STATUS
from e2e.world import World
from informers import Resource, ServerError
from tests.integration.sync.conftest import StartAgent
from tests.integration.sync.test_isolation import director_application
from tests.support.audit_log import AuditLog

GROUP = "admissionregistration.k8s.io"
POLICY = Resource(GROUP, "v1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy", namespaced=False)
BINDING = Resource(GROUP, "v1", "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", namespaced=False)
NAME = "overriding"

OURS = "of the probe"
# Another value for each version, so that no write is ever kept.
CHANGING = "Object{spec: Object.spec{description: 'v' + object.metadata.?resourceVersion.orValue('new')}}"


@pytest.fixture
def policy(world: World) -> Iterator[None]:
    """Changes the description with each write of an Application."""
    rule = {
        "apiGroups": [APPLICATION.group],
        "apiVersions": [APPLICATION.version],
        "operations": ["CREATE", "UPDATE"],
        "resources": [APPLICATION.plural],
    }
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": CHANGING}}],
    }
    world.put(POLICY, {"metadata": {"name": NAME}, "spec": spec})
    world.put(BINDING, {"metadata": {"name": NAME}, "spec": {"policyName": NAME}})
    world.wait_for("the policy to be in force", lambda: _probed(world) != OURS)
    yield
    _remove_policy(world)
    world.wait_for("the policy to be gone", lambda: _probed(world) == OURS)


def _remove_policy(world: World) -> None:
    for resource in (BINDING, POLICY):
        world.remove(resource, NAME)


def _probed(world: World) -> str:
    """The description that would be stored; that of the probe while the API server takes over a CRD."""
    kind = {"apiVersion": APPLICATION.api_version, "kind": APPLICATION.kind}
    body = {**kind, "metadata": {"name": "probe"}, "spec": {"description": OURS}}
    try:
        stored = world.client.request("POST", APPLICATION.path(), query={"dryRun": "All"}, body=body)
    except ServerError:
        return OURS
    return str(stored["spec"]["description"])


def test_a_policy_that_changes_a_field_is_in_the_status(
    world: World, start: StartAgent, policy: None, log: AuditLog
) -> None:
    """The field is named, an Event is written, and there are few writes. Without the policy, all is as assigned."""
    for name in ("mp-one", "mp-two"):
        world.compass.put_application(director_application(name))
    log.clear()
    start(CONTROLLER_SYNC_PERIOD="500ms", MINIMAL_COMPASS_SYNC_TIME="100ms")
    world.wait_for_state("ResourceApplicationFailed")
    assert "mp-one: the cluster changes spec.description of the Application" in world.sync_error()
    time.sleep(4)  # 8 syncs, and as many events as there are writes
    writes = [record for record in log.writes("applications") if record.name == "mp-one"]
    assert 1 <= len(writes) <= 12
    metadata = world.applications()["mp-one"]["metadata"]
    assert metadata["annotations"][SYNC_STATUS] == "Overridden"
    events = [event for event in world.events("ApplicationFailed") if event["involvedObject"]["uid"] == metadata["uid"]]
    assert len(events) == 1
    _remove_policy(world)
    world.wait_for_state("Synchronized")
    stored = world.applications()["mp-one"]
    assert stored["spec"]["description"] == "Description not provided"
    assert stored["metadata"]["annotations"][SYNC_STATUS] == "Synced"
