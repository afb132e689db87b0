"""Each edge of the state diagram in docs/connection.md, on a real API server with the mock Compass."""

import base64
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from controller import revocation
from controller.configuration import PairingConfiguration
from controller.resources import COMPASS_CONNECTION, CONFIG_MAP, CONNECTION_NAME, SECRET
from e2e.mock_compass.examples import generate
from e2e.mock_compass.faults import HTML_503, Fault
from e2e.world import CA_SECRET, CLUSTER_SECRET, CONFIGURATION, World
from tests.integration.connection.conftest import StartAgent
from tests.support.agent_thread import small_key


def synchronized(world: World, agent: StartAgent, **settings: str) -> None:
    """Paired, with three Applications."""
    for application in generate(3):
        world.compass.put_application(application)
    world.configure()
    agent(**settings)
    world.wait_for_state("Synchronized")


def certificate(world: World) -> str:
    return (world.secret(CLUSTER_SECRET) or {}).get("crt", "")


def calls(world: World, operation: str) -> int:
    return world.compass.requests.count("connector", operation)


def wait_for_error(world: World, *parts: str) -> str:
    def told() -> str:
        error = world.connection_error()
        return error if all(part in error for part in parts) else ""

    return world.wait_for(f"an error with {parts}", told)


def reasons(world: World) -> set[str]:
    return {
        event["reason"]
        for event in world.events()
        if event["involvedObject"]["uid"] == (world.connection() or {})["metadata"]["uid"]
    }


# --- nothing -> ConnectionFailed -> Connected ---


def test_each_fault_of_the_configuration_is_told_and_each_repair_is_tried_at_once(
    world: World, agent: StartAgent
) -> None:
    """No configuration, a missing key, a bad URL, a token that is refused, then a good one: no restart, no waiting."""
    agent(CONTROLLER_SYNC_PERIOD="10m")
    wait_for_error(world, "neither a ConfigMap kyma-system/compass-agent-configuration nor a Secret")
    good = world.configuration()
    world.configure({key: value for key, value in good.items() if key != "TENANT"})
    wait_for_error(world, "ConfigMap kyma-system/compass-agent-configuration: TENANT is missing")
    world.configure({**good, "CONNECTOR_URL": "http://insecure", "RUNTIME_ID": " "})
    wait_for_error(world, "CONNECTOR_URL is not a URL", "RUNTIME_ID is empty")
    world.configure({**good, "TOKEN": "made-up"})
    error = wait_for_error(world, "HTTP 400", "put a new one-time token into ConfigMap")
    assert error.startswith("Failed to retrieve certificate: x-request-id: ")
    assert world.state() == "ConnectionFailed"
    began = time.monotonic()
    world.configure(good)
    world.wait_for_state("Synchronized")
    assert time.monotonic() - began < 8, "a changed configuration waits for no back-off"
    assert world.connection_error() == ""
    world.wait_for("the Events", lambda: {"PairingFailed", "Connected", "Synchronized"} <= reasons(world))


def test_the_secret_wins_over_the_config_map(world: World, agent: StartAgent) -> None:
    """With both, only the Secret is read; a half-filled one is told, not completed from the ConfigMap."""
    good = world.configuration()
    world.configure(good)
    world.configure({"TOKEN": good["TOKEN"]}, secret=True)
    agent()
    wait_for_error(world, "Secret kyma-system/compass-agent-configuration: CONNECTOR_URL is missing")
    world.configure(good, secret=True)
    world.wait_for_state("Synchronized")


def test_a_compass_that_is_down_costs_no_token(world: World, agent: StartAgent) -> None:
    """503, resets and timeouts while pairing are outages: the same token works when Compass is back."""
    number = world.compass.faults.add(Fault(kind="status", target="connector", status=503, body=HTML_503))
    world.configure()
    agent()
    wait_for_error(world, "HTTP 503")
    world.compass.faults.remove(number)
    world.compass.faults.add(Fault(kind="reset", target="connector", times=1))
    world.wait_for_state("Synchronized")
    assert len(world.compass.state.certificates()) == 1


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

    # Deleted, and told anew with a reference: a reconnect, as soon as the Secret is there.
    before = certificate(world)
    world.delete_connection()
    wait_for_error(world, "CONNECTOR_URL is missing")
    reference = {"namespace": "kyma-system", "name": "one-time"}
    world.patch_connection({"spec": {"pairing": {**pairing, "tokenSecretRef": reference}}})
    wait_for_error(world, "the Secret kyma-system/one-time of tokenSecretRef does not exist")
    token = base64.b64encode(world.compass.issue_token().encode()).decode()
    world.put(SECRET, {"metadata": {"name": "one-time", "namespace": "kyma-system"}, "data": {"TOKEN": token}})
    world.wait_for_state("Synchronized")
    assert certificate(world) != before


# --- connected: what must not disturb ---


def test_while_connected_the_configuration_is_ignored(world: World, agent: StartAgent) -> None:
    """A changed, broken or deleted configuration neither spends a token nor changes who the Runtime is."""
    synchronized(world, agent)
    before = certificate(world)
    world.configure({**world.configuration(), "RUNTIME_ID": "somebody-else"})
    world.configure({"TOKEN": "x"})
    world.client.delete(
        CONFIG_MAP,
        CONFIGURATION.name,
        namespace=CONFIGURATION.namespace,
    )
    fetched = world.compass.requests.count("director")
    world.wait_for("two more fetches", lambda: world.compass.requests.count("director") > fetched + 1)
    assert certificate(world) == before
    assert world.state() == "Synchronized"
    assert len(world.compass.state.certificates()) == 1


def test_a_wiped_or_nonsensical_object_is_restored_from_the_secret(world: World, agent: StartAgent) -> None:
    """Status gone, state nonsense, managementInfo nonsense: told anew, and no token is spent, not even a fresh one."""
    synchronized(world, agent)
    asked = world.compass.requests.count("connector")
    world.configure()  # a token that would work, and is not asked for
    wiped = {**(world.connection() or {}), "status": {}}
    world.client.update(COMPASS_CONNECTION, wiped, subresource="status")
    world.wait_for_state("Connected", "Synchronized")
    world.patch_connection({"spec": {"managementInfo": {"connectorUrl": "nonsense", "directorUrl": "ftp://x"}}})
    expected = {"connectorUrl": world.compass.secured_connector_url, "directorUrl": world.compass.director_url}
    world.wait_for("the addresses", lambda: (world.connection() or {})["spec"]["managementInfo"] == expected)
    nonsense: dict[str, Any] = {"connectionState": "Fine", "connectionStatus": {"certificateStatus": {}}}
    world.client.patch(COMPASS_CONNECTION, CONNECTION_NAME, {"status": nonsense}, subresource="status")
    world.wait_for_state("Connected", "Synchronized")
    world.patch_connection({"spec": {"resyncNow": True}})
    world.wait_for_state("Synchronized")
    dates = (world.connection() or {})["status"]["connectionStatus"]["certificateStatus"]
    assert dates["notAfter"]
    assert dates["notBefore"]
    assert len(world.compass.state.certificates()) == 1
    assert calls(world, "signCertificateSigningRequest") == 1
    assert world.compass.requests.count("connector") >= asked


def test_a_restart_finds_everything_in_the_cluster(world: World, agent: StartAgent) -> None:
    """A new process goes on with the stored credentials and asks for no other."""
    synchronized(world, agent)
    for application in generate(4):
        world.compass.put_application(application)
    world.wait_for("the fourth Application", lambda: len(world.applications()) == 4)
    agent()
    fetched = world.compass.requests.count("director")
    world.wait_for("a fetch", lambda: world.compass.requests.count("director") > fetched)
    assert len(world.compass.state.certificates()) == 1


def test_another_name_is_ignored_with_an_event(world: World, agent: StartAgent) -> None:
    """Only compass-connection is served."""
    agent()
    other = world.put(
        COMPASS_CONNECTION,
        {"metadata": {"name": "other"}, "spec": {"managementInfo": {"connectorUrl": "", "directorUrl": ""}}},
    )
    world.wait_for(
        "the Event",
        lambda: [e for e in world.events("Ignored") if e["involvedObject"]["uid"] == other["metadata"]["uid"]],
    )
    assert "status" not in world.client.get(COMPASS_CONNECTION, "other")


# --- connected -> ConnectionMaintenanceFailed, and back ---


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
    assert len(world.compass.state.certificates()) == 1
    world.wait_for("the Events", lambda: {"ConnectionMaintenanceFailed", "ConnectionRestored"} <= reasons(world))


def test_a_revoked_certificate_is_suspected_and_the_new_token_switches_over(world: World, agent: StartAgent) -> None:
    """Refusals keep credentials and Applications; the used token is tried rarely, a new one at once."""
    synchronized(world, agent, CONTROLLER_SYNC_PERIOD="3s")
    before = certificate(world)
    world.compass.state.revoke_all(world.compass.runtime_id)
    wait_for_error(world, "configure a new one-time token in ConfigMap")
    assert world.state() == "ConnectionMaintenanceFailed"
    wait_for_error(world, "pairing anew failed too", "put a new one-time token into ConfigMap")
    assert certificate(world) == before
    assert len(world.applications()) == 3
    world.configure()
    world.wait_for_state("Synchronized")
    assert certificate(world) != before
    assert len(world.applications()) == 3


def test_a_refusal_that_ends_by_itself_costs_nothing(world: World, agent: StartAgent) -> None:
    """The Director's "insufficient scopes" may be its database: when it is over, the old certificate goes on."""
    synchronized(world, agent)
    before = certificate(world)
    number = world.compass.faults.add(
        Fault(kind="graphql_error", target="director", message="insufficient scopes provided [actual=;]", code=23)
    )
    wait_for_error(world, "insufficient scopes")
    assert world.state() == "ConnectionMaintenanceFailed"
    world.compass.faults.remove(number)
    world.wait_for_state("Synchronized")
    assert certificate(world) == before
    assert len(world.applications()) == 3


# --- connected -> ConnectionFailed (loss), and back ---


def test_lost_credentials_are_told_and_a_new_token_mends_them(world: World, agent: StartAgent) -> None:
    """Secret deleted, emptied, swapped with another key, garbage: each says what is wrong and what to do."""
    synchronized(world, agent)
    world.client.delete(SECRET, CLUSTER_SECRET.name, namespace=CLUSTER_SECRET.namespace)
    wait_for_error(world, "the Secret kyma-system/cluster-client-certificates does not exist", "new one-time token")
    assert world.state() == "ConnectionFailed"
    assert len(world.applications()) == 3
    world.configure()
    world.wait_for_state("Synchronized")

    other = small_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    for what, data in (
        ("holds no credentials", {"key": None, "crt": None, "crtChain": None, "connection": None}),
        ("does not belong to the certificate", {"key": base64.b64encode(other).decode()}),
        ("key crtChain is not base64 of UTF-8 text", {"crtChain": "/w=="}),
    ):
        world.client.patch(SECRET, CLUSTER_SECRET.name, {"data": data}, namespace=CLUSTER_SECRET.namespace)
        wait_for_error(world, what)
        assert world.state() == "ConnectionFailed"
        world.configure()
        world.wait_for_state("Synchronized")
    assert len(world.applications()) == 3


def test_an_expired_certificate_is_loss(world: World, agent: StartAgent) -> None:
    """Out of force for longer than the certificate lives: ConnectionFailed; a new token connects again."""
    world.compass.settings.certificate_validity = 5
    synchronized(world, agent, MINIMAL_COMPASS_SYNC_TIME="0")
    number = world.compass.faults.add(
        Fault(kind="status", target="connector", operation="signCertificateSigningRequest", status=503)
    )
    wait_for_error(world, "renewal failed, the certificate is valid for")
    assert world.state() == "ConnectionMaintenanceFailed"
    wait_for_error(world, "the client certificate expired at")
    assert world.state() == "ConnectionFailed"
    assert len(world.applications()) == 3
    world.compass.settings.certificate_validity = 3600
    world.compass.faults.remove(number)
    world.configure()
    world.wait_for_state("Synchronized")


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
    world.client.delete(
        CONFIG_MAP,
        CONFIGURATION.name,
        namespace=CONFIGURATION.namespace,
    )
    world.wait_for_state("Synchronized")
    assert {name: obj["metadata"]["uid"] for name, obj in world.applications().items()} == uids


# --- renewal ---


def test_renewal_happens_at_the_threshold_and_when_it_is_asked_for(world: World, agent: StartAgent) -> None:
    """Exactly at the threshold, at refreshCredentialsNow, and when the CA Secret is gone; a changed one is mended."""
    world.compass.settings.certificate_validity = 10
    synchronized(world, agent, CONTROLLER_SYNC_PERIOD="10m", MINIMAL_COMPASS_SYNC_TIME="1s")
    first = world.compass.state.certificates()[-1]
    world.wait_for("a second certificate", lambda: len(world.compass.state.certificates()) == 2)
    late = time.time() - (first.not_after - 0.3 * 10)
    assert -0.2 < late < 2.5, "renewed at the threshold, not at a poll"
    world.compass.settings.certificate_validity = 3600
    world.patch_connection({"spec": {"refreshCredentialsNow": True}})
    world.wait_for("a third certificate", lambda: len(world.compass.state.certificates()) == 3)
    world.wait_for(
        "the wish to be taken away", lambda: "refreshCredentialsNow" not in (world.connection() or {})["spec"]
    )
    ca = world.secret(CA_SECRET)
    world.client.patch(SECRET, CA_SECRET.name, {"data": {"cacert": "eA=="}}, namespace=CA_SECRET.namespace)
    world.wait_for("the CA to be put right", lambda: world.secret(CA_SECRET) == ca)
    assert len(world.compass.state.certificates()) == 3
    world.client.delete(SECRET, CA_SECRET.name, namespace=CA_SECRET.namespace)
    world.wait_for("a fourth certificate", lambda: len(world.compass.state.certificates()) == 4)
    world.wait_for("the CA Secret", lambda: world.secret(CA_SECRET) == ca)
    status = (world.connection() or {})["status"]["connectionStatus"]
    assert status["renewed"] >= status["established"]
    world.wait_for("the Event", lambda: "CertificateRenewed" in reasons(world))


def test_addresses_that_move_are_followed_and_written_down(world: World, agent: StartAgent) -> None:
    """What the Connector announces goes to spec.managementInfo and survives a restart; nonsense is not followed."""
    synchronized(world, agent)
    moved = world.compass.director_url.replace("localhost", "127.0.0.1")
    world.compass.settings.director_url = moved
    world.wait_for(
        "the new address",
        lambda: (world.connection() or {})["spec"]["managementInfo"]["directorUrl"] == moved,
    )
    assert moved in (world.secret(CLUSTER_SECRET) or {})["connection"]
    for nonsense in ("http://insecure.example", None):
        world.compass.settings.director_url = nonsense
        wait_for_error(world, "configuration.managementPlaneInfo.directorURL")
        assert (world.connection() or {})["spec"]["managementInfo"]["directorUrl"] == moved
        world.compass.settings.director_url = moved
        world.wait_for_state("Synchronized")


# --- answers that are none ---


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


def test_broken_answers_of_the_director_change_nothing_and_are_told(world: World, agent: StartAgent) -> None:
    """The same at the Director: Applications stay as they are, SynchronizationFailed tells the cause."""
    synchronized(world, agent)
    before = world.applications()
    for fault, told in (
        (Fault(kind="status", target="director", status=200, body='{"data": null}'), "is null or absent"),
        (Fault(kind="garbage", target="director", status=200), "not JSON"),
        (Fault(kind="truncated", target="director"), "not JSON"),
        (Fault(kind="status", target="director", status=503, body=HTML_503), "HTTP 503"),
        (Fault(kind="graphql_error", target="director", message="quota is used up"), "quota is used up"),
    ):
        number = world.compass.faults.add(fault)
        world.wait_for(f"an error with {told}", lambda told=told: told in world.sync_error())
        assert world.state() == "SynchronizationFailed"
        assert world.applications() == before
        world.compass.faults.remove(number)
    world.wait_for_state("Synchronized")
    assert world.applications() == before


# --- revoked by an operator ---


def test_a_mark_of_revocation_holds_until_the_configuration_changes(world: World, agent: StartAgent) -> None:
    """Marked and without credentials, even a token that would work is not used; another one is, at once."""
    world.configure()
    marked: dict[str, Any] = {"metadata": {}}
    token = (
        world.client.get(
            CONFIG_MAP,
            CONFIGURATION.name,
            namespace=CONFIGURATION.namespace,
        )
    )["data"]
    revocation.mark(
        marked,
        PairingConfiguration(
            origin="",
            connector_url=token["CONNECTOR_URL"],
            runtime_id=token["RUNTIME_ID"],
            tenant=token["TENANT"],
            token=token["TOKEN"],
        ),
    )
    world.put(
        COMPASS_CONNECTION,
        {
            "metadata": {"name": CONNECTION_NAME, **marked["metadata"]},
            "spec": {"managementInfo": {"connectorUrl": "", "directorUrl": ""}},
        },
    )
    agent()
    wait_for_error(world, "revoked by an operator", "put a new one-time token into ConfigMap")
    assert world.compass.requests.count("connector") == 0
    world.configure()
    world.wait_for_state("Synchronized")
    assert revocation.ANNOTATION not in (world.connection() or {})["metadata"].get("annotations", {})
