"""Answers that are none: the cluster stays as it was, the CompassConnection tells the cause, no secret leaks."""

import pytest

from controller.settings import ObjectName
from e2e.mock_compass.faults import HTML_503, Fault
from e2e.world import CA_SECRET, CLUSTER_SECRET, World
from tests.integration.connection.conftest import StartAgent
from tests.integration.connection.observing import synchronized, wait_for_error, wait_for_sync_error
from tests.support.crd_sets import OWN

# What is refused is not written, so the CRDs make no difference.
pytestmark = pytest.mark.parametrize("crds", [OWN], indirect=True, scope="package")


@pytest.mark.parametrize("operation", ["configuration", "signCertificateSigningRequest"])
def test_broken_answers_while_pairing_change_nothing_and_are_told(
    world: World, agent: StartAgent, operation: str
) -> None:
    """Null, not JSON, cut off, HTML with 503, GraphQL errors: no credentials, ConnectionFailed with the cause."""
    agent()
    for fault, told in (
        (Fault(kind="status", operation=operation, status=200, body='{"data": null}'), "data"),
        (Fault(kind="garbage", operation=operation, status=200), "not JSON"),
        (Fault(kind="truncated", operation=operation), "not JSON"),
        (Fault(kind="status", operation=operation, status=503, body=HTML_503), "HTTP 503"),
        (Fault(kind="graphql_error", operation=operation, message="quota is used up"), "quota is used up"),
    ):
        number = world.compass.faults.add(fault)
        world.configure()
        wait_for_error(world, "Failed to retrieve certificate: ", told)
        assert world.state() == "ConnectionFailed"
        assert "crt" not in (world.secret(CLUSTER_SECRET) or {})
        assert world.secret(CA_SECRET) is None
        world.compass.faults.remove(number)
    world.configure()
    world.wait_for_state("Synchronized")


def test_broken_answers_while_connected_keep_the_connection(world: World, agent: StartAgent) -> None:
    """The same while the connection is maintained: ConnectionMaintenanceFailed with the cause, and it goes on."""
    synchronized(world, agent)
    secret, before = world.secret(CLUSTER_SECRET), world.applications()
    for fault, told in (
        (Fault(kind="status", target="connector", status=200, body='{"data": null}'), "data"),
        (Fault(kind="garbage", target="connector", status=200), "not JSON"),
        (Fault(kind="truncated", target="connector"), "not JSON"),
        (Fault(kind="graphql_error", target="connector", message="quota is used up"), "quota is used up"),
    ):
        number = world.compass.faults.add(fault)
        wait_for_error(world, "Error while trying to maintain connection: ", told)
        assert world.secret(CLUSTER_SECRET) == secret
        assert world.applications() == before
        world.compass.faults.remove(number)
    world.wait_for_state("Synchronized")


def test_broken_answers_of_the_director_change_nothing_and_are_told(
    world: World, agent: StartAgent, tokens: set[str]
) -> None:
    """The same at the Director: Applications stay as they are, SynchronizationFailed tells the cause."""
    tokens |= {"generated-oauth-0", "generated-oauth-2"}  # what the Director hands out, and nobody may read in a log
    synchronized(world, agent, QUERY_LOGGING="true")
    before = world.applications()
    stored = [world.secret(ObjectName("kyma-system", name)) or {} for name in world.secrets()]
    assert {"generated-oauth-0", "generated-oauth-2"} <= {value for values in stored for value in values.values()}
    for fault, told in (
        (Fault(kind="status", target="director", status=200, body='{"data": null}'), "is null, without an error"),
        (Fault(kind="garbage", target="director", status=200), "not JSON"),
        (Fault(kind="truncated", target="director"), "not JSON"),
        (Fault(kind="status", target="director", status=503, body=HTML_503), "HTTP 503"),
        (Fault(kind="graphql_error", target="director", message="quota is used up"), "quota is used up"),
    ):
        number = world.compass.faults.add(fault)
        wait_for_sync_error(world, told)
        assert world.state() == "SynchronizationFailed"
        assert world.applications() == before
        world.compass.faults.remove(number)
    world.wait_for_state("Synchronized")
    assert world.applications() == before
