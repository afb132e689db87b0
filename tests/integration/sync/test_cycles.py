"""What a cycle costs, mass deletions, and the labels of the Runtime."""

import os
import re
import shlex
import subprocess

import pytest

from controller.applications.deletions import CONFIRM_DELETIONS
from e2e.world import World
from tests.integration.sync.conftest import StartAgent
from tests.integration.sync.test_isolation import director_application
from tests.support.audit_log import AuditLog


@pytest.mark.parametrize(
    ("applications", "cycles", "period"),
    [(20, 3, "700ms"), pytest.param(1000, 20, "3s", marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
def test_unchanged_cycles_ask_nothing_of_the_api_server(
    world: World, start: StartAgent, log: AuditLog, applications: int, cycles: int, period: str
) -> None:
    """Beyond watches there are at most one write of the status for each cycle, and those of the Lease. The Director
    sends everything in another order each time.
    """
    world.compass.generate_applications(applications)
    agent = start(CONTROLLER_SYNC_PERIOD=period, LEADER_ELECTION="true")
    world.wait_for_state("Synchronized", timeout=600)
    assert len(world.applications()) == applications

    def done() -> int:
        return agent.log.count("Fetched from the Director")

    world.wait_for("its Event, which comes a little later", lambda: "Synchronized" in _told(world))
    first = done()
    log.clear()
    world.wait_for("more cycles", lambda: done() >= first + cycles, timeout=600)
    requests = log.requests()
    assert {(request.verb, request.resource) for request in requests} - {("update", "leases")} == {
        ("update", "compassconnections")
    }
    assert sum(request.resource == "compassconnections" for request in requests) <= done() - first + 1
    assert world.state() == "Synchronized"


def _told(world: World) -> set[str]:
    """Reasons of the Events about the CompassConnection that is there now."""
    uid = (world.connection() or {})["metadata"]["uid"]
    return {event["reason"] for event in world.events() if event["involvedObject"].get("uid") == uid}


def test_mass_deletions_are_told_and_can_be_held(world: World, start: StartAgent, log: AuditLog) -> None:
    """Held as a whole until confirmed; what else there is to do goes on. Each write names what it is based on."""
    for number in range(5):
        world.compass.put_application(director_application(f"mp-{number}"))
    agent = start(CONTROLLER_SYNC_PERIOD="300ms", MAX_DELETION_PERCENT="50")
    world.wait_for_state("Synchronized")
    for number in range(4):
        world.compass.state.unassign(f"id-mp-{number}", world.compass.runtime_id)
    world.compass.put_application(director_application("mp-new"))
    world.wait_for_state("ResourceApplicationFailed")
    world.wait_for("the new Application", lambda: "mp-new" in world.applications())
    assert len(world.applications()) == 6
    world.wait_for("an Event", lambda: world.events("DeletionsHeld"))
    command = re.search(r"kubectl annotate [^()]*", world.sync_error())
    assert command is not None
    # An annotation that is there already, of a confirmation before or by mistake, is no obstacle.
    _kubectl(world, f"kubectl annotate compassconnection compass-connection {CONFIRM_DELETIONS}=4")
    _kubectl(world, command[0])
    world.wait_for("the confirmed deletions", lambda: set(world.applications()) == {"mp-4", "mp-new"})
    world.wait_for_state("Synchronized")
    assert set(world.secrets()) == {"mp-4-mp-4-bundle", "mp-new-mp-new-bundle"}
    assert CONFIRM_DELETIONS not in (world.connection() or {})["metadata"].get("annotations", {})
    # A late write of a former leader must not replace what the next one has written (controller/runtime/term.py).
    writes = [request for request in log.requests() if request.is_write and request.resource != "events"]
    assert {(write.resource, write.verb) for write in writes} >= {
        *((resource, verb) for resource in ("applications", "secrets") for verb in ("create", "delete")),
        *(("compassconnections", verb) for verb in ("create", "update")),
    }
    assert [str(write) for write in writes if not write.names_its_version] == []
    agent.stop()

    start(CONTROLLER_SYNC_PERIOD="300ms")
    for application in world.compass.state.applications():
        world.compass.state.remove_application(application["id"])
    world.wait_for("no Application", lambda: not world.applications())
    world.wait_for("no Secret", lambda: not world.secrets())
    world.wait_for("an Event", lambda: [e for e in world.events("MassDeletion") if "2 of 2" in e["message"]])


def _kubectl(world: World, command: str) -> None:
    program, *arguments = shlex.split(command)
    assert program == "kubectl"
    environment = {**os.environ, "KUBECONFIG": str(world.kubeconfig)}
    subprocess.run([world.control_plane.assets.kubectl, *arguments], check=True, env=environment, capture_output=True)
