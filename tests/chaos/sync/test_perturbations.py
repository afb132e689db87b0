"""The perturbations with which Sieve (OSDI 2022) finds the bugs of controllers, in every possible place.

Every run ends with the cluster as an undisturbed run leaves it, and every write says which version it replaces.
"""

import itertools

import pytest

from e2e.world import World
from tests.chaos.sync.agents import BlindAgent, MortalAgent
from tests.chaos.sync.scenario import (
    ROUND,
    STATES,
    Snapshot,
    attempted,
    clear,
    direct,
    forget_attempts,
    resync,
    snapshot,
    tamper,
    uids,
)
from tests.support.agent_thread import AgentThread
from tests.support.audit_log import AuditLog

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

_PERIOD = "1h"  # of asking the Director; what comes right does so without it


def _reach(world: World, golden: Snapshot, what: str) -> None:
    try:
        world.wait_for(what, lambda: snapshot(world) == golden, timeout=180)
    except TimeoutError:
        assert snapshot(world) == golden, what


def _attempt(world: World, what: str) -> None:
    world.wait_for(f"{what}: an attempt", lambda: attempted(world), timeout=180)


def _check_versions(log: AuditLog) -> None:
    careless = [str(write) for write in log.writes("applications", "secrets") if not write.names_its_version]
    assert not careless


def test_killed_after_every_write(paired: World, golden: list[Snapshot], log: AuditLog) -> None:
    """Killed after the n-th write of any kind, for every n of the whole history; then started again."""
    log.clear()
    for writes in itertools.count(1):
        clear(paired)
        agent: AgentThread = MortalAgent(paired, writes=writes, CONTROLLER_SYNC_PERIOD=_PERIOD).start()
        killed = False
        try:
            for state in ROUND:
                what = f"state {state}, killed after write {writes}"
                direct(paired, state)
                resync(paired)
                if isinstance(agent, MortalAgent):
                    mortal, wanted = agent, golden[state]
                    paired.wait_for(what, lambda: mortal.dead or snapshot(paired) == wanted, timeout=180)  # noqa: B023
                    if mortal.dead:
                        killed = True
                        mortal.stop()
                        agent = AgentThread(paired, CONTROLLER_SYNC_PERIOD=_PERIOD).start()
                _reach(paired, golden[state], what)
        finally:
            agent.stop()
        if not killed:
            break
    print(f"\nkilled after each of {writes - 1} writes")
    assert writes > sum(map(len, STATES))
    _check_versions(log)


def test_every_event_after_the_nth_is_lost(paired: World, golden: list[Snapshot], log: AuditLog) -> None:
    """From one state to the next the watch sends the first n events and no more, for every state and n. What users do
    before a list shows the current state is reverted, too.
    """
    log.clear()
    lost_in = 0
    clear(paired)
    direct(paired, 0)
    for events in itertools.count():
        lost = False
        for before, after in zip([0, *ROUND], ROUND, strict=False):
            what = f"from {before} to {after}, blind after {events} events"
            lost |= _blind_between(paired, golden, before, [after], events=events, what=what)
        if not lost:
            break
        lost_in += 1
    print(f"\nblind after 0 to {lost_in - 1} events, {lost_in * len(ROUND)} gaps")
    assert lost_in > max(map(len, STATES))
    _check_versions(log)


@pytest.mark.parametrize("restart", [False, True], ids=["listed", "restarted"])
def test_missed_states_are_caught_up(paired: World, golden: list[Snapshot], log: AuditLog, *, restart: bool) -> None:
    """From each state to each later one of a round the watch sends nothing. A list ends it, or the agent's restart."""
    log.clear()
    gaps = 0
    clear(paired)
    direct(paired, 0)
    for count in range(1, len(STATES)):
        for gap in range(len(STATES)):  # each begins where the one before has ended, and none begins like another
            before = gap * count % len(STATES)
            states = [(before + number) % len(STATES) for number in range(1, count + 1)]
            what = f"from {before} over {states}"
            _blind_between(paired, golden, before, states, events=0, what=what, restart=restart)
            gaps += 1
    print(f"\n{gaps} gaps")
    _check_versions(log)


def _blind_between(
    world: World,
    golden: list[Snapshot],
    before: int,
    states: list[int],
    *,
    events: int,
    what: str,
    restart: bool = False,
) -> bool:
    """From `before`, which holds now, through `states` while an agent sees only so many events; were there more?"""
    agent = BlindAgent(world, CONTROLLER_SYNC_PERIOD=_PERIOD)
    forget_attempts(world)
    agent.start()
    try:
        _reach(world, golden[before], f"{what}: before")
        _attempt(world, what)
        known = uids(world)
        agent.go_blind(after_events=events)
        for state in states:
            direct(world, state)
            forget_attempts(world)
            resync(world)
            _attempt(world, what)
        if events == 0:  # each state differs from the one before, and its first event may come after the attempt
            world.wait_for(f"{what}: an event to lose", lambda: agent.lost_events, timeout=180)
        lost = agent.lost_events
        agent.go_blind()
        if restart:
            agent.stop()
            known = uids(world)  # to the one that comes
        tamper(world, golden[states[-1]], known)
        if restart:
            agent.start()
        agent.see()
        _reach(world, golden[states[-1]], what)
    finally:
        agent.stop()
    return lost
