"""What went wrong between the parts of the connection, on a real API server with real TLS."""

import subprocess
import time
from pathlib import Path

import pytest

from controller.compass.certificates import build_csr, chain_to_pem, key_to_pem, parse_chain
from controller.compass.connector import ConnectorClient
from controller.connection.configuration import REVOKED
from controller.resources import SECRET
from e2e.mock_compass import MockCompass
from e2e.mock_compass.examples import generate
from e2e.mock_compass.faults import Fault
from e2e.world import CA_SECRET, CLUSTER_SECRET, World, encoded
from informers import Forbidden
from tests.integration.connection.conftest import StartAgent
from tests.integration.connection.observing import (
    certificate,
    issued,
    synchronized,
    wait_for_error,
    wait_for_event,
    wait_for_fetches,
)
from tests.integration.connection.test_commands import revoke
from tests.support.agent_thread import small_key
from tests.support.crd_sets import OWN


def test_a_certificate_of_another_runtime_changes_nothing_until_the_id_is_corrected(
    world: World, agent: StartAgent
) -> None:
    """The Director would serve the other Runtime: it is neither asked for it nor told of labels."""
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


def test_a_changed_file_of_authorities_is_used_without_a_restart(
    world: World, agent: StartAgent, tmp_path: Path
) -> None:
    """Compass moves to another authority: first nobody is trusted, then the file has the right one."""
    right = world.ca_file.read_text()
    with MockCompass(state_directory=tmp_path / "another") as another:
        world.ca_file.write_text(another.ca_pem)
    world.configure()
    agent()
    wait_for_error(world, "not trusted")
    world.ca_file.write_text(right)
    world.wait_for_state("Synchronized")
    assert issued(world) == 1


@pytest.mark.parametrize("crds", [OWN], indirect=True, scope="package")  # the Go agent's CRD has no columns
def test_kubectl_shows_ready_and_an_empty_cell_without_a_certificate(world: World, agent: StartAgent) -> None:
    """Before the first pairing, and after a revocation."""
    agent()
    wait_for_error(world, "no pairing configuration found")
    assert _expiry(world) == ("False", "")
    world.configure()
    world.wait_for_state("Synchronized")
    ready, expiry = _expiry(world)
    assert ready == "True"
    assert expiry.endswith("Z")
    assert revoke(world)[0] == 0
    wait_for_error(world, "revoked by an operator")
    assert _expiry(world) == ("False", "")


def _expiry(world: World) -> tuple[str, str]:
    """The columns READY and CERTIFICATE EXPIRES as kubectl prints them."""
    arguments = ["get", "cc", "compass-connection", "--kubeconfig", str(world.kubeconfig)]
    kubectl = world.control_plane.assets.kubectl
    printed = subprocess.run([kubectl, *arguments], check=True, capture_output=True, text=True).stdout
    header, row = printed.splitlines()
    columns = ("READY", "APPLICATIONS", "CERTIFICATE EXPIRES", "LAST SYNC")
    starts = [header.index(name) for name in columns]
    cells = [row[begin:end].strip() for begin, end in zip(starts, [*starts[1:], None], strict=True)]
    return cells[0], cells[2]


# --- revoke ---


def test_a_page_of_a_proxy_is_no_revocation(world: World, agent: StartAgent) -> None:
    """The certificate still works: nothing is changed, and the exit status says so."""
    synchronized(world, agent)
    before = certificate(world)
    number = world.compass.faults.add(
        Fault(kind="status", operation="revokeCertificate", status=403, body="<html>blocked</html>")
    )
    code, text = revoke(world)
    assert code == 1
    assert "could not be revoked, and nothing was changed" in text
    world.compass.faults.remove(number)
    wait_for_fetches(world, 1)
    assert (world.state(), certificate(world)) == ("Synchronized", before)


def _revoked(world: World) -> list[bool]:
    return [world.compass.state.is_revoked(one.fingerprint) for one in world.compass.state.certificates()]


@pytest.mark.parametrize("down", ["database", "director", "hydrator", "connector", "gateway"])
def test_no_outage_is_taken_for_a_revocation(world: World, agent: StartAgent, down: str) -> None:
    """Compass refuses as if the certificate were revoked, or does not answer. Later, the command does its work."""
    synchronized(world, agent)
    before = certificate(world)
    with world.compass.outages.during(down, delay=0.05):
        code, text = revoke(world)
        assert code == 1, text
        assert "nothing was changed" in text
        if down in ("database", "director"):
            assert "Run the command again when Compass is available" in text
        assert certificate(world) == before
    world.wait_for_state("Synchronized")
    assert not (world.connection() or {})["metadata"].get("annotations")
    code, text = revoke(world)
    assert code == 0, text
    assert "The certificate is revoked (x-request-id: " in text
    assert _revoked(world) == [True]


def test_a_certificate_that_compass_has_revoked_before_is_left_alone(world: World, agent: StartAgent) -> None:
    """Nobody can tell that from an outage, however long it lasts: told what to do, and nothing is lost."""
    synchronized(world, agent).stop()
    before = certificate(world)
    for issued_before in world.compass.state.certificates():
        world.compass.state.revoke(issued_before.fingerprint)
    for _ in range(2):
        code, text = revoke(world)
        assert code == 1, text
        assert f"delete the Secret {CLUSTER_SECRET}, or reconnect with a new one-time token" in text
        assert certificate(world) == before
        assert not (world.connection() or {})["metadata"].get("annotations")


def test_an_expired_certificate_needs_no_revocation(world: World, agent: StartAgent) -> None:
    """It is refused, and nobody can use it any more: the text says that the Secret can go."""
    synchronized(world, agent).stop()
    for one in world.compass.state.certificates():
        world.compass.state.revoke(one.fingerprint)  # so that it is refused now
    code, text = revoke(world, now=lambda: time.time() + 400 * 86400)
    assert code == 1
    assert "The certificate expired at" in text
    assert f"Delete the Secret {CLUSTER_SECRET}" in text


@pytest.mark.parametrize("done", [False, True], ids=["before the Connector", "after it"])
def test_an_answer_that_is_lost_leaves_it_open(world: World, agent: StartAgent, done: bool) -> None:
    """It is not known whether the certificate is revoked: the mark stays, so nobody renews it, and the text says what
    to do. The next run revokes it, or Compass refuses it, which ends with 1, since that may be an outage.
    """
    synchronized(world, agent).stop()
    world.compass.faults.add(Fault(kind="reset", operation="revokeCertificate", after=done, times=1))
    code, text = revoke(world)
    assert code == 1
    assert "The certificate may or may not be revoked" in text
    assert "Run the command again when Compass is available" in text
    code, text = revoke(world)
    assert code == int(done), text
    assert _revoked(world) == [True]
    if done:
        assert f"delete the Secret {CLUSTER_SECRET}, or reconnect with a new one-time token" in text
        assert REVOKED in (world.connection() or {})["metadata"]["annotations"], "still not renewed"
    else:
        assert world.secret(CLUSTER_SECRET) is None


def test_a_certificate_that_was_renewed_meanwhile_is_revoked_as_well(
    world: World, agent: StartAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewal under way stores its certificate right after the first one is revoked."""
    synchronized(world, agent).stop()
    revoke_at_connector = ConnectorClient.revoke

    def renewed_meanwhile(self: ConnectorClient, url: str, *, request_id: str) -> None:
        signed = _sign_another(self, url) if issued(world) == 1 else {}
        revoke_at_connector(self, url, request_id=request_id)
        if signed:
            world.client.patch(SECRET, CLUSTER_SECRET.name, {"data": signed}, namespace=CLUSTER_SECRET.namespace)

    monkeypatch.setattr(ConnectorClient, "revoke", renewed_meanwhile)
    code, text = revoke(world)
    assert code == 0, text
    assert issued(world) == 2
    assert all(world.compass.state.is_revoked(c.fingerprint) for c in world.compass.state.certificates())
    assert world.secret(CLUSTER_SECRET) is None


def _sign_another(connector: ConnectorClient, url: str) -> dict[str, str]:
    """What a renewal stores."""
    key = small_key()
    subject = connector.configuration(url, request_id="renewal").subject
    signed = connector.sign(url, build_csr(subject, key), request_id="renewal")
    leaf = chain_to_pem(parse_chain(signed.chain_pem)[:1])
    texts = {"key": key_to_pem(key), "crt": leaf, "crtChain": signed.chain_pem}
    return {name: encoded(text.decode()) for name, text in texts.items()}


def test_a_gateway_secret_that_cannot_be_deleted_does_not_stop_it(
    world: World, agent: StartAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named, and what matters is done."""
    synchronized(world, agent).stop()
    delete = world.client.delete

    def forbidden(resource: object, name: str, **options: object) -> object:
        if name == CA_SECRET.name:
            raise Forbidden("secrets is forbidden", status=403, reason="Forbidden")
        return delete(resource, name, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(world.client, "delete", forbidden)
    code, text = revoke(world)
    assert code == 0, text
    assert f"The Secret {CA_SECRET} could not be deleted" in text
    assert world.secret(CLUSTER_SECRET) is None


def test_a_secret_that_cannot_be_deleted_after_the_revocation_is_named(
    world: World, agent: StartAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known: the certificate is revoked. What to do: delete the Secret."""
    synchronized(world, agent).stop()

    def broken(resource: object, name: str, **options: object) -> object:
        raise Forbidden("secrets is forbidden", status=403, reason="Forbidden")

    monkeypatch.setattr(world.client, "delete", broken)
    code, text = revoke(world)
    assert code == 1
    assert "The certificate is revoked" in text
    assert f"The Secret {CLUSTER_SECRET} could not be deleted: secrets is forbidden" in text
    assert "Delete it." in text
    assert _revoked(world) == [True]
