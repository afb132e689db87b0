"""A control plane with each set of CRDs, a mock Compass for each test, and agents in threads.

After every test, log, status and Events are searched for tokens and keys.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.controlplane import ControlPlane
from e2e.mock_compass.server import MockCompass
from e2e.world import World
from tests.integration.conftest import ServersWith
from tests.support.agent_thread import AgentThread, leaked
from tests.support.crd_sets import CRD_SETS, crd_set

StartAgent = Callable[..., AgentThread]

_QUICK = {"CONTROLLER_SYNC_PERIOD": "500ms", "MINIMAL_COMPASS_SYNC_TIME": "50ms"}  # also the cap of every back-off


@pytest.fixture(scope="package", params=CRD_SETS)
def crds(request: pytest.FixtureRequest) -> Path:
    """The set with a status subresource, and the one that clusters have today."""
    return crd_set(request.param)


@pytest.fixture(scope="package")
def cluster(crds: Path, servers_with: ServersWith) -> ControlPlane:
    return servers_with(crds).control_plane


@pytest.fixture
def tokens() -> set[str]:
    """Every token that Compass gave out."""
    return set()


@pytest.fixture(scope="package")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of every Compass: making their keys takes as long as a test."""
    return tmp_path_factory.mktemp("authorities")


@pytest.fixture
def world(cluster: ControlPlane, tmp_path: Path, authorities: Path, tokens: set[str]) -> Iterator[World]:
    with MockCompass(state_directory=authorities) as compass:
        issue = compass.state.issue_token_for_client

        def noted(client_id: str, *, lifetime: float) -> str:
            token = issue(client_id, lifetime=lifetime)
            tokens.add(token)
            return token

        compass.state.issue_token_for_client = noted  # type: ignore[assignment, method-assign]
        world = World(control_plane=cluster, compass=compass, directory=tmp_path)
        world.reset()
        try:
            yield world
        finally:
            world.close()


@pytest.fixture
def agent(world: World, tokens: set[str]) -> Iterator[StartAgent]:
    """Starts an agent, stopped after the test; its texts are searched for secrets."""
    agents: list[AgentThread] = []

    def start(**settings: str) -> AgentThread:
        agents.append(AgentThread(world, **(_QUICK | settings)))  # type: ignore[arg-type]
        return agents[-1].start()

    yield start
    for one in agents:
        one.stop()
    status = (world.connection() or {}).get("status")
    events = [event for event in world.events() if event["involvedObject"]["kind"] == "CompassConnection"]
    for where, text in (("log", "".join(one.log for one in agents)), ("status", status), ("Events", events)):
        assert not leaked(text, tokens), f"a secret in the {where}"
