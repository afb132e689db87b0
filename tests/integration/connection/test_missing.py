"""An agent that starts before permissions, CRDs and configuration exist."""

from collections.abc import Iterator

import pytest

from e2e.world import World
from informers import Resource
from tests.integration.connection.observing import wait_for_error
from tests.support.agent_thread import AgentThread

BINDING = Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False)
USER = "an-agent"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Namespaces and nothing else."""
    with World.local(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture
def agent(world: World) -> Iterator[AgentThread]:
    kubeconfig = world.control_plane.write_kubeconfig(world.directory / "user.kubeconfig", user=USER, groups=())
    agent = AgentThread(world, kubeconfig=kubeconfig, CONTROLLER_SYNC_PERIOD="500ms")
    yield agent
    agent.stop()


def permit(world: World) -> None:
    """Give the agent all permissions."""
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    world.put(BINDING, {"metadata": {"name": USER}, "subjects": [subject], "roleRef": role})


def wait_for_log(world: World, agent: AgentThread, *parts: str) -> None:
    def logged() -> bool:
        assert agent.running
        return any(all(part in line for part in parts) for line in agent.log.splitlines())

    world.wait_for(f"a line in the log with {parts}", logged)


def test_each_missing_part_is_reported_until_it_is_there(world: World, agent: AgentThread) -> None:
    """403 names user, verb and resource; 404 asks for the CRD; no configuration names the objects that it may be in."""
    agent.start()
    for resource in ("compassconnections.compass.kyma-project.io", "applications", "secrets", "configmaps"):
        wait_for_log(world, agent, "WARNING", f"{resource} ", "is forbidden", USER, "cannot list resource")
    permit(world)
    for informer in ("compassconnections", "applications"):
        wait_for_log(world, agent, "WARNING", f"informer={informer} ", "is the resource's CRD installed?")
    world.install_crds()
    wait_for_error(
        world,
        "no pairing configuration found",
        "ConfigMap kyma-system/compass-agent-configuration",
        "Secret kyma-system/compass-agent-configuration",
    )
    world.configure()
    world.wait_for_state("Synchronized")
