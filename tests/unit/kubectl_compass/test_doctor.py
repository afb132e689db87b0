"""kubectl compass doctor: what is seen from outside, and what the cure is."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.commands.findings import PAIR, Finding, Result, to_json
from informers import Forbidden, NotFound
from kubectl_compass.arguments import Connect
from kubectl_compass.cluster import Cluster
from kubectl_compass.doctor import Doctor
from tests.unit.kubectl_compass.bench import Clock, Object, commands, deployment, kubectl

CONNECTIONS = "compassconnections.compass.kyma-project.io"
APPLICATIONS = "applications.applicationconnector.kyma-project.io"
NAME = "compass-runtime-agent"
DOCS = Path(__file__).parents[3] / "docs"
CC = "CompassConnection"
OK, WARNING, PROBLEM, UNKNOWN = Result

Examine = Callable[..., list[Finding]]


def crd(*, version: str = "v1alpha1", established: str = "True", subresource: bool = True) -> Object:
    served = {"name": version, "served": True, "subresources": {"status": {}} if subresource else {}}
    return {
        "spec": {"versions": [served]},
        "status": {"conditions": [{"type": "Established", "status": established}]},
    }


def lease(holder: str = "pod-1_uid_x", *, renews: bool = True, seconds: int | None = None) -> Object:
    return {"spec": {"holderIdentity": holder, "leaseDurationSeconds": seconds}, "renews": renews}


def pod(
    state: Object, last: Object | None = None, *, name: str = "pod-1", deleted: bool = False, **status: Any
) -> Object:
    container = {"name": NAME, "state": state, "lastState": last or {}}
    metadata = {"name": name} | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {})
    return {"metadata": metadata, "status": {"containerStatuses": [container], **status}}


def connection(state: str | None = "Synchronized", *, error: str = "", sync: str = "", **contact: str) -> Object:
    return {
        "status": {
            "connectionState": state,
            "connectionStatus": {"error": error, **contact},
            "synchronizationStatus": {"error": sync, "lastSuccessfulFetch": NOW, "lastSuccessfulApplication": NOW},
        }
    }


def waiting(reason: str, last: Object | None = None) -> tuple[Object, ...]:
    return (pod({"waiting": {"reason": reason}}, last),)


NOW = "2026-01-01T00:00:00Z"
FORBIDDEN = Forbidden("forbidden", status=403)
RUNNING = pod({"running": {}})
INSIDE = (Finding("permissions", OK, "all"), Finding("clocks", OK, "agree"))
OOM = {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": "then"}}
PULLING = pod({"waiting": {"reason": "ErrImagePull", "message": "no such image"}})
STARTING: Object = {"metadata": {"name": "pod-1"}, "status": {"phase": "Pending"}}
SCHEDULED = {"type": "PodScheduled", "status": "False", "message": "no node fits"}

#: `inside`: findings of the agent's own doctor, or the script of a kubectl that fails. `denied`: a resource that the
#: agent may not use.
WELL: dict[str, Any] = {
    CONNECTIONS: crd(),
    APPLICATIONS: crd(),
    "Deployment": deployment(2, 2),
    "Pods": (RUNNING, RUNNING),
    "Lease": lease(),
    "CompassConnection": connection(),
    "inside": INSIDE,
    "denied": "",
}


class Server:
    """An API server that has these objects; an exception is raised, None is no object."""

    def __init__(self, objects: dict[str, Any]) -> None:
        self._objects = objects
        self._reads = 0

    def get(self, resource: Any, name: str, **_: Any) -> Any:
        self._reads += 1
        found = self._found(name if resource.plural == "customresourcedefinitions" else resource.kind)
        if found is None:
            raise NotFound("no", status=404)
        if resource.kind == "Lease":
            return {"spec": {**found["spec"], "renewTime": self._reads if found["renews"] else 0}}
        return found

    def list(self, *_: Any, **__: Any) -> Object:
        return {"items": self._found("Pods")}

    def request(self, method: str, path: str, *, body: Any = None) -> Object:
        if path == "/version":
            assert method == "GET"
            return {}
        assert body["spec"]["user"] == "system:serviceaccount:kyma-system:robot"
        attributes = body["spec"]["resourceAttributes"]
        return {"status": {"allowed": attributes["resource"] != self._found("denied")}}

    def _found(self, key: str) -> Any:
        if isinstance(found := self._objects[key], Exception):
            raise found
        return found


@pytest.fixture
def examine(tmp_path: Path) -> Examine:
    """The findings if these objects are others than in WELL."""

    def run(**changes: Any) -> list[Finding]:
        objects = WELL | changes
        inside = objects["inside"]
        (tmp_path / "report").write_text("" if isinstance(inside, str) else json.dumps(to_json(inside)))
        script = inside if isinstance(inside, str) else f"cat {tmp_path}/report"
        server = Server(objects)
        cluster = Cluster(server, Connect(), environment={}, kubectl=kubectl(tmp_path, script))  # type: ignore[arg-type]
        return Doctor(cluster, objects.get("clock") or Clock()).examine()

    return run


#: What is so, the check that finds it, its result, and words of text and cure.
TABLE: list[tuple[dict[str, Any], str, Result, str, str]] = [
    ({CONNECTIONS: None}, "CRD", PROBLEM, f"{CONNECTIONS} is missing", "install.yaml"),
    ({CONNECTIONS: crd(version="v1")}, "CRD", PROBLEM, "does not serve v1alpha1", "install.yaml"),
    ({APPLICATIONS: crd(established="False")}, "CRD", PROBLEM, "not established", "describe crd"),
    ({CONNECTIONS: crd(subresource=False)}, "CRD", OK, "the Go agent", ""),
    ({APPLICATIONS: FORBIDDEN}, "CRD", UNKNOWN, "forbidden", ""),
    ({CONNECTIONS: FORBIDDEN}, "CRD", UNKNOWN, "forbidden", ""),
    ({}, "Deployment", OK, "2 of 2 replicas are ready", ""),
    ({"Deployment": None}, "Deployment", PROBLEM, "there is no Deployment", "--namespace"),
    ({"Deployment": deployment(0, 0)}, "Deployment", PROBLEM, "replicas is 0", "pair --token-stdin"),
    ({"Deployment": deployment(2, 0)}, "Deployment", PROBLEM, "0 of 2", "describe pods"),
    ({"Deployment": deployment(2, 1)}, "Deployment", WARNING, "1 of 2", "describe pods"),
    ({"Deployment": deployment(APP_LOG_LEVEL="loud")}, "Deployment", PROBLEM, "APP_LOG_LEVEL", "edit deployment"),
    ({"Deployment": FORBIDDEN}, "Deployment", UNKNOWN, "forbidden", ""),
    ({"Pods": waiting("ImagePullBackOff")}, "Pod", PROBLEM, "ImagePullBackOff", "describe pod pod-1"),
    (
        {"Pods": waiting("CrashLoopBackOff", {"terminated": {"exitCode": 2}})},
        "Pod",
        PROBLEM,
        "a variable cannot be used",
        "logs --selector",
    ),
    (
        {"Pods": (pod({"terminated": {"exitCode": 2}}),)},
        "Pod",
        PROBLEM,
        "a variable cannot be used",
        "kubectl -n kyma-system logs --selector",
    ),
    ({"Pods": (PULLING,)}, "Pod", PROBLEM, "does not run: ErrImagePull no such image", "describe pod"),
    ({"Pods": (STARTING,)}, "Pod", PROBLEM, "does not run: Pending", "describe pod"),
    ({"Pods": (pod({"running": {}}, OOM),)}, "Pod", WARNING, "killed for its memory at then", "--limits=memory="),
    ({"Pods": (pod({}, conditions=[SCHEDULED]),)}, "Pod", PROBLEM, "no node fits", "describe pod"),
    ({"Pods": FORBIDDEN}, "Pod", UNKNOWN, "forbidden", ""),
    ({}, "leader", OK, "pod-1 holds the Lease", ""),
    ({"Lease": None}, "leader", PROBLEM, "no replica holds the Lease", "logs"),
    ({"Lease": lease("")}, "leader", PROBLEM, "no replica holds the Lease", "logs"),
    ({"Lease": lease(renews=False)}, "leader", PROBLEM, "did not renew", "logs"),
    ({"Lease": FORBIDDEN}, "leader", UNKNOWN, "forbidden", ""),
    ({"Deployment": deployment(APP_LEADER_ELECTION="false"), "Lease": None}, "leader", OK, "is off", ""),
    ({"Pods": ()}, "inside the cluster", UNKNOWN, "no Pod of the agent runs", ""),
    ({"Pods": FORBIDDEN}, "inside the cluster", UNKNOWN, "the Pods cannot be listed", ""),
    ({"Pods": ()}, "permissions", OK, "has all permissions", ""),
    ({"Pods": (), "denied": "secrets"}, "permissions", PROBLEM, "secrets in kyma-system", "install.yaml"),
    ({"Pods": (), "denied": FORBIDDEN}, "permissions", UNKNOWN, "forbidden", ""),
    ({}, CC, OK, f"Synchronized; last synchronisation at {NOW}", ""),
    ({CC: None}, CC, PROBLEM, "there is none", "findings above"),
    ({CC: {}}, CC, PROBLEM, "no state", "findings above"),
    ({CC: FORBIDDEN}, CC, UNKNOWN, "forbidden", ""),
    ({CC: connection("ConnectionFailed")}, CC, PROBLEM, "the status has no error", PAIR),
    ({CC: connection("Unheard")}, CC, PROBLEM, "Unheard: the status has no error", "the plugin is older"),
    ({CC: connection("Connected")}, CC, WARNING, "not answered yet", "wait"),
    ({CC: connection("ConnectionFailed", error="why")}, CC, PROBLEM, "ConnectionFailed: why", "pair"),
    (
        {CC: connection("ConnectionFailed"), "inside": (Finding("Connector", PROBLEM, "CA", "do"),)},
        CC,
        PROBLEM,
        "ConnectionFailed",
        "see the findings above",
    ),
    ({CC: connection("ConnectionMaintenanceFailed", error="why")}, CC, PROBLEM, "why", "wait"),
    ({CC: connection("SynchronizationFailed", sync="why")}, CC, PROBLEM, "why", "install.yaml"),
    (
        {CC: connection("ResourceApplicationFailed", sync="why"), "Lease": None},
        CC,
        PROBLEM,
        "why",
        "kubectl compass list",
    ),
    ({CC: connection("MetadataUpdateFailed", sync="x")}, CC, PROBLEM, "x", "tried"),
]


def test_the_go_agent_is_recognised(examine: Examine) -> None:
    """It is no fault that it has no leader and no doctor; what can be checked from outside is checked."""
    found = {
        finding.check: finding
        for finding in examine(Deployment=deployment(probe="/healthz", image="registry/go:1"), Lease=None)
    }
    assert found["Deployment"].result is WARNING
    assert "the Go agent runs here, image registry/go:1" in found["Deployment"].text
    (heading,) = re.findall(r"docs/upgrade.md, (.*)", found["Deployment"].cure)
    assert f"\n## {heading}\n" in (DOCS / "upgrade.md").read_text()
    assert found["leader"].result is OK
    assert "permissions" not in found
    assert found["CompassConnection"].result is OK
    assert PROBLEM not in {finding.result for finding in found.values()}


def test_cures_need_no_clone_of_the_repository(examine: Examine) -> None:
    """Who has installed a release has no folder config/, and no pages but in the repository."""
    changes = [*(row[0] for row in TABLE), {"CompassConnection": connection(warning="look at this")}]
    cures = {finding.cure for changed in changes for finding in examine(**changed)}
    assert not [cure for cure in cures if re.search("config/|docs/| -k ", cure)]


@pytest.mark.parametrize(("changes", "check", "result", "text", "cure"), TABLE)
def test_each_fact_has_its_finding(
    changes: dict[str, Any], check: str, result: Result, text: str, cure: str, examine: Examine
) -> None:
    """And whatever is a problem or a warning has a cure."""
    found = [finding for finding in examine(**changes) if finding.check == check]
    (first,) = [finding for finding in found if text in finding.text]
    assert first.result is result
    assert cure in first.cure
    assert bool(first.cure) or result in (OK, UNKNOWN)


def test_permissions_are_not_reviewed_without_a_deployment(examine: Examine) -> None:
    """Whose ServiceAccount it would be is not known."""
    assert "permissions" not in {finding.check for finding in examine(Deployment=None, Pods=())}


def test_all_is_well(examine: Examine) -> None:
    """The agent's own findings are among them, and nothing has a cure."""
    found = examine()
    assert {finding.result for finding in found} == {OK}
    assert set(INSIDE) <= set(found)
    assert not any(finding.cure for finding in found)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (
            {"synchronizationStatus": {"lastSuccessfulFetch": "2025-12-31T23:44:59Z"}},
            "the Director last answered at 2025",
        ),
        ({"connectionStatus": {"warning": "look at this"}}, "look at this"),
    ],
)
def test_a_state_that_is_well_does_not_hide_what_is_not(status: Object, text: str, examine: Examine) -> None:
    stored = {"status": {"connectionState": "Synchronized", **status}}
    found = [finding for finding in examine(CompassConnection=stored) if finding.check == "CompassConnection"]
    assert [finding.result is OK for finding in found] == [True, False]
    assert text in found[1].text


def test_whatever_the_object_holds_has_findings(examine: Examine) -> None:
    for status in ({"connectionState": {"a": 1}}, {"connectionStatus": 3, "synchronizationStatus": []}, None, 3):
        assert examine(CompassConnection={"status": status})


@pytest.mark.parametrize(
    "pods",
    [
        (pod({}, phase="Succeeded"), pod({}, phase="Failed"), pod({"running": {}}, OOM, deleted=True)),
        (pod({"running": {}}, conditions=[{**SCHEDULED, "status": "True"}, {"type": "Ready", "status": "False"}]),),
    ],
    ids=["ended, or being deleted, as in each rollout", "conditions of one that runs"],
)
def test_what_is_no_finding_about_a_pod(pods: tuple[Object, ...], examine: Examine) -> None:
    found = examine(Pods=pods)
    assert "Pod" not in {finding.check for finding in found}
    assert any("no Pod of the agent runs" in finding.text for finding in found) == (len(pods) > 1)


@pytest.mark.parametrize(("leader", "asked"), [("pod-2_uid_x", "pod-2"), ("gone_uid_x", "pod-1")])
def test_the_agents_doctor_runs_in_the_pod_of_the_leader(
    leader: str, asked: str, examine: Examine, tmp_path: Path
) -> None:
    """Otherwise in any that runs."""
    pods = (pod({}, name="pod-0"), pod({"running": {}}, name="pod-2"), pod({"running": {}}, name="pod-1"))
    assert set(INSIDE) <= set(examine(Pods=pods, Lease=lease(leader)))
    assert commands(tmp_path) == [
        f"--namespace=kyma-system exec pod/{asked} --container={NAME} -- {NAME} doctor --output json"
    ]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo ' boom ' >&2; exit 1", "failed: boom"),
        ("echo '[]'", "failed: []"),
        ("echo '{\"findings\": [{}]}'", 'failed: {"findings": [{}]}'),
        ("exit 3", "failed: exit status 3"),
    ],
)
def test_an_agents_doctor_that_fails_leaves_its_checks_unknown(script: str, why: str, examine: Examine) -> None:
    """The permissions are reviewed from outside."""
    found = {finding.check: finding for finding in examine(inside=script)}
    assert found["inside the cluster"].result is UNKNOWN
    assert found["inside the cluster"].text.endswith(f": kubectl exec in the Pod pod-1 {why}")
    assert found["permissions"].result is OK


@pytest.mark.parametrize(("seconds", "waited"), [(4, 4.0), (None, 10.0)])
def test_a_lease_is_watched_until_it_expires(seconds: int | None, waited: float, examine: Examine) -> None:
    clock = Clock()
    examine(Lease=lease(renews=False, seconds=seconds), clock=clock)
    assert clock.monotonic() == waited
