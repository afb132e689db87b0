"""Two replicas, one of which leads: whichever goes, the other goes on."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest

from e2e.scenarios import messages
from e2e.scenarios.drift_probe import DriftProbe
from e2e.scenarios.target import ERP, TAKE_OVER_SECONDS, Target

WEATHER = "mp-city-weather"
MOVED = "Moved while the leader stood still"
LEASE_SECONDS = 10.0
DOCUMENTED = "8 to 12 s"  # docs/operations.md, Failover

_EDITS = 3
# By what it tells, or by its end, if it did not answer to the kubelet for so long.
_ENDED = re.compile("|".join((messages.LOST, messages.STOPPED, messages.STARTING)))
_WRITE = re.compile(rf"({messages.CREATED}|{messages.UPDATED}|{messages.DELETED}) .*\bkind=(Application|Secret)\b")


@pytest.fixture
def settled(connected: Target) -> Iterator[Target]:
    """Afterwards all is synchronised, and there was no second pairing."""
    issued = len(connected.compass.certificates())
    yield connected
    connected.compass.reset()
    connected.start_agents()
    connected.wait_for_landscape()
    assert len(connected.compass.certificates()) == issued


def test_another_replica_follows_a_killed_leader(settled: Target) -> None:
    """The other replica takes over when the lease has expired."""
    assert _longest_gap(settled, settled.kill) < TAKE_OVER_SECONDS


def test_a_deleted_leader_releases_the_lease(settled: Target) -> None:
    """A leader that ends in order releases the lease, so that nobody has to wait until it expires."""
    assert _longest_gap(settled, settled.delete) < LEASE_SECONDS


def test_a_rolling_update_leaves_no_drift(settled: Target) -> None:
    """Every replica is replaced, and drift is never left for as long as a lease lasts."""
    before = settled.replicas()
    assert _longest_gap(settled, lambda _leader: settled.roll()) < LEASE_SECONDS
    assert not before & settled.replicas()


def _longest_gap(target: Target, replace: Callable[[str], None]) -> float:
    """Seconds that drift was left, until there is another leader."""
    identity, leader = target.lease_holder(), target.wait_for_leader()
    with DriftProbe(target, WEATHER) as probe:
        replace(leader)
        target.wait_for_leader(other_than=identity)
    return probe.longest


def test_another_replica_follows_a_lost_leader(settled: Target) -> None:
    """Its Pod is gone without a word, as with its node: another replica takes over when the lease has expired."""
    identity = settled.lease_holder()
    settled.lose(settled.wait_for_leader())
    lost = datetime.now(UTC)
    settled.wait_for_leader(other_than=identity)
    _tell_figures("gone", lost, settled)


def test_a_frozen_leader_writes_nothing_afterwards(settled: Target) -> None:
    """Another one takes over when the lease has expired; the frozen one, when it goes on, writes nothing.

    There is something for it to write: by what it has fetched, the change that came meanwhile is drift. Edits go on.
    """
    if reason := settled.node_missing():
        pytest.skip(reason)
    identity = settled.lease_holder()
    leader = settled.wait_for_leader()
    with ExitStack() as stack:
        with settled.frozen(leader):
            frozen = datetime.now(UTC)
            before = settled.logs()[leader]
            successor = settled.wait_for_leader(other_than=identity)
            _tell_figures("frozen", frozen, settled)
            settled.change_erp(MOVED)
            settled.wait_for_erp(MOVED)
            probe = stack.enter_context(DriftProbe(settled, WEATHER))
            settled.wait_for("an edit undone", lambda: probe.gaps)
        undone = len(probe.gaps)
        settled.wait_for("the end of its term", lambda: _ENDED.search(_since(settled, leader, before)))
        settled.wait_for("more edits undone", lambda: len(probe.gaps) > undone + _EDITS)
    written, acquired, _ = _since(settled, leader, before).partition(messages.ACQUIRED)
    print("it leads again" if acquired else "it stands by")
    assert not _WRITE.search(written)
    assert settled.applications()[ERP]["spec"]["description"] == MOVED
    assert successor != leader
    assert _WRITE.search(settled.logs()[successor])  # where a write can be seen


def _since(target: Target, replica: str, before: str) -> str:
    """What a replica has written since, also when its container was replaced meanwhile."""
    logs = target.logs()
    whole = logs.get(f"{replica} before", "") + logs.get(replica, "")
    return whole.removeprefix(before)


def _tell_figures(case: str, vanished: datetime, target: Target) -> None:
    acquired = datetime.fromisoformat(target.lease()["acquireTime"])
    seconds = (acquired - vanished).total_seconds()
    print(f"a leader that is {case} was followed after {seconds:.1f} s; documented: {DOCUMENTED}, on an idle machine")
