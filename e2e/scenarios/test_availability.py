"""Two replicas, one of which leads: whichever goes, the other goes on."""

from e2e.scenarios.drift_probe import DriftProbe
from e2e.scenarios.stage import TAKE_OVER_SECONDS, Stage

WEATHER = "mp-city-weather"
LEASE_SECONDS = 10.0


def test_leader_killed(connected: Stage) -> None:
    """The other replica takes over when the lease has expired, and pairs no second time."""
    issued = len(connected.compass.certificates())
    identity = connected.lease_holder()
    leader = connected.wait_for_leader()
    with DriftProbe(connected, WEATHER) as probe:
        connected.kill(leader)
        connected.wait_for_leader(other_than=identity)
    assert probe.longest < TAKE_OVER_SECONDS
    connected.start_agents()
    connected.wait_for_landscape()
    assert len(connected.compass.certificates()) == issued


def test_pod_deleted(connected: Stage) -> None:
    """A leader that ends in order releases the lease, so that nobody has to wait until it expires."""
    issued = len(connected.compass.certificates())
    identity = connected.lease_holder()
    leader = connected.wait_for_leader()
    with DriftProbe(connected, WEATHER) as probe:
        connected.delete(leader)
        connected.wait_for_leader(other_than=identity)
    assert probe.longest < LEASE_SECONDS
    connected.start_agents()
    connected.wait_for_landscape()
    assert len(connected.compass.certificates()) == issued


def test_rolling_update(connected: Stage) -> None:
    """Every replica is replaced, and drift is never left for as long as a lease lasts."""
    issued = len(connected.compass.certificates())
    before = connected.replicas()
    with DriftProbe(connected, WEATHER) as probe:
        connected.roll()
        connected.wait_for_leader()
    assert not before & connected.replicas()
    assert probe.longest < LEASE_SECONDS
    connected.wait_for_landscape()
    assert len(connected.compass.certificates()) == issued
