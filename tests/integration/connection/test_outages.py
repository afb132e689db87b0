"""Each part of Compass down for a moment, seen by a whole agent over real TLS. All durations are in a unit test."""

from e2e.mock_compass import OUTAGES
from e2e.world import World
from tests.integration.connection.conftest import StartAgent
from tests.integration.connection.observing import certificate, synchronized


def test_no_outage_of_a_part_is_a_loss(world: World, agent: StartAgent) -> None:
    """One after the other: the status says so, certificate and Applications stay, and it ends by itself."""
    synchronized(world, agent)
    before, applications = certificate(world), world.applications()
    for down in OUTAGES:
        with world.compass.outages.during(down, delay=0.05):
            world.wait_for_state("ConnectionMaintenanceFailed")
            assert world.connection_error()
        world.wait_for_state("Synchronized")
        assert certificate(world) == before
        assert world.applications() == applications
