"""Each edge of the state diagram in docs/connection.md, on a real API server with the mock Compass and real TLS."""

import time
from pathlib import Path

import pytest

from controller.resources import SECRET
from e2e.mock_compass import MockCompass
from e2e.mock_compass.examples import generate
from e2e.mock_compass.faults import HTML_503, Fault
from e2e.world import CA_SECRET, CLUSTER_SECRET, World
from tests.integration.connection.conftest import StartAgent
from tests.integration.connection.observing import (
    certificate,
    delete_configuration,
    issued,
    synchronized,
    wait_for_error,
    wait_for_event,
    wait_for_sync_error,
)
from tests.support.crd_sets import OWN


def test_each_repair_of_the_configuration_is_tried_at_once(world: World, agent: StartAgent) -> None:
    """No configuration, a missing key, a bad URL, a token that is refused, then a good one: no restart, no waiting."""
    agent(CONTROLLER_SYNC_PERIOD="10m")
    wait_for_error(world, "neither a ConfigMap kyma-system/compass-agent-configuration nor a Secret")
    good = world.configuration()
    world.configure({key: value for key, value in good.items() if key != "TENANT"})
    wait_for_error(world, "ConfigMap kyma-system/compass-agent-configuration: TENANT is missing")
    world.configure({**good, "CONNECTOR_URL": "http://insecure", "RUNTIME_ID": " "})
    wait_for_error(world, "CONNECTOR_URL must be a URL", "RUNTIME_ID is empty")
    world.configure({**good, "TOKEN": "made-up"})
    error = wait_for_error(world, "HTTP 400", "put a new one-time token into ConfigMap")
    assert error.startswith("Failed to retrieve certificate: x-request-id: ")
    assert world.state() == "ConnectionFailed"
    began = time.monotonic()
    world.configure(good)
    world.wait_for_state("Synchronized")
    assert time.monotonic() - began < 8, "a changed configuration waits for no back-off"
    assert world.connection_error() == ""
    wait_for_event(world, "PairingFailed", "Connected", "Synchronized")


@pytest.mark.parametrize("crds", [OWN], indirect=True, scope="package")  # the Go agent's CRD has no spec.pairing
def test_a_provisioner_pairs_through_the_compass_connection(world: World, agent: StartAgent, tokens: set[str]) -> None:
    """spec.pairing wins over all, its literal token goes once used, and it needs no managementInfo."""
    world.configure({"TOKEN": "not-read"})
    agent()
    wait_for_error(world, "CONNECTOR_URL is missing")
    good = world.configuration()
    pairing = {"connectorUrl": good["CONNECTOR_URL"], "runtimeId": good["RUNTIME_ID"], "tenant": good["TENANT"]}
    world.patch_connection({"spec": {"pairing": {**pairing, "token": good["TOKEN"]}}})
    world.wait_for_state("Synchronized")
    stored = world.connection() or {}
    assert stored["spec"]["pairing"] == pairing
    assert not any(token in str(stored) for token in tokens)

    # Deleted, and created again with a token: a reconnect.
    before = certificate(world)
    world.delete_connection()
    wait_for_error(world, "CONNECTOR_URL is missing")
    world.patch_connection({"spec": {"pairing": {**pairing, "token": world.compass.issue_token()}}})
    world.wait_for_state("Synchronized")
    assert certificate(world) != before


def test_a_failing_director_fails_the_synchronisation_only(world: World, agent: StartAgent) -> None:
    """Director down: SynchronizationFailed, Connected stays true, Applications stay; it goes when it is back."""
    synchronized(world, agent)
    before = world.applications()
    number = world.compass.faults.add(Fault(kind="status", target="director", status=502))
    assert wait_for_sync_error(world, "HTTP 502").startswith("Failed to fetch configuration: x-request-id: ")
    assert world.state() == "SynchronizationFailed"
    assert world.connection_error() == ""
    world.compass.faults.remove(number)
    world.wait_for_state("Synchronized")
    assert world.sync_error() == ""
    assert world.applications() == before
    wait_for_event(world, "SynchronizationFailed")


def test_a_new_token_replaces_a_refused_certificate(world: World, agent: StartAgent) -> None:
    """Refusals keep credentials and Applications; the used token is not tried, and a newer one at once."""
    synchronized(world, agent)
    before = certificate(world)
    world.compass.state.revoke_all(world.compass.runtime_id)
    wait_for_error(world, "configure a new one-time token in ConfigMap")
    assert world.state() == "ConnectionMaintenanceFailed"
    world.configure({**world.configuration(), "TOKEN": "made-up"})
    wait_for_error(world, "a new pairing failed too", "put a new one-time token into ConfigMap")
    assert certificate(world) == before
    assert len(world.applications()) == 3
    world.configure()
    world.wait_for_state("Synchronized")
    assert certificate(world) != before
    assert len(world.applications()) == 3


def test_a_new_token_replaces_lost_credentials(world: World, agent: StartAgent) -> None:
    """Secret deleted: ConnectionFailed with the Secret's name and what to do; Applications stay."""
    synchronized(world, agent)
    world.client.delete(SECRET, CLUSTER_SECRET.name, namespace=CLUSTER_SECRET.namespace)
    wait_for_error(world, "the Secret kyma-system/cluster-client-certificates does not exist", "new one-time token")
    assert world.state() == "ConnectionFailed"
    world.configure()
    world.wait_for_state("Synchronized")
    assert len(world.applications()) == 3


def test_deleting_the_object_reconnects_and_keeps_applications(world: World, agent: StartAgent) -> None:
    """With a new token: paired anew at once. With the used one, or none: the credentials are used as they are."""
    synchronized(world, agent)
    uids = {name: obj["metadata"]["uid"] for name, obj in world.applications().items()}
    before = certificate(world)
    world.delete_connection()
    world.wait_for_state("Synchronized")
    assert certificate(world) == before
    world.configure()
    world.delete_connection()
    world.wait_for("new credentials", lambda: certificate(world) != before)
    world.wait_for_state("Synchronized")
    world.configure({**world.configuration(), "TENANT": ""})
    world.delete_connection()
    wait_for_error(world, "TENANT is empty")
    delete_configuration(world)
    world.wait_for_state("Synchronized")
    assert {name: obj["metadata"]["uid"] for name, obj in world.applications().items()} == uids


def test_a_certificate_is_renewed_in_time_and_on_request(world: World, agent: StartAgent) -> None:
    """Exactly at the threshold, at refreshCredentialsNow, and when the CA Secret is gone; a changed one is mended."""
    world.compass.settings.certificate_validity = 6
    synchronized(world, agent, CONTROLLER_SYNC_PERIOD="10m", CERT_VALIDITY_RENEWAL_THRESHOLD="0.5")
    world.compass.settings.certificate_validity = 3600
    first = world.compass.state.certificates()[-1]
    world.wait_for("a second certificate, long before the next poll", lambda: issued(world) == 2)
    assert time.time() > first.not_after - 0.5 * 6 - 0.2
    world.wait_for(
        "the report of it", lambda: (world.connection() or {})["status"]["connectionStatus"]["renewed"] is not None
    )
    world.patch_connection({"spec": {"refreshCredentialsNow": True}})
    world.wait_for("a third certificate", lambda: issued(world) == 3)
    world.wait_for(
        "the request to be removed", lambda: "refreshCredentialsNow" not in (world.connection() or {})["spec"]
    )
    ca = world.secret(CA_SECRET)
    world.client.patch(SECRET, CA_SECRET.name, {"data": {"cacert": "eA=="}}, namespace=CA_SECRET.namespace)
    world.wait_for("the CA to be restored", lambda: world.secret(CA_SECRET) == ca)
    assert issued(world) == 3
    world.client.delete(SECRET, CA_SECRET.name, namespace=CA_SECRET.namespace)
    world.wait_for("a fourth certificate", lambda: issued(world) == 4)
    world.wait_for("the CA Secret", lambda: world.secret(CA_SECRET) == ca)
    status = (world.connection() or {})["status"]["connectionStatus"]
    assert status["renewed"] >= status["established"]
    wait_for_event(world, "CertificateRenewed")


def test_a_restart_continues_with_stored_credentials(world: World, agent: StartAgent) -> None:
    """A new process asks for no other certificate."""
    synchronized(world, agent).stop()
    for application in generate(4):
        world.compass.put_application(application)
    agent()
    world.wait_for("the fourth Application", lambda: len(world.applications()) == 4)
    assert issued(world) == 1


def test_refused_labels_are_reported_later(world: World, agent: StartAgent) -> None:
    """MetadataUpdateFailed while the Director refuses them; Applications are applied all the same."""
    number = world.compass.faults.add(
        Fault(kind="graphql_error", target="director", operation="setRuntimeLabel", message="no labels today")
    )
    for application in generate(3):
        world.compass.put_application(application)
    world.configure()
    agent()
    world.wait_for_state("MetadataUpdateFailed")
    assert "no labels today" in wait_for_sync_error(world, "Failed to reconcile Runtime labels with proper URLs: ")
    assert len(world.applications()) == 3
    world.compass.faults.remove(number)
    world.wait_for_state("Synchronized")


def test_an_outage_is_no_loss(world: World, agent: StartAgent) -> None:
    """Connector down: ConnectionMaintenanceFailed without touching the token; the certificate works when it is back."""
    synchronized(world, agent)
    world.configure()  # a token that would work
    number = world.compass.faults.add(Fault(kind="status", target="any", status=503, body=HTML_503))
    wait_for_error(world, "Error while trying to maintain connection: ", "HTTP 503")
    assert world.state() == "ConnectionMaintenanceFailed"
    assert len(world.applications()) == 3
    world.compass.faults.remove(number)
    world.wait_for_state("Synchronized")
    assert world.connection_error() == ""
    assert issued(world) == 1
    wait_for_event(world, "ConnectionMaintenanceFailed", "ConnectionRestored")


def test_an_expired_certificate_is_loss(world: World, agent: StartAgent) -> None:
    """The Connector renews none for longer than the certificate lives: ConnectionFailed; a new token connects again."""
    world.compass.settings.certificate_validity = 6
    synchronized(world, agent)
    number = world.compass.faults.add(
        Fault(kind="status", target="connector", operation="signCertificateSigningRequest", status=503)
    )
    wait_for_error(world, "the client certificate expired at")
    assert world.state() == "ConnectionFailed"
    assert len(world.applications()) == 3
    world.compass.settings.certificate_validity = 3600
    world.compass.faults.remove(number)
    world.configure()
    world.wait_for_state("Synchronized")


def test_addresses_that_move_are_stored(world: World, agent: StartAgent) -> None:
    """The addresses that the Connector announces go to spec.managementInfo; invalid ones do not."""
    synchronized(world, agent)
    moved = world.compass.director_url.replace("localhost", "127.0.0.1")
    world.compass.settings.director_url = moved
    world.wait_for(
        "the new address",
        lambda: (world.connection() or {})["spec"]["managementInfo"]["directorUrl"] == moved,
    )
    assert moved in (world.secret(CLUSTER_SECRET) or {})["connection"]
    for invalid in ("http://insecure.example", None):
        world.compass.settings.director_url = invalid
        wait_for_error(world, "configuration.managementPlaneInfo.directorURL")
        assert (world.connection() or {})["spec"]["managementInfo"]["directorUrl"] == moved
        world.compass.settings.director_url = moved
        world.wait_for_state("Synchronized")


def test_a_certificate_of_another_runtime_changes_nothing(world: World, agent: StartAgent) -> None:
    """The Director would serve the other Runtime. It gets no query and no label for it until the id is corrected."""
    good = world.configuration()
    other = world.compass.state.register_runtime(tenant=world.compass.tenant)
    for application in generate(2):
        world.compass.state.put_application(application, assign_to=(other,))
    world.configure({**good, "RUNTIME_ID": other})
    agent()
    error = wait_for_error(world, world.compass.runtime_id, other)
    assert f"RUNTIME_ID in ConfigMap kyma-system/compass-agent-configuration is {other}" in error
    assert world.state() == "ConnectionFailed"
    wait_for_event(world, "WrongRuntime")
    operations = {call.operation for call in world.compass.requests.all() if call.target == "director"}
    assert operations == {"viewer"}
    assert world.applications() == {}

    world.configure(good)  # the token is used, and not needed
    world.wait_for_state("Synchronized")
    assert world.connection_error() == ""
    assert world.applications() == {}
    assert issued(world) == 1


def test_a_changed_ca_file_needs_no_restart(world: World, agent: StartAgent, tmp_path: Path) -> None:
    """Compass moves to another authority: first its server is not trusted, then the file has the right one."""
    right = world.ca_file.read_text()
    with MockCompass(state_directory=tmp_path / "another") as another:
        world.ca_file.write_text(another.ca_pem)
    world.configure()
    agent()
    wait_for_error(world, "not trusted")
    world.ca_file.write_text(right)
    world.wait_for_state("Synchronized")
    assert issued(world) == 1
