"""A real API server with each set of CRDs, which writes down what it is asked; agents in threads."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.mock_compass.server import MockCompass
from e2e.world import World
from tests.integration.conftest import Servers, ServersWith
from tests.support.agent_thread import AgentThread
from tests.support.audit_log import AuditLog
from tests.support.crd_sets import CRD_SETS, crd_set

StartAgent = Callable[..., AgentThread]


@pytest.fixture(scope="package", params=CRD_SETS)
def servers(request: pytest.FixtureRequest, servers_with: ServersWith) -> Servers:
    """Both sets of CRDs: the one with a status subresource, and the one that clusters have today."""
    return servers_with(crd_set(request.param))


@pytest.fixture(scope="package")
def compass() -> Iterator[MockCompass]:
    with MockCompass() as compass:
        yield compass


@pytest.fixture
def world(servers: Servers, compass: MockCompass, tmp_path: Path) -> Iterator[World]:
    """Nothing is assigned, and nothing is paired."""
    world = World(control_plane=servers.control_plane, compass=compass, directory=tmp_path)
    world.reset()
    compass.faults.clear()
    compass.state.remove_all_applications()
    compass.state.register_runtime(tenant=compass.tenant, runtime_id=compass.runtime_id)
    try:
        yield world
    finally:
        world.close()


@pytest.fixture
def log(servers: Servers, world: World) -> AuditLog:
    """What agents ask of the API server in this test."""
    servers.log.clear()
    return servers.log


@pytest.fixture
def start(world: World) -> Iterator[StartAgent]:
    """Starts an agent that is configured; stopped after the test."""
    agents: list[AgentThread] = []

    def start(**settings: str) -> AgentThread:
        if not agents:
            world.configure()
        agents.append(AgentThread(world, **settings))  # type: ignore[arg-type]
        return agents[-1].start()

    yield start
    for agent in agents:
        agent.stop()
