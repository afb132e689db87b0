"""An agent without its permissions: its Pod is not ready; readiness, status and log have the API server's words."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from controller.resources import COMPASS_CONNECTION, CONNECTION_NAME
from e2e.agent_process import free_port
from e2e.kyma.operator import KymaOperator
from e2e.world import World
from tests.integration.rbac.test_rbac import KINDS, USER, rbac_manifests

SYNCHRONIZED = {
    "metadata": {"name": CONNECTION_NAME},
    "spec": {"managementInfo": {"connectorUrl": "https://connector", "directorUrl": "https://director"}},
    "status": {"connectionState": "Synchronized", "connectionStatus": {"certificateStatus": {}}},
}
SECONDS = 120.0  # a limit for a busy machine; what is waited for takes ten at most
WATCH = 'cannot watch resource "applications" in API group "applicationconnector.kyma-project.io" at the cluster scope'


pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World.local(tmp_path) as world:
        yield world


class Agent:
    """As the ServiceAccount that is deployed, with its health server on a port of its own."""

    def __init__(self, world: World) -> None:
        kubeconfig = world.control_plane.write_kubeconfig(world.directory / "agent.kubeconfig", user=USER, groups=())
        port = free_port()
        self._url = f"http://127.0.0.1:{port}/readyz"
        self._world = world
        settings = {
            "HEALTH_PORT": str(port),
            "LEADER_ELECTION": "true",
            "CA_CERTIFICATES_SECRET": "istio-system/kyma-gateway-certs-cacert",
        }
        world.agent(kubeconfig=kubeconfig, **settings).start()

    def readiness(self, check: str = "") -> tuple[int, str]:
        try:
            answer = requests.get(f"{self._url}/{check}", timeout=2)
        except requests.RequestException as error:
            return 0, str(error)
        return answer.status_code, answer.text

    def log(self) -> str:
        return (self._world.directory / "agent.log").read_text().replace('\\"', '"')


def test_an_agent_without_permissions_gets_ready_with_them(world: World) -> None:
    """Where Kyma's operator has reset the permissions to those of the Go agent, a Pod never gets ready.

    No replica leads without a Lease. The status is written nevertheless: it was Synchronized.
    """
    KymaOperator(world.client).apply()
    world.put(COMPASS_CONNECTION, SYNCHRONIZED)
    agent = Agent(world)
    world.wait_for("the missing permission in the log", lambda: WATCH in agent.log(), timeout=SECONDS)
    world.wait_for("the check", lambda: WATCH in agent.readiness("permissions")[1], timeout=SECONDS)
    status, text = agent.readiness("permissions")
    assert status == 500
    assert f"{WATCH} (first at 20" in text
    assert agent.readiness()[0] == 500
    world.wait_for_state("SynchronizationFailed", timeout=SECONDS)
    world.wait_for("it in the status", lambda: WATCH in world.sync_error(), timeout=SECONDS)

    for manifest in rbac_manifests():
        world.put(KINDS[manifest["kind"]], manifest)
    world.wait_for("readiness", lambda: agent.readiness()[0] == 200, timeout=SECONDS)
    world.wait_for("an end of what the status says", lambda: WATCH not in world.sync_error(), timeout=SECONDS)


def test_permissions_that_are_taken_away_are_reported(world: World) -> None:
    """From an agent that is synchronised: with the first refused request."""
    world.install_crds()
    for manifest in rbac_manifests():
        world.put(KINDS[manifest["kind"]], manifest)
    world.configure()
    agent = Agent(world)
    world.wait_for_state("Synchronized", timeout=SECONDS)
    world.wait_for("readiness", lambda: agent.readiness()[0] == 200, timeout=SECONDS)

    (role,) = [manifest for manifest in rbac_manifests() if manifest["kind"] == "ClusterRole"]
    rules = [rule for rule in role["rules"] if rule["resources"] != ["applications"]]
    world.put(KINDS["ClusterRole"], {**role, "rules": rules})
    world.control_plane.kill_apiserver()  # which ends the watches that were allowed when they began
    world.control_plane.start_apiserver()
    world.wait_for("the check", lambda: WATCH in agent.readiness("permissions")[1], timeout=SECONDS)
    assert agent.readiness()[0] == 500
    world.wait_for("the status", lambda: WATCH in world.sync_error(), timeout=SECONDS)
    assert world.state() == "SynchronizationFailed"
    (ready,) = [one for one in (world.connection() or {})["status"]["conditions"] if one["type"] == "Ready"]
    assert ready["status"] == "False"
    assert WATCH in ready["message"]

    world.put(KINDS["ClusterRole"], role)
    world.wait_for_state("Synchronized", timeout=SECONDS)
    assert world.sync_error() == ""
