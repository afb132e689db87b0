"""What is stored is what was wanted: admission policies that change what the agent writes, and a CRD that prunes."""

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controller.resources import APPLICATION, SYNC_STATUS
from e2e.world import World
from informers import Resource, ServerError
from tests.integration.sync.conftest import StartAgent
from tests.integration.sync.test_isolation import director_application
from tests.support.audit_log import AuditLog

Object = dict[str, Any]

GROUP = "admissionregistration.k8s.io"
POLICY = Resource(GROUP, "v1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy", namespaced=False)
BINDING = Resource(GROUP, "v1", "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", namespaced=False)
CRD = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
NAME = "overriding"

SetPolicy = Callable[[Resource, str], None]


@pytest.fixture
def set_policy(world: World) -> Iterator[SetPolicy]:
    """Applies a CEL expression, an apply configuration, to each write of the resource."""

    def set_policy(resource: Resource, expression: str) -> None:
        rule = {
            "apiGroups": [resource.group],
            "apiVersions": [resource.version],
            "operations": ["CREATE", "UPDATE"],
            "resources": [resource.plural],
        }
        spec = {
            "matchConstraints": {"resourceRules": [rule]},
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
        }
        world.put(POLICY, {"metadata": {"name": NAME}, "spec": spec})
        world.put(BINDING, {"metadata": {"name": NAME}, "spec": {"policyName": NAME}})
        world.wait_for("the policy to be in force", lambda: _probed(world) not in (None, ""))

    yield set_policy
    if world.client.list(POLICY)["items"]:
        for resource in (BINDING, POLICY):
            world.remove(resource, NAME)
        world.wait_for("the policy to be gone", lambda: _probed(world) == "")


def _probed(world: World) -> str | None:
    """What the policy writes into a description; None while the API server takes over a changed CRD."""
    probe = {"apiVersion": APPLICATION.api_version, "kind": APPLICATION.kind, "metadata": {"name": "probe"}, "spec": {}}
    stored = _dry_run(world, probe)
    return None if stored is None else str(stored["spec"].get("description", ""))


def _dry_run(world: World, application: Object) -> Object | None:
    """What would be stored; None while the API server takes over a changed CRD."""
    try:
        return world.client.request("POST", APPLICATION.path(), query={"dryRun": "All"}, body=application)
    except ServerError:
        return None


CONSTANT = "Object{spec: Object.spec{description: 'from the policy'}}"
CHANGING = "Object{spec: Object.spec{description: 'v' + object.metadata.?resourceVersion.orValue('new')}}"


@pytest.mark.parametrize("expression", [CONSTANT, CHANGING], ids=["constant", "changing"])
def test_a_policy_that_changes_a_field_is_in_the_status(
    world: World, start: StartAgent, set_policy: SetPolicy, log: AuditLog, expression: str
) -> None:
    """The field is named, an Event is written, and there are few writes. Without the policy, all is as assigned."""
    set_policy(APPLICATION, expression)
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
    for resource in (BINDING, POLICY):
        world.remove(resource, NAME)
    world.wait_for_state("Synchronized")
    stored = world.applications()["mp-one"]
    assert stored["spec"]["description"] == "Description not provided"
    assert stored["metadata"]["annotations"][SYNC_STATUS] == "Synced"


@pytest.fixture
def pruning(world: World) -> Iterator[None]:
    """The CRD has no field for the address of the gateway."""
    name = f"{APPLICATION.plural}.{APPLICATION.group}"
    whole = world.client.get(CRD, name)
    pruned = copy.deepcopy(whole)
    (version,) = pruned["spec"]["versions"]
    services = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["services"]
    del services["items"]["properties"]["entries"]["items"]["properties"]["centralGatewayUrl"]
    world.client.update(CRD, pruned)
    entry = {"type": "API", "centralGatewayUrl": "x"}
    service = {"id": "x", "name": "x", "displayName": "x", "providerDisplayName": "", "description": "x"}
    probe = {
        "apiVersion": APPLICATION.api_version,
        "kind": APPLICATION.kind,
        "metadata": {"name": "probe"},
        "spec": {"services": [{**service, "entries": [entry]}]},
    }

    def is_pruned() -> bool:
        stored = _dry_run(world, probe)
        return stored is not None and "centralGatewayUrl" not in stored["spec"]["services"][0]["entries"][0]

    def is_whole() -> bool:
        stored = _dry_run(world, probe)
        return stored is not None and "centralGatewayUrl" in stored["spec"]["services"][0]["entries"][0]

    world.wait_for("the CRD to be in force", is_pruned)
    yield
    current = world.client.get(CRD, name)
    world.client.update(CRD, {**current, "spec": whole["spec"]})
    world.wait_for("the old CRD to be in force", is_whole)


def test_a_field_that_the_crd_does_not_have_is_in_the_status(
    world: World, start: StartAgent, pruning: None, log: AuditLog
) -> None:
    world.compass.put_application(director_application("mp-one"))
    log.clear()
    start(CONTROLLER_SYNC_PERIOD="500ms", MINIMAL_COMPASS_SYNC_TIME="100ms")
    world.wait_for_state("ResourceApplicationFailed")
    error = world.sync_error()
    assert "spec.services[mp-one-bundle].entries[mp-one-api].centralGatewayUrl" in error
    assert "apply the CRD of this release" in error
    time.sleep(4)
    assert len(log.writes("applications")) <= 10
