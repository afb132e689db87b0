"""What `status` and `list` show, and where there is no agent."""

import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from controller.resources import APPLICATION, COMPASS_CONNECTION, CONNECTION_NAME, SYNC_STATUS
from controller.runtime.events import EVENTS
from controller.runtime.leader_election import LEASES
from informers import Forbidden
from kubectl_compass import actions
from kubectl_compass.arguments import Connect
from kubectl_compass.cluster import DEPLOYMENTS, Cluster, Failed
from kubectl_compass.logs import logs
from kubectl_compass.status import list_applications, status, watch
from kubectl_compass.terminal import Terminal
from tests.clock import VirtualClock
from tests.support.object_store import ObjectStore

Object = dict[str, Any]
NAME = "compass-runtime-agent"
NAMESPACE = "kyma-system"
VERSION_TOLD = 'case "$*" in *--version) echo "compass-runtime-agent 1.2.3 (commit abc)";; *) exit 1;; esac'


class Server(ObjectStore):
    """With lists of two kinds, one object on each page."""

    lists: dict[str, list[Object] | Exception]

    def list(self, resource: Any, *, limit: int, continue_: str, **_: Any) -> Object:
        items = self.lists.get(resource.plural, [])
        if isinstance(items, Exception):
            raise items
        at = int(continue_ or 0)
        more = str(at + 1) if at + 1 < len(items) else ""
        return {"metadata": {"continue": more}, "items": items[at : at + 1]}


class Bench:
    """A cluster with a CompassConnection; `kubectl` is the text of a script."""

    def __init__(self, directory: Path, kubectl: str = VERSION_TOLD, namespace: str = NAMESPACE) -> None:
        self.server = Server()
        self.server.lists = {}
        status = {"connectionState": "Synchronized", "applications": {"failing": ["new", "written"]}}
        connection = {"metadata": {"name": CONNECTION_NAME}, "spec": {}, "status": status}
        self.server.put(COMPASS_CONNECTION, connection)
        script = directory / "kubectl"
        script.write_text(f"#!/bin/sh\n{kubectl}\n")
        script.chmod(0o755)
        self.cluster = Cluster(
            self.server,  # type: ignore[arg-type]
            Connect(namespace=namespace),
            environment={},
            kubectl=str(script),
        )
        self.out, self.err = io.StringIO(), io.StringIO()

    def terminal(self, output: Any = "text", clock: Any = None) -> Terminal:
        return Terminal(output, out=self.out, err=self.err, clock=clock or VirtualClock())

    def deploy(self, *, path: str = "/readyz", image: str = "registry/agent:1", **variables: str) -> None:
        probe = {"httpGet": {"path": path}}
        env = [{"name": name, "value": value} for name, value in variables.items()]
        container = {"name": NAME, "image": image, "readinessProbe": probe, "env": env}
        self.server.put(
            DEPLOYMENTS,
            {
                "metadata": {"name": NAME, "namespace": NAMESPACE},
                "spec": {"replicas": 1, "template": {"spec": {"containers": [container]}}},
                "status": {"readyReplicas": 1},
            },
        )

    def lead(self, holder: str) -> None:
        name = {"name": NAME, "namespace": NAMESPACE}
        self.server.put(LEASES, {"metadata": name, "spec": {"holderIdentity": holder}})

    def status(self) -> Object:
        status(self.cluster, self.terminal("json"))
        found: Object = json.loads(self.out.getvalue())
        return found


def test_the_agent_that_runs_is_shown(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.deploy()
    bench.lead("pod-1_uid_x")
    status(bench.cluster, bench.terminal())
    assert "\nAgent:        version 1.2.3, commit abc, image registry/agent:1\n" in bench.out.getvalue()


@pytest.mark.parametrize("kubectl", ["exit 1", "echo nonsense", "echo 'compass-runtime-agent \x1b[2J (commit x)'"])
def test_a_version_that_the_agent_does_not_tell(tmp_path: Path, kubectl: str) -> None:
    """There may be no right to kubectl exec."""
    bench = Bench(tmp_path, kubectl)
    bench.deploy()
    bench.lead("pod-1_uid_x")
    assert bench.status()["agent"] == {"image": "registry/agent:1", "version": "", "commit": "", "go_agent": False}


def test_the_go_agent_is_recognised(tmp_path: Path) -> None:
    """It elects no leader, which is no problem."""
    bench = Bench(tmp_path)
    bench.deploy(path="/healthz", image="registry/go:1")
    found = bench.status()
    assert found["agent"]["go_agent"] is True
    assert not [problem for problem in found["problems"] if "Lease" in problem]
    status(bench.cluster, bench.terminal())
    assert "Agent:        the Go agent, image registry/go:1\n" in bench.out.getvalue()


@pytest.mark.parametrize(("namespace", "holder"), [(NAMESPACE, ""), ("nope", "pod-1_uid_x")])
def test_no_agent_in_the_namespace_is_a_problem(tmp_path: Path, namespace: str, holder: str) -> None:
    """Whatever the CompassConnection says, which has no namespace. Nothing is asked of an agent that is not there."""
    bench = Bench(tmp_path, namespace=namespace)
    if holder:
        bench.lead(holder)
    found = bench.status()
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
            action(bench.cluster, bench.terminal())
    assert not bench.server.writes["update CompassConnection"]


def test_an_invalid_variable_does_not_hide_the_status(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.deploy(APP_LOG_LEVEL="loud")
    found = bench.status()
    assert found["state"] == "Synchronized"
    assert any(f"Deployment {NAMESPACE}/{NAME}: APP_LOG_LEVEL='loud'" in problem for problem in found["problems"])


def test_a_warning_about_a_connection_that_works_is_shown(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    stored = {"connectionState": "Synchronized", "connectionStatus": {"warning": "look at this"}}
    bench.server.put(COMPASS_CONNECTION, {"metadata": {"name": CONNECTION_NAME}, "spec": {}, "status": stored})
    assert bench.status()["warning"] == "look at this"
    status(bench.cluster, bench.terminal())
    assert "\nWarning:      look at this\n" in bench.out.getvalue()


def test_moments_say_what_they_are(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    at = "2025-12-31T23:59:00Z"
    stored = {"connectionStatus": {"lastSuccess": at}, "synchronizationStatus": {"lastSuccessfulApplication": at}}
    bench.server.put(COMPASS_CONNECTION, {"metadata": {"name": CONNECTION_NAME}, "spec": {}, "status": stored})
    status(bench.cluster, bench.terminal())
    assert f"\nLast contact: {at} (60 s ago): the Connector accepted the certificate\n" in bench.out.getvalue()
    assert f"\nLast sync:    {at} (60 s ago): all Applications were in sync\n" in bench.out.getvalue()


def test_an_agent_that_runs_as_a_process_is_there(tmp_path: Path) -> None:
    """It holds the Lease, and has no Deployment."""
    bench = Bench(tmp_path)
    bench.lead("host_uid_x")
    assert not [problem for problem in bench.status()["problems"] if "Deployment" in problem]


def test_what_the_cluster_holds_controls_no_terminal(tmp_path: Path) -> None:
    evil = "a\x1b[2J\r\n\u202eb"
    bench = Bench(tmp_path)
    bench.deploy(image=f"registry/{evil}")
    bench.lead(f"{evil}_x")
    connection = {"error": evil, "established": evil}
    stored = {"connectionState": evil, "connectionStatus": connection, "runtime": {"id": evil}}
    bench.server.put(COMPASS_CONNECTION, {"metadata": {"name": CONNECTION_NAME}, "spec": {}, "status": stored})
    bench.server.lists = {APPLICATION.plural: [application("a\x1b[2J", "\x1b[2J")]}
    status(bench.cluster, bench.terminal())
    list_applications(bench.cluster, bench.terminal())
    assert all(line.isprintable() for line in bench.out.getvalue().split("\n"))
    assert "Leader:       a\\u001b[2J" in bench.out.getvalue()


class ThreeLooks(VirtualClock):
    """Changes the cluster at each wait, and then interrupts as Ctrl-C does."""

    def __init__(self, *changes: Any) -> None:
        super().__init__()
        self._changes = list(changes)

    def sleep(self, seconds: float, stop: Any) -> bool:
        if not self._changes:
            raise KeyboardInterrupt
        self._changes.pop(0)()
        return False


def test_watch_shows_changes_only(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.deploy()
    bench.lead("pod-1_x")
    clock = ThreeLooks(lambda: None, lambda: bench.lead("pod-2_x"), lambda: None)
    with pytest.raises(KeyboardInterrupt):
        watch(bench.cluster, bench.terminal(clock=clock))
    shown = bench.out.getvalue().splitlines()
    assert shown[0] == "State:        Synchronized"
    assert [line for line in shown if "; leader " in line] == [
        "2026-01-01T00:00:00Z  Synchronized: 0 of 0 Applications are in sync; leader pod-2; 1 of 1 replicas ready"
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
    bench = Bench(tmp_path)
    bench.deploy()
    failing = {"applications": {"failing": ["new", "written", "taken"]}}
    bench.server.put(COMPASS_CONNECTION, {"metadata": {"name": CONNECTION_NAME}, "spec": {}, "status": failing})
    bench.server.lists = {
        APPLICATION.plural: [
            application("users", None, managed=False),
            application("taken", None, managed=False),
            application("held", "DeletionHeld"),
            application("well", "Synced"),
            application("leaving", "Synced", deleted=True),
            application("upgraded", None),
            application("partial", "Incomplete"),
            application("written", "Synced"),
        ],
        EVENTS.plural: [
            event("partial", "2", "now"),
            event("partial", "1", "before"),
            event("partial", "3", "of another", uid="deleted"),
            event("well", "1", "long ago"),
            event("new", "1", "denied", uid=""),
            event("new", "2", "of another", uid="deleted"),
        ],
    }
    assert list_applications(bench.cluster, bench.terminal("json")) == 1
    rows = json.loads(bench.out.getvalue())["applications"]
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
    list_applications(bench.cluster, bench.terminal())
    assert "\npartial   Incomplete    Incomplete: now\n" in bench.out.getvalue()


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
    bench = Bench(tmp_path)
    connection = {"metadata": {"name": CONNECTION_NAME}, "spec": {}, "status": {"connectionState": state}}
    bench.server.put(COMPASS_CONNECTION, connection)
    found = [
        application("well", "Synced"),
        application("one", "DeletionHeld"),
        application("two", "DeletionHeld"),
        application("leaving", None, deleted=True),
        application("of a user", None, managed=False, deleted=True),
    ]
    bench.server.lists = {APPLICATION.plural: listed or found}
    assert bench.status()["deletions"] == counts
    status(bench.cluster, bench.terminal())
    row = "\nDeletions:    2 to be confirmed (kubectl compass confirm-deletions), 1 waiting for finalizers\n"
    assert (row in bench.out.getvalue()) == bool(counts)


def test_reasons_are_missing_where_events_cannot_be_read(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.server.lists = {
        APPLICATION.plural: [application("partial", "Incomplete")],
        EVENTS.plural: Forbidden("no", status=403),
    }
    assert list_applications(bench.cluster, bench.terminal("json")) == 1
