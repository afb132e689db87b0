"""Secrets and CompassConnection, edited, swapped and emptied by hand: the agent recovers or says exactly what to do."""

from pathlib import Path
from typing import Any

import pytest

from controller.resources import SECRET
from e2e.world import CA_SECRET, OWN_CRDS, World
from tests.integration.connection.conftest import StartAgent
from tests.integration.connection.observing import edit_status, issued, synchronized


def test_an_edited_status_is_restored(world: World, agent: StartAgent, crds: Path) -> None:
    """Wiped or nonsensical, it is right again within a period, and no token is spent, not even a fresh one."""
    synchronized(world, agent)
    world.configure()  # a token that would work
    dates: dict[str, Any] = (world.connection() or {})["status"]["connectionStatus"]["certificateStatus"]
    old = "1970-01-01T00:00:00Z"
    nonsense: list[Any] = [
        None,
        {"connectionState": "Fine"},
        {"connectionState": "", "connectionStatus": {"certificateStatus": {"notAfter": old, "notBefore": old}}},
        {"connectionState": "ConnectionMaintenanceFailed", "connectionStatus": {"error": "by hand"}},
        {"synchronizationStatus": {"lastAttempt": "2999-01-01T00:00:00Z", "error": "by hand"}},
        {"connectionStatus": {"certificateStatus": {"notAfter": None}, "established": None, "lastSuccess": None}},
    ]
    if crds == OWN_CRDS:
        condition = {"type": "Ready", "status": "False", "reason": "Hand", "lastTransitionTime": old}
        nonsense.append({"conditions": [condition], "applications": None, "runtime": {"id": "another"}})
    for status in nonsense:
        edit_status(world, status)

        def restored() -> bool:
            found = (world.connection() or {}).get("status") or {}
            connection = found.get("connectionStatus") or {}
            known = connection.get("certificateStatus") or {}
            conditions = {c["type"]: c["status"] for c in found.get("conditions", ())}
            return (
                found.get("connectionState") == "Synchronized"
                and "by hand" not in str(found)
                and "2999" not in str(found)
                and (known.get("notBefore"), known.get("notAfter")) == (dates["notBefore"], dates["notAfter"])
                and conditions.get("Ready", "True") == "True"
                and found.get("runtime", {}).get("id") in (None, world.compass.runtime_id)
            )

        world.wait_for(f"the status after {status}", restored)
    assert issued(world) == 1


@pytest.mark.parametrize("with_status", [True, False])
def test_a_restart_recovers_from_edits(world: World, agent: StartAgent, with_status: bool) -> None:
    """Status, addresses and CA are restored at once, with the stored credentials and without another token."""
    synchronized(world, agent).stop()
    world.configure()
    edit_status(world, {"connectionState": "?", "connectionStatus": {"certificateStatus": {}}} if with_status else None)
    world.patch_connection({"metadata": {"annotations": {"compass.kyma-project.io/revoked-with": "nonsense"}}})
    world.client.patch(SECRET, CA_SECRET.name, {"data": {"cacert": None}}, namespace=CA_SECRET.namespace)
    agent()
    world.wait_for_state("Synchronized")
    world.wait_for("the CA", lambda: (world.secret(CA_SECRET) or {}).get("cacert"))
    assert issued(world) == 1
