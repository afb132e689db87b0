"""The servers of the integration tests, and a Runtime that is paired already."""

from collections.abc import Iterator

import pytest

from e2e.world import World
from tests.chaos.sync.scenario import STATES, Snapshot, clear, direct, outcome
from tests.integration.conftest import servers_with
from tests.integration.sync.conftest import compass, log, servers, start, world
from tests.support.agent_thread import AgentThread

__all__ = ["compass", "log", "servers", "servers_with", "start", "world"]


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
        for state in range(len(STATES)):
            direct(paired, state)
            found.append(outcome(paired, f"state {state}"))
    finally:
        agent.stop()
    assert [len(one["secrets"]) for one in found] == [1, 4, 5, 3, 3]
    owned = [exists for one in found for *_, owners in one["secrets"].values() for _, exists in owners]
    assert len(owned) == 14
    assert all(owned)
    clear(paired)
    return found
