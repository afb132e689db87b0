"""What `status` and `list` show, and where there is no agent."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from controller.resources import SYNC_STATUS
from informers import Forbidden
from kubectl_compass import actions
from kubectl_compass.arguments import Connect
from kubectl_compass.cluster import Failed
from kubectl_compass.logs import logs
from kubectl_compass.status import list_applications, situation, status, watch
from tests.unit.kubectl_compass.bench import NAMESPACE, Bench, Object, deployment, held_by

NAME = "compass-runtime-agent"
AT = "2025-12-31T23:59:00Z"  # a minute ago


def connection(state: object = "Synchronized", **stored: Any) -> Object:
    return {"metadata": {}, "spec": {}, "status": {"connectionState": state, **stored}}


def bench(directory: Path, **changes: Any) -> Bench:
    """All is well: an agent runs, and leads."""
    well = {"CompassConnection": connection(), "Deployment": deployment(), "Lease": held_by("pod-1_uid_x")}
    return Bench(directory, **well | changes)


def report(bench: Bench) -> Object:
    status(bench.cluster, bench.terminal("json"))
    found: Object = bench.json()
    return found


@pytest.mark.parametrize(
    ("changes", "row"),
    [
        ({}, "Agent:        version 1.2.3, commit abc, image registry/agent:1"),
        ({"script": "exit 1"}, "Agent:        version unknown, image registry/agent:1"),
        ({"script": "echo nonsense"}, "Agent:        version unknown, image registry/agent:1"),
        (
            {"script": "echo 'compass-runtime-agent \x1b[2J (commit x)'"},
            "Agent:        version unknown, image registry/agent:1",
        ),
        (
            {"Deployment": deployment(probe="/healthz", image="registry/go:1")},
            "Agent:        the Go agent, image registry/go:1",
        ),
        (
            {"CompassConnection": connection(connectionStatus={"warning": "look at this"})},
            "Warning:      look at this",
        ),
        (
            {"CompassConnection": connection(connectionStatus={"lastSuccess": AT})},
            f"Last contact: {AT} (60 s ago): the Connector accepted the certificate",
        ),
        (
            {"CompassConnection": connection(synchronizationStatus={"lastSuccessfulApplication": AT})},
            f"Last sync:    {AT} (60 s ago): all Applications were in sync",
        ),
    ],
)
def test_rows_of_the_status(tmp_path: Path, changes: Object, row: str) -> None:
    """The version is what the agent tells; there may be no right to kubectl exec."""
    world = bench(tmp_path, **changes)
    status(world.cluster, world.terminal())
    assert row in world.out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"Deployment": deployment(APP_LOG_LEVEL="loud")}, f"Deployment {NAMESPACE}/{NAME}: APP_LOG_LEVEL='loud'"),
        ({"Lease": None}, "no replica holds the Lease"),
        ({"Deployment": deployment(2, 0)}, "none of 2 replicas is ready"),
    ],
)
def test_problems_beside_the_connection(tmp_path: Path, changes: Object, problem: str) -> None:
    """They do not hide the state."""
    found = report(bench(tmp_path, **changes))
    assert found["state"] == "Synchronized"
    assert found["healthy"] is False
    assert [text for text in found["problems"] if problem in text]


@pytest.mark.parametrize(
    "changes",
    [
        {"Deployment": None},  # an agent that runs as a process, and holds the Lease
        {"Deployment": deployment(probe="/healthz"), "Lease": None},  # the Go agent, which elects no leader
    ],
)
def test_an_agent_without_deployment_or_lease_is_there(tmp_path: Path, changes: Object) -> None:
    problems = report(bench(tmp_path, **changes))["problems"]
    assert not [text for text in problems if "Deployment" in text or "Lease" in text]


@pytest.mark.parametrize(("namespace", "holder"), [(NAMESPACE, ""), ("nope", "pod-1_uid_x")])
def test_no_agent_in_the_namespace_is_a_problem(tmp_path: Path, namespace: str, holder: str) -> None:
    """Whatever the CompassConnection says, which has no namespace. Nothing is asked of an agent that is not there."""
    world = bench(tmp_path, connect=Connect(namespace=namespace), Deployment=None, Lease=held_by(holder))
    found = report(world)
    assert found["healthy"] is False
    assert any(f"no Deployment {NAME} in the namespace {namespace}" in problem for problem in found["problems"])
    for action in (
        partial(actions.resync, timeout=1),
        partial(actions.renew, timeout=1),
        partial(actions.reconnect, token="", timeout=1),
        partial(actions.revoke, confirm=lambda _: True),
        partial(logs, follow=True, tail=1),
    ):
        with pytest.raises(Failed, match="no Deployment"):
            action(world.cluster, world.terminal())
    assert not world.server.patches


def test_what_the_cluster_holds_controls_no_terminal(tmp_path: Path) -> None:
    evil = "a\x1b[2J\r\n\u202eb"
    world = bench(
        tmp_path,
        CompassConnection=connection(evil, connectionStatus={"error": evil, "established": evil}, runtime={"id": evil}),
        Deployment=deployment(image=f"registry/{evil}"),
        Lease=held_by(f"{evil}_x"),
        applications=[application("a\x1b[2J", "\x1b[2J")],
    )
    status(world.cluster, world.terminal())
    list_applications(world.cluster, world.terminal())
    assert all(line.isprintable() for line in world.out.getvalue().split("\n"))
    assert "Leader:       a\\u001b[2J" in world.out.getvalue()


@pytest.mark.parametrize(
    "stored",
    [None, 3, {"connectionState": {"a": 1}}, {"applications": 3, "connectionStatus": []}, {"connectionStatus": 3}],
)
def test_whatever_the_object_holds_has_a_report(stored: Any, tmp_path: Path) -> None:
    world = bench(tmp_path, CompassConnection={"status": stored})
    assert status(world.cluster, world.terminal()) == 1
    assert "Problem:" in world.out.getvalue()
    assert situation({"status": stored})


def test_no_secret_is_read(tmp_path: Path) -> None:
    """Neither the key nor anything else that is secret comes to the operator's machine."""
    world = bench(tmp_path)
    status(world.cluster, world.terminal())
    assert set(world.server.reads) == {"CompassConnection", "Deployment", "Lease"}


def test_watch_shows_changes_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is interrupted."""
    world = bench(tmp_path)
    leaders = iter(["pod-1_x", "pod-2_x", "pod-2_x"])

    def look_again(seconds: float, stop: Any) -> bool:
        if (leader := next(leaders, None)) is None:
            raise KeyboardInterrupt
        world.server.answers |= {
            "Lease": [held_by(leader)],
            "Deployment": [deployment(2 if leader == "pod-2_x" else 1)],
        }
        return False

    monkeypatch.setattr(world.clock, "sleep", look_again)
    with pytest.raises(KeyboardInterrupt):
        watch(world.cluster, world.terminal())
    shown = world.out.getvalue().splitlines()
    assert shown[0] == "State:        Synchronized"
    assert [line for line in shown if "; leader " in line] == [
        "2026-01-01T00:00:00Z  Synchronized; leader pod-2; 1 of 2 replicas ready"
    ]


def application(name: str, sync: str | None, *, managed: bool = True, deleted: bool = False) -> Object:
    annotations = {SYNC_STATUS: sync} if sync else {}
    spec = {"compassMetadata": {"applicationId": "x"}} if managed else {}
    metadata: Object = {"name": name, "uid": f"uid of {name}", "annotations": annotations}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {"metadata": metadata, "spec": spec}


def event(name: str, at: str, message: str, uid: str | None = None) -> Object:
    about = {"kind": "Application", "name": name, "uid": f"uid of {name}" if uid is None else uid}
    return {"involvedObject": about, "lastTimestamp": at, "reason": "Incomplete", "message": message}


def test_each_application_has_its_sync_status_and_the_reason(tmp_path: Path) -> None:
    """Also if it could not be written or created, which the CompassConnection shows. Those of users are left out,
    unless they have the name of one that is assigned. An Application of that name which was deleted has other reasons.
    """
    world = bench(
        tmp_path,
        CompassConnection=connection(applications={"failing": ["new", "written", "taken"]}),
        applications=[
            application("users", None, managed=False),
            application("taken", None, managed=False),
            application("held", "DeletionHeld"),
            application("well", "Synced"),
            application("leaving", "Synced", deleted=True),
            application("upgraded", None),
            application("partial", "Incomplete"),
            application("written", "Synced"),
        ],
        events=[
            event("partial", "2", "now"),
            event("partial", "1", "before"),
            event("partial", "3", "of another", uid="deleted"),
            event("well", "1", "long ago"),
            event("new", "1", "denied", uid=""),
            event("new", "2", "of another", uid="deleted"),
        ],
    )
    assert list_applications(world.cluster, world.terminal("json")) == 1
    rows = world.json()["applications"]
    assert [(row["name"], row["sync"], row["reason"]) for row in rows] == [
        ("held", "DeletionHeld", "its deletion waits for a confirmation: kubectl compass confirm-deletions"),
        ("leaving", "Deleting", ""),
        ("new", "Missing", "Incomplete: denied"),
        ("partial", "Incomplete", "Incomplete: now"),
        ("taken", "NotManaged", ""),
        ("upgraded", "Synced", ""),
        ("well", "Synced", ""),
        ("written", "Failed", ""),
    ]
    list_applications(world.cluster, world.terminal())
    assert "\npartial   Incomplete    Incomplete: now\n" in world.out.getvalue()


@pytest.mark.parametrize(
    ("state", "listed", "counts"),
    [
        ("ResourceApplicationFailed", None, {"held": 2, "deleting": 1}),
        ("ResourceApplicationFailed", Forbidden("no", status=403), None),
        ("Synchronized", None, None),
    ],
)
def test_deletions_that_wait_are_counted(
    tmp_path: Path, state: str, listed: Exception | None, counts: Object | None
) -> None:
    """If the state tells of any: a status that is well reads no Application."""
    found = [
        application("well", "Synced"),
        application("one", "DeletionHeld"),
        application("two", "DeletionHeld"),
        application("leaving", None, deleted=True),
        application("of a user", None, managed=False, deleted=True),
    ]
    world = bench(tmp_path, CompassConnection=connection(state), applications=listed or found)
    assert report(world)["deletions"] == counts
    status(world.cluster, world.terminal())
    row = "\nDeletions:    2 to be confirmed (kubectl compass confirm-deletions), 1 waiting for finalizers\n"
    assert (row in world.out.getvalue()) == bool(counts)


def test_reasons_are_missing_where_events_cannot_be_read(tmp_path: Path) -> None:
    world = bench(tmp_path, applications=[application("partial", "Incomplete")], events=Forbidden("no", status=403))
    assert list_applications(world.cluster, world.terminal("json")) == 1
