"""The rules in config/rbac are enough for all that the agent does, and no more than that.

The agent runs as the ServiceAccount that is deployed, with the environment that is deployed. Only the Secrets of
Applications get a namespace of their own, so that each request belongs to one rule.
"""

import contextlib
import copy
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from controller.resources import APPLICATION, COMPASS_CONNECTION, SECRET
from e2e.controlplane import ControlPlane
from e2e.mock_compass.examples import landscape
from e2e.mock_compass.server import MockCompass
from e2e.world import NAMESPACES, OWN_CRDS, World
from informers import Conflict, Resource
from tests.integration.rbac.audit import AuditLog, Object, permissions, read_manifests

CONFIG = OWN_CRDS.parent
USER = "system:serviceaccount:kyma-system:compass-runtime-agent"
APPLICATION_SECRETS = "compass-runtime-agent-application-secrets"
INTEGRATION_NAMESPACE = "compass-applications"
ERP = "mp-harbour-logistics-erp"
WEATHER = "mp-city-weather"

#: Older API servers cannot send the objects that exist by a watch, so the agent needs the right to list them.
LIST_AND_WATCH = "--feature-gates=WatchList=false"

#: Stands in for the metrics server, an aggregated API.
METRICS_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "nodes.metrics.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
    },
    "spec": {
        "group": "metrics.k8s.io",
        "scope": "Cluster",
        "names": {"kind": "NodeMetrics", "plural": "nodes", "singular": "node"},
        "versions": [
            {"name": "v1beta1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        ],
    },
}


def _resource(kind: str, plural: str, *, namespaced: bool = True) -> Resource:
    group = "rbac.authorization.k8s.io" if kind != "ServiceAccount" else ""
    return Resource(group=group, version="v1", plural=plural, kind=kind, namespaced=namespaced)


KINDS = {
    "ServiceAccount": _resource("ServiceAccount", "serviceaccounts"),
    "Role": _resource("Role", "roles"),
    "RoleBinding": _resource("RoleBinding", "rolebindings"),
    "ClusterRole": _resource("ClusterRole", "clusterroles", namespaced=False),
    "ClusterRoleBinding": _resource("ClusterRoleBinding", "clusterrolebindings", namespaced=False),
}


@pytest.fixture
def manifests() -> list[Object]:
    """config/rbac, the Role for the Secrets of Applications in their own namespace."""
    found = read_manifests(CONFIG / "rbac")
    for manifest in found:
        if manifest["metadata"]["name"] == APPLICATION_SECRETS:
            manifest["metadata"]["namespace"] = INTEGRATION_NAMESPACE
    return found


@pytest.fixture
def audit(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path)


@pytest.fixture
def world(tmp_path: Path, audit: AuditLog, manifests: list[Object]) -> Iterator[World]:
    (tmp_path / "crds").mkdir()
    (tmp_path / "crds/metrics.yaml").write_text(yaml.safe_dump(METRICS_CRD))
    with ControlPlane(apiserver_flags=(*audit.flags, LIST_AND_WATCH)) as control_plane, MockCompass() as compass:
        for path in (OWN_CRDS, tmp_path / "crds"):
            control_plane.apply_crds(path)
        for namespace in (*NAMESPACES, INTEGRATION_NAMESPACE):
            control_plane.create_namespace(namespace)
        world = World(control_plane=control_plane, compass=compass, directory=tmp_path)
        try:
            for manifest in manifests:
                world.put(KINDS[manifest["kind"]], manifest)
            yield world
        finally:
            world.close()


def _deployed_environment() -> dict[str, str]:
    """What config/manager sets, without the prefix."""
    deployment = yaml.safe_load((CONFIG / "manager/deployment.yaml").read_text())
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    return {variable["name"].removeprefix("APP_"): variable["value"] for variable in container["env"]}


def _settings() -> dict[str, str]:
    quick = {
        "HEALTH_PORT": "0",
        "CONTROLLER_SYNC_PERIOD": "1s",
        "MINIMAL_COMPASS_SYNC_TIME": "100ms",
        "METRICS_LOGGING_TIME_INTERVAL": "1s",
        "LEADER_ELECTION": "true",
        "INTEGRATION_NAMESPACE": INTEGRATION_NAMESPACE,
        "MAX_DELETION_PERCENT": "100",  # all Applications are unassigned in the end
    }
    return _deployed_environment() | quick


def _kubeconfig(world: World) -> Path:
    return world.control_plane.write_kubeconfig(world.directory / "agent.kubeconfig", user=USER, groups=())


def _start(world: World) -> None:
    world.agent(kubeconfig=_kubeconfig(world), **_settings()).start()


def _run(world: World, *arguments: str) -> str:
    """A command of the agent, as `kubectl exec` runs it in its Pod."""
    environment = {**os.environ, "KUBECONFIG": str(_kubeconfig(world)), **world.environment(**_settings())}
    command = [sys.executable, "-m", "controller", *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def _secrets(world: World) -> dict[str, Object]:
    found = world.client.list(SECRET, namespace=INTEGRATION_NAMESPACE)["items"]
    return {secret["metadata"]["name"]: secret for secret in found}


def _all_that_the_agent_does(world: World, asked: "AuditLog") -> None:
    world.put(APPLICATION, {"metadata": {"name": WEATHER}, "spec": {"description": "of a user"}})
    for application in landscape():
        world.compass.put_application(application)
    world.configure()
    _start(world)
    world.wait_for_state("ResourceApplicationFailed")  # the Application of the user is in the way

    # Told again and again, an Event is patched.
    for number in range(3):
        world.client.patch(APPLICATION, WEATHER, {"spec": {"description": f"of a user {number}"}})
        world.wait_for("the Event", lambda n=number: _count(world, "ApplicationFailed") > n)  # type: ignore[misc]
    world.client.delete(APPLICATION, WEATHER)
    world.wait_for_state("Synchronized")

    # Drift: an Application and a Secret edited, a Secret without its labels, which hides it from the agent.
    edited = copy.deepcopy(world.applications()[ERP])
    edited["spec"]["description"] = "edited by hand"
    world.client.update(APPLICATION, edited)
    world.wait_for("the drift undone", lambda: world.applications()[ERP]["spec"]["description"] != "edited by hand")
    name = next(iter(_secrets(world)))
    world.client.patch(SECRET, name, {"metadata": {"labels": None}}, namespace=INTEGRATION_NAMESPACE)
    world.wait_for("the labels", lambda: _secrets(world)[name]["metadata"].get("labels"))

    # A new certificate, so both Secrets are updated.
    world.patch_connection({"spec": {"refreshCredentialsNow": True}})
    world.wait_for("a renewal", lambda: world.events("CertificateRenewed"))

    # Somebody else keeps writing to the CompassConnection, until a write of the agent is refused and it reads again.
    for number in itertools.count():
        if any(r.verb == "get" and r.resource == COMPASS_CONNECTION.plural for r in asked.requests(USER)):
            break
        assert number < 2000, "no write of the agent ever met a conflict"
        with contextlib.suppress(Conflict):
            world.patch_connection({"metadata": {"annotations": {"number": str(number)}}, "spec": {"resyncNow": True}})

    for application in world.compass.state.applications():
        world.compass.state.unassign(application["id"], world.compass.runtime_id)
    world.wait_for("no Application left", lambda: not world.applications())
    world.wait_for("no Secret left", lambda: not _secrets(world))

    assert world.compass.runtime_id in _run(world, "status")
    assert "The certificate is revoked." in _run(world, "revoke", "--yes")


def _count(world: World, reason: str) -> int:
    return sum(event["count"] for event in world.events(reason))


def test_the_rules_are_sufficient_and_each_is_needed(world: World, audit: AuditLog, manifests: list[Object]) -> None:
    """No request of the agent is forbidden, and every verb of every rule is used."""
    allowed = permissions(manifests)
    _all_that_the_agent_does(world, audit)
    world.wait_for(
        "the line with cluster metrics",
        lambda: "Cluster metrics logged successfully." in (world.directory / "agent.log").read_text(),
    )
    requests = audit.requests(USER)
    assert sorted(str(request) for request in requests if not request.allowed) == []
    unused = {permission for permission in allowed if not any(permission.covers(request) for request in requests)}
    assert sorted(map(str, unused)) == []


def test_a_missing_rule_is_noticed(world: World, audit: AuditLog, manifests: list[Object]) -> None:
    """The comparison itself: without the right to list Applications the audit log tells of it."""
    role = next(manifest for manifest in manifests if manifest["kind"] == "ClusterRole")
    rules = [rule for rule in role["rules"] if rule["resources"] != [APPLICATION.plural]]
    world.put(KINDS["ClusterRole"], {**role, "rules": rules})
    _start(world)
    refused = world.wait_for("a refusal", lambda: {r for r in audit.requests(USER) if not r.allowed})
    assert {(request.group, request.resource) for request in refused} == {(APPLICATION.group, APPLICATION.plural)}
