"""Perturbations with which Sieve (OSDI 2022) finds the bugs of controllers, each in every possible place.

Every run ends with the cluster as an undisturbed run leaves it, and every write says which version it replaces.
"""

import itertools

import pytest

from controller.resources import APPLICATION, SECRET
from e2e.world import World, encoded
from tests.chaos.sync.agents import BlindAgent, MortalAgent
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


def _reach_wanted(world: World, golden: Snapshot) -> None:
    """Nothing is missing or wrong; there may be more."""

    def there() -> bool:
        found = snapshot(world)
        return all(golden[part].items() <= found[part].items() for part in golden)

    world.wait_for("what the Director wants", there, timeout=180)


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


def test_every_event_between_two_states_is_lost(paired: World, golden: list[Snapshot], log: AuditLog) -> None:
    """From state i to state j, for every i before j, the watch tells nothing: neither of the agent's own writes nor of
    what users do meanwhile.
    """
    log.clear()
    runs = 0
    for before, after in itertools.combinations(range(LAST + 1), 2):
        clear(paired)
        agent = BlindAgent(paired, CONTROLLER_SYNC_PERIOD="2s").start()
        try:
            direct(paired, before)
            resync(paired)
            paired.wait_for("the agent to see", lambda: not (paired.connection() or {})["spec"].get("resyncNow"))
            _reach(paired, golden[before], f"state {before}")
            agent.go_blind()
            for state in range(before + 1, after + 1):
                direct(paired, state)
                resync(paired)
                _reach_wanted(paired, golden[state])
            _tamper(paired, golden[before])
            agent.see()
            _reach(paired, golden[after], f"from {before} to {after}, seeing again")
        finally:
            agent.stop()
        runs += 1
    print(f"\n{runs} gaps in the watch")
    _check_versions(log)


def _tamper(world: World, seen: Snapshot) -> None:
    """A user edits and deletes what there is. Only an Application that the agent has ``seen`` is deleted: one that was
    made and deleted while it saw nothing looks as before, and is believed to be there for a minute.
    """
    applications, secrets = sorted(world.applications()), sorted(world.secrets())
    if secrets:
        change = {"data": {"password": encoded("other")}, "metadata": {"labels": {"app": None}}}
        world.client.patch(SECRET, secrets[-1], change, namespace="kyma-system")
    if applications:
        change = {"spec": {"services": [], "description": "edited"}}
        world.client.patch(APPLICATION, applications[-1], change)
    if seen["applications"].keys() & set(applications[:-1]):
        world.client.delete(APPLICATION, min(seen["applications"].keys() & set(applications[:-1])))
