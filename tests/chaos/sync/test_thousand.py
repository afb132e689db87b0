"""What a thousand Applications cost when nothing changes."""

from typing import Any

import pytest

from e2e.world import World
from tests.integration.sync.conftest import StartAgent
from tests.support.audit_log import AuditLog

APPLICATIONS = 1000
CYCLES = 20
PERIOD = "3s"


def _application(number: int) -> dict[str, Any]:
    """Two bundles, each with two APIs and two events, one of them with credentials."""
    name = f"mp-many-{number:04d}"

    def bundle(position: int) -> dict[str, Any]:
        own = f"{name}-{position}"
        return {
            "id": own,
            "name": f"Bundle {position}",
            "defaultInstanceAuth": {"credential": {"username": "u", "password": own}} if position else None,
            "apiDefinitions": [
                {"id": f"{own}-api-{n}", "name": f"API {n}", "targetURL": f"https://{name}.example/{n}"}
                for n in range(2)
            ],
            "eventDefinitions": [{"id": f"{own}-event-{n}", "name": f"Event {n}"} for n in range(2)],
        }

    return {"id": f"id-{name}", "name": name, "description": name, "bundles": [bundle(0), bundle(1)]}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_unchanged_cycles_write_the_status_and_nothing_else(world: World, start: StartAgent, log: AuditLog) -> None:
    """The Director sends everything in another order each time. In twenty cycles the API server is asked for updates of
    the status and of the Lease alone.
    """
    for number in range(APPLICATIONS):
        world.compass.put_application(_application(number))
    agent = start(CONTROLLER_SYNC_PERIOD=PERIOD, LEADER_ELECTION="true")
    world.wait_for_state("Synchronized", timeout=600)
    assert len(world.applications()) == APPLICATIONS

    def cycles() -> int:
        return agent.log.count("Fetched from the Director")

    first = cycles()
    world.wait_for("a quiet cycle", lambda: cycles() > first + 1, timeout=120)  # Events come a little later
    first = cycles()
    log.clear()
    world.wait_for("twenty cycles", lambda: cycles() >= first + CYCLES, timeout=600)
    requests = log.requests()
    assert {(request.verb, request.resource) for request in requests} <= {
        ("update", "compassconnections"),
        ("update", "leases"),
    }
    statuses = [request for request in requests if request.resource == "compassconnections"]
    assert len(statuses) <= cycles() - first + 1
    assert world.state() == "Synchronized"
