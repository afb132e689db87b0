"""The command revoke beside a running agent."""

import io
import time
from collections.abc import Callable

from controller.commands.revoke import revoke as revoke_command
from controller.connection.configuration import REVOKED
from controller.settings import Settings
from e2e.mock_compass.faults import Fault
from e2e.world import CA_SECRET, CLUSTER_SECRET, World
from tests.integration.connection.conftest import StartAgent
from tests.integration.connection.observing import certificate, issued, synchronized, wait_for_error, wait_for_fetches


def revoke(world: World, confirm: Callable[[str], bool] = lambda _: True) -> tuple[int, str]:
    out = io.StringIO()
    settings = Settings.from_environment(world.environment())
    return revoke_command(world.client, settings, confirm=confirm, out=out, now=time.time), out.getvalue()


def test_revoke_ends_the_connection_until_another_token(world: World, agent: StartAgent) -> None:
    """Revoked at the Connector, Secrets gone, ConnectionFailed with the reason; nor does a restart pair again."""
    first = synchronized(world, agent)
    world.configure()  # a token that would work, and that revoke makes useless
    questions: list[str] = []
    code, text = revoke(world, lambda question: bool(questions.append(question)))  # type: ignore[func-returns-value]
    assert (code, text) == (1, "Nothing was changed.\n")
    assert world.compass.runtime_id in questions[0]
    assert world.state() == "Synchronized"

    code, text = revoke(world)
    assert code == 0, text
    assert "The certificate is revoked (x-request-id: " in text
    # An answer to an earlier call may still change the state in between.
    world.wait_for_state("ConnectionFailed")
    wait_for_error(world, "revoked by an operator", "put a new one-time token into ConfigMap")
    assert world.secret(CLUSTER_SECRET) is world.secret(CA_SECRET) is None
    assert all(world.compass.state.is_revoked(c.fingerprint) for c in world.compass.state.certificates())
    assert len(world.applications()) == 3

    first.stop()
    calls = world.compass.requests.count("connector")
    again = agent()
    world.wait_for("the caches of the next agent", lambda: "Caches are filled" in again.log)
    world.patch_connection({"metadata": {"labels": {"an": "event"}}})
    wait_for_error(world, "revoked by an operator")
    assert world.compass.requests.count("connector") == calls
    assert revoke(world)[0] == 1, "there is nothing left to revoke"

    world.configure()
    world.wait_for_state("Synchronized")
    assert REVOKED not in (world.connection() or {})["metadata"].get("annotations", {})
    assert issued(world) == 2


def test_a_revocation_that_fails_changes_nothing(world: World, agent: StartAgent) -> None:
    """The gateway has too many requests: reported, and the connection goes on."""
    synchronized(world, agent)
    before = certificate(world)
    number = world.compass.faults.add(Fault(kind="status", operation="revokeCertificate", status=429))

    def changed_meanwhile(_: str) -> bool:
        world.patch_connection({"metadata": {"annotations": {"note": "mine"}}})
        return True

    code, text = revoke(world, changed_meanwhile)
    assert code == 1
    assert "could not be revoked: HTTP 429" in text
    assert "Nothing was changed." in text
    world.compass.faults.remove(number)
    wait_for_fetches(world, 1)
    assert (world.state(), certificate(world)) == ("Synchronized", before)
    assert (world.connection() or {})["metadata"]["annotations"] == {"note": "mine"}
