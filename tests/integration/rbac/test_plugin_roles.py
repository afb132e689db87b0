"""The roles of config/plugin allow what the commands of the plugin do, and no more."""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from controller.resources import APPLICATION, COMPASS_CONNECTION, COMPONENT, CONFIG_MAP, CONNECTION_NAME, SYNC_STATUS
from controller.runtime.leader_election import LEASES
from e2e.controlplane import ControlPlane
from e2e.kyma.operator import read_manifests
from e2e.world import CONFIGURATION, NAMESPACES, OWN_CRDS, Object
from informers import Client, Forbidden
from kubectl_compass import actions, status
from kubectl_compass.arguments import Connect
from kubectl_compass.cluster import DEPLOYMENTS, PODS, Cluster
from kubectl_compass.doctor import doctor
from kubectl_compass.logs import logs
from kubectl_compass.terminal import Terminal
from tests.integration.rbac.test_rbac import KINDS, covers, permissions
from tests.support.audit_log import AuditLog
from workqueue import RealClock

FOLDER = OWN_CRDS.parent / "plugin"
POD = "agent-0"
URLS = {"connectorUrl": "https://connector.example", "directorUrl": "https://director.example"}
ADDRESSES = {"CONNECTOR_URL": "https://connector.example", "RUNTIME_ID": "r", "TENANT": "t"}


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> AuditLog:
    return AuditLog(tmp_path_factory.mktemp("audit"), bodies=False)


@pytest.fixture(scope="module")
def control_plane(audit: AuditLog, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """With the roles, and what an agent and its operators leave in a cluster."""
    with ControlPlane(apiserver_flags=audit.flags) as control_plane:
        control_plane.apply_crds(OWN_CRDS)
        for namespace in NAMESPACES:
            control_plane.create_namespace(namespace)
        kubeconfig = control_plane.write_kubeconfig(tmp_path_factory.mktemp("admin") / "kubeconfig")
        client = Client.load(str(kubeconfig))
        for manifest in (obj for name in ("viewer", "operator") for obj in read_manifests(FOLDER / f"{name}.yaml")):
            client.create(KINDS[manifest["kind"]], manifest)
        for resource, obj in _objects():
            named = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
            client.create(resource, named, namespace=CONFIGURATION.namespace if resource.namespaced else None)
        client.close()
        yield control_plane


def _objects() -> list[tuple[Any, Object]]:
    labels = {"app": COMPONENT}
    spec = {"containers": [{"name": COMPONENT, "image": "none"}]}
    deployment = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}}
    compass = {"applicationId": "x", "authentication": {"clientIds": ["x"]}}
    held = {"name": "held", "annotations": {SYNC_STATUS: "DeletionHeld"}}
    return [
        (DEPLOYMENTS, {"metadata": {"name": COMPONENT}, "spec": deployment}),
        (PODS, {"metadata": {"name": POD, "labels": labels}, "spec": spec}),
        (LEASES, {"metadata": {"name": COMPONENT}, "spec": {"holderIdentity": f"{POD}_x", "leaseDurationSeconds": 1}}),
        (CONFIG_MAP, {"metadata": {"name": CONFIGURATION.name}, "data": ADDRESSES}),
        (COMPASS_CONNECTION, {"metadata": {"name": CONNECTION_NAME}, "spec": {"managementInfo": URLS}}),
        (APPLICATION, {"metadata": held, "spec": {"description": "", "services": [], "compassMetadata": compass}}),
    ]


class User:
    """Runs commands of the plugin as a member of a group."""

    def __init__(self, control_plane: ControlPlane, directory: Path, group: str) -> None:
        kubeconfig = control_plane.write_kubeconfig(directory / group, user=f"jane of {group}", groups=(group,))
        self.client = Client.load(str(kubeconfig))
        kubectl = str(control_plane.assets.kubectl)
        self._cluster = Cluster(self.client, Connect(kubeconfig=str(kubeconfig)), environment={}, kubectl=kubectl)

    def run(self, command: Callable[..., int], *arguments: Any, **options: Any) -> None:
        """No agent runs, so each fails in the end."""
        terminal = Terminal("json", out=io.StringIO(), err=io.StringIO(), clock=RealClock())
        command(self._cluster, terminal, *arguments, **options)

    def look(self) -> None:
        for command in (status.status, status.list_applications, doctor, partial(logs, follow=False, tail=1)):
            self.run(command)


@pytest.fixture
def user(control_plane: ControlPlane, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[User]:
    user = User(control_plane, tmp_path, request.param)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:  # the API server reads its roles soon
        with suppress(Forbidden):
            user.client.get(COMPASS_CONNECTION, CONNECTION_NAME)
            break
    yield user
    user.client.close()


def _check(audit: AuditLog, group: str, *roles: str) -> set[tuple[str, str]]:
    """That each verb of the roles is used. Returns what was refused: verb and resource."""
    requests = [request for request in audit.requests(agent="") if request.user == f"jane of {group}"]
    allowed = permissions(manifest for role in roles for manifest in read_manifests(FOLDER / f"{role}.yaml"))
    assert sorted(rule for rule in allowed if not any(covers(rule, request) for request in requests)) == []
    return {(r.verb, f"{r.resource}/{r.subresource}".rstrip("/")) for r in requests if not r.allowed}


@pytest.mark.parametrize("user", ["compass-viewers"], indirect=True)
def test_viewers_look_and_run_nothing_in_a_pod(user: User, audit: AuditLog) -> None:
    user.look()
    assert {resource for _, resource in _check(audit, "compass-viewers", "viewer")} == {"pods/exec"}


@pytest.mark.parametrize("user", ["compass-operators"], indirect=True)
def test_operators_run_all_commands(user: User, audit: AuditLog) -> None:
    user.look()
    for _ in range(2):  # creates the Secret, and changes it
        user.run(actions.pair, "token", {}, timeout=0.1)
    user.run(actions.resync, timeout=0.1)
    user.run(actions.renew, timeout=0.1)
    user.run(actions.confirm_deletions, confirm=lambda _: True, timeout=0.1)
    user.run(actions.revoke, confirm=lambda _: True)
    user.run(actions.reconnect, "token", timeout=0.1)
    assert _check(audit, "compass-operators", "viewer", "operator") == set()
