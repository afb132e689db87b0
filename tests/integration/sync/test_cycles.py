"""What a cycle costs, and what each write names."""

import pytest

from e2e.world import World
from tests.integration.sync.conftest import StartAgent
from tests.support.audit_log import AuditLog


@pytest.mark.parametrize(
    ("applications", "cycles", "period"),
    [(20, 3, "700ms"), pytest.param(1000, 20, "3s", marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
def test_unchanged_cycles_ask_nothing_of_the_api_server(
    world: World, start: StartAgent, log: AuditLog, applications: int, cycles: int, period: str
) -> None:
    """Beyond watches there are at most one write of the status for each cycle, and those of the Lease. The Director
    sends everything in another order each time. Each write before says which version it replaces.
    """
    world.compass.generate_applications(applications)
    agent = start(CONTROLLER_SYNC_PERIOD=period, LEADER_ELECTION="true")
    world.wait_for_state("Synchronized", timeout=600)
    assert len(world.applications()) == applications

    def done() -> int:
        return agent.log.count("Fetched from the Director")

    world.wait_for("its Event, which comes a little later", lambda: "Synchronized" in _reasons(world))
    # A late write of a former leader must not replace what the next one has written (controller/runtime/term.py).
    writes = [request for request in log.requests() if request.is_write and request.resource != "events"]
    created = {"applications", "secrets", "compassconnections"}
    assert created <= {write.resource for write in writes if write.verb == "create"}
    assert [str(write) for write in writes if not write.names_its_version] == []
    first = done()
    log.clear()
    world.wait_for("more cycles", lambda: done() >= first + cycles, timeout=600)
    requests = log.requests()
    assert {(request.verb, request.resource) for request in requests} - {("update", "leases")} == {
        ("update", "compassconnections")
    }
    assert sum(request.resource == "compassconnections" for request in requests) <= done() - first + 1
    assert world.state() == "Synchronized"


def _reasons(world: World) -> set[str]:
    """Reasons of the Events about the CompassConnection that is there now."""
    uid = (world.connection() or {})["metadata"]["uid"]
    return {event["reason"] for event in world.events() if event["involvedObject"].get("uid") == uid}
