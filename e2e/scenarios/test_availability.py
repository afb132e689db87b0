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
# It logs the end, or it was ended, if it did not answer to the kubelet for so long.
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


@pytest.mark.parametrize(
    ("replace", "limit"),
    [
        pytest.param(lambda target, leader: target.kill(leader), TAKE_OVER_SECONDS, id="killed"),
        pytest.param(lambda target, leader: target.lose(leader), TAKE_OVER_SECONDS, id="lost with its node"),
        # These end in order and release the Lease, so that no replica waits until it expires.
        pytest.param(lambda target, leader: target.delete(leader), LEASE_SECONDS, id="deleted"),
        pytest.param(lambda target, _: target.roll(), LEASE_SECONDS, id="rolling update"),
    ],
)
def test_the_next_leader_undoes_drift_in_time(
    settled: Target, replace: Callable[[Target, str], None], limit: float
) -> None:
    identity, leader = settled.lease_holder(), settled.wait_for_leader()
    with DriftProbe(settled, WEATHER) as probe:
        replace(settled, leader)
        settled.wait_for_leader(other_than=identity)
    assert probe.longest < limit


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
            acquired_at = datetime.fromisoformat(settled.lease()["acquireTime"])
            seconds = (acquired_at - frozen).total_seconds()
            print(f"a frozen leader was followed after {seconds:.1f} s; documented: {DOCUMENTED}, on an idle machine")
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
