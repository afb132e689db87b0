"""A perturbation with which Sieve (OSDI 2022) finds the bugs of controllers, in every possible place.

Every run ends with the cluster as an undisturbed run leaves it, and every write says which version it replaces.
"""

import itertools

import pytest

from e2e.world import World
from tests.chaos.sync.agents import MortalAgent
from tests.chaos.sync.scenario import STATES, Snapshot, clear, direct, resync, snapshot
from tests.support.agent_thread import AgentThread
from tests.support.audit_log import AuditLog

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

LAST = len(STATES) - 1


def _reach(world: World, golden: Snapshot, what: str) -> None:
    try:
        world.wait_for(what, lambda: _equals(world, golden), timeout=180)
    except TimeoutError:
        assert snapshot(world) == golden, what


def _equals(world: World, golden: Snapshot) -> bool:
    try:
        return snapshot(world) == golden
    except (KeyError, ValueError):
        return False  # labels or references are on their way


def _wait_for_either(world: World, golden: Snapshot, agent: MortalAgent) -> None:
    world.wait_for("a state, or the end of the agent", lambda: agent.dead or _equals(world, golden), timeout=180)


def _check_versions(log: AuditLog) -> None:
    careless = [str(write) for write in log.writes("applications", "secrets") if not write.names_its_version]
    assert not careless


def test_killed_after_every_write(paired: World, golden: list[Snapshot], log: AuditLog) -> None:
    """Killed after the n-th write of any kind, for every n of the whole history; then started again."""
    log.clear()
    for writes in itertools.count(1):
        clear(paired)
        agent: AgentThread = MortalAgent(paired, writes=writes, CONTROLLER_SYNC_PERIOD="1h").start()
        killed = False
        try:
            for state in range(1, LAST + 1):
                direct(paired, state)
                resync(paired)

                mortal = agent if isinstance(agent, MortalAgent) else None
                if mortal is not None:
                    _wait_for_either(paired, golden[state], mortal)
                    if mortal.dead:
                        killed = True
                        mortal.stop()
                        agent = AgentThread(paired, CONTROLLER_SYNC_PERIOD="1h").start()
                _reach(paired, golden[state], f"state {state}, killed after write {writes}")
        finally:
            agent.stop()
        if not killed:
            break
    print(f"\nkilled after each of {writes - 1} writes")
    assert writes > sum(map(len, STATES))
    _check_versions(log)
