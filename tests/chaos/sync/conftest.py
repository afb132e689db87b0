"""The servers of the integration tests, and a Runtime that is paired already."""

from collections.abc import Iterator

import pytest

from e2e.world import World
from tests.chaos.sync.scenario import STATES, Snapshot, clear, direct, resync, snapshot
from tests.integration.sync.conftest import compass, log, servers, world
from tests.support.agent_thread import AgentThread

__all__ = ["compass", "log", "servers", "world"]


@pytest.fixture
def paired(world: World) -> Iterator[World]:
    """The credentials are there, and no agent runs."""
    world.configure()
    agent = AgentThread(world, CONTROLLER_SYNC_PERIOD="1h").start()
    try:
        world.wait_for_state("Synchronized", timeout=180)
    finally:
        agent.stop()
    yield world
    clear(world)


@pytest.fixture
def golden(paired: World) -> list[Snapshot]:
    """What each state of the Director leads to when nothing happens on the way."""
    agent = AgentThread(paired, CONTROLLER_SYNC_PERIOD="1h").start()
    found = []
    try:
        for state, applications in enumerate(STATES):
            direct(paired, state)
            resync(paired)
            names = {application["name"] for application in applications}
            paired.wait_for(f"state {state}", lambda names=names: _concluded(paired, names), timeout=180)
            found.append(snapshot(paired))
    finally:
        agent.stop()
    assert [len(one["secrets"]) for one in found] == [0, 3, 4, 3, 2]
    assert all(owned for one in found for *_, owned in one["secrets"].values())
    clear(paired)
    return found


def _concluded(world: World, names: set[str]) -> bool:
    connection = world.connection() or {}
    return (
        not connection["spec"].get("resyncNow")
        and world.state() == "Synchronized"
        and set(world.applications()) == names
        and not _unsettled(world, connection)
    )


def _unsettled(world: World, connection: dict[str, object]) -> bool:
    """Whether anything was written in the last moments."""
    before = snapshot(world)
    world.control_plane.check()
    return before != snapshot(world)
