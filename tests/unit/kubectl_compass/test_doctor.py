"""kubectl compass doctor: what is seen from outside, and what the cure is."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.commands.findings import Finding, Result, Unknown
from controller.commands.rights import Right
from controller.settings import Settings
from informers import Forbidden, NotFound
from kubectl_compass.arguments import Connect
from kubectl_compass.cluster import Cluster
from kubectl_compass.doctor.facts import Facts, Lease, gather
from kubectl_compass.doctor.rules import examine
from tests.clock import VirtualClock

CONNECTIONS = "compassconnections.compass.kyma-project.io"
APPLICATIONS = "applications.applicationconnector.kyma-project.io"
NAME = "compass-runtime-agent"
DOCS = Path(__file__).parents[3] / "docs"

Object = dict[str, Any]


def crd(*, version: str = "v1alpha1", established: str = "True", subresource: bool = True) -> Object:
    served = {"name": version, "served": True, "subresources": {"status": {}} if subresource else {}}
    return {
        "spec": {"versions": [served]},
        "status": {"conditions": [{"type": "Established", "status": established}]},
    }


def deployment(wanted: int = 2, ready: int = 2) -> Object:
    return {"spec": {"replicas": wanted}, "status": {"readyReplicas": ready} if ready else {}}


def pod(state: Object, last: Object | None = None, **status: Any) -> Object:
    container = {"name": NAME, "state": state, "lastState": last or {}}
    return {"metadata": {"name": "pod-1"}, "status": {"containerStatuses": [container], **status}}


def connection(state: str | None = "Synchronized", *, error: str = "", sync: str = "", **contact: str) -> Object:
    return {
        "status": {
            "connectionState": state,
            "connectionStatus": {"error": error, **contact},
            "synchronizationStatus": {"error": sync, "lastSuccessfulFetch": "1970-01-01T00:16:40Z"},
        }
    }


RUNNING = pod({"running": {}})
INSIDE = (Finding("permissions", Result.OK, "all"), Finding("clocks", Result.OK, "agree"))
NO_POD = Unknown("no Pod of the agent runs")
WELL = Facts(
    now=1000.0,
    namespace="kyma-system",
    crds={CONNECTIONS: crd(), APPLICATIONS: crd()},
    deployment=deployment(),
    settings=Settings(),
    pods=(RUNNING, RUNNING),
    lease=Lease("pod-1_uid_x", renewed=True),
    connection=connection(),
    inside=INSIDE,
    missing_rights=(),
)
OOM = {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": "then"}}
UNSCHEDULABLE: Object = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "no node fits"}]}


def waiting(reason: str, last: Object | None = None) -> tuple[Object, ...]:
    return (pod({"waiting": {"reason": reason}}, last),)


#: What is so, the check that finds it, its result, and words of text and cure.
TABLE: list[tuple[dict[str, Any], str, Result, str, str]] = [
    ({"crds": {CONNECTIONS: None}}, "CRD", Result.PROBLEM, f"{CONNECTIONS} is missing", "install.yaml"),
    ({"crds": {CONNECTIONS: crd(version="v1")}}, "CRD", Result.PROBLEM, "does not serve v1alpha1", "install.yaml"),
    ({"crds": {APPLICATIONS: crd(established="False")}}, "CRD", Result.PROBLEM, "not established", "describe crd"),
    ({"crds": {CONNECTIONS: crd(subresource=False)}}, "CRD", Result.OK, "the Go agent", ""),
    ({"crds": {CONNECTIONS: Unknown("forbidden")}}, "CRD", Result.UNKNOWN, "forbidden", ""),
    ({}, "Deployment", Result.OK, "2 of 2 replicas are ready", ""),
    ({"deployment": None}, "Deployment", Result.PROBLEM, "there is no Deployment", "--namespace"),
    ({"deployment": deployment(0, 0)}, "Deployment", Result.PROBLEM, "replicas is 0", "pair --token-stdin"),
    ({"deployment": deployment(2, 0)}, "Deployment", Result.PROBLEM, "0 of 2", "describe pods"),
    ({"deployment": deployment(2, 1)}, "Deployment", Result.WARNING, "1 of 2", "describe pods"),
    ({"settings": Unknown("APP_LOG_LEVEL")}, "Deployment", Result.PROBLEM, "APP_LOG_LEVEL", "edit deployment"),
    ({"deployment": Unknown("forbidden")}, "Deployment", Result.UNKNOWN, "forbidden", ""),
    ({"pods": waiting("ImagePullBackOff")}, "Pod", Result.PROBLEM, "ImagePullBackOff", "describe pod pod-1"),
    (
        {"pods": waiting("CrashLoopBackOff", {"terminated": {"exitCode": 2}})},
        "Pod",
        Result.PROBLEM,
        "a variable cannot be used",
        "logs --selector",
    ),
    ({"pods": (pod({"running": {}}, OOM),)}, "Pod", Result.WARNING, "killed for its memory", "--limits=memory="),
    ({"pods": (pod({}, **UNSCHEDULABLE),)}, "Pod", Result.PROBLEM, "no node fits", "describe pod"),
    ({"pods": Unknown("forbidden")}, "Pod", Result.UNKNOWN, "forbidden", ""),
    ({}, "leader", Result.OK, "pod-1 holds the Lease", ""),
    ({"lease": None}, "leader", Result.PROBLEM, "no replica holds the Lease", "logs"),
    ({"lease": Lease("", renewed=False)}, "leader", Result.PROBLEM, "no replica holds the Lease", "logs"),
    ({"lease": Lease("pod-1_x", renewed=False)}, "leader", Result.PROBLEM, "did not renew", "logs"),
    ({"lease": Unknown("forbidden")}, "leader", Result.UNKNOWN, "forbidden", ""),
    ({"settings": Settings(leader_election=False), "lease": None}, "leader", Result.OK, "is off", ""),
    ({"inside": NO_POD}, "inside the cluster", Result.UNKNOWN, "no Pod of the agent runs", ""),
    ({"inside": NO_POD}, "permissions", Result.OK, "has all permissions", ""),
    (
        {"inside": NO_POD, "missing_rights": (Right("", "secrets", "a", "", "get"),)},
        "permissions",
        Result.PROBLEM,
        "get secrets",
        "install.yaml",
    ),
    ({"inside": NO_POD, "missing_rights": Unknown("no")}, "permissions", Result.UNKNOWN, "no", ""),
    ({}, "CompassConnection", Result.OK, "Synchronized", ""),
    ({"connection": None}, "CompassConnection", Result.PROBLEM, "there is none", "findings above"),
    ({"connection": {}}, "CompassConnection", Result.PROBLEM, "no state", "findings above"),
    ({"connection": Unknown("forbidden")}, "CompassConnection", Result.UNKNOWN, "forbidden", ""),
    ({"connection": connection("Connected")}, "CompassConnection", Result.WARNING, "not answered yet", "wait"),
    (
        {"connection": connection("ConnectionFailed", error="why")},
        "CompassConnection",
        Result.PROBLEM,
        "ConnectionFailed: why",
        "pair",
    ),
    (
        {"connection": connection("ConnectionFailed"), "inside": (Finding("Connector", Result.PROBLEM, "CA", "do"),)},
        "CompassConnection",
        Result.PROBLEM,
        "ConnectionFailed",
        "see the findings above",
    ),
    (
        {"connection": connection("ConnectionMaintenanceFailed", error="why")},
        "CompassConnection",
        Result.PROBLEM,
        "why",
        "wait",
    ),
    (
        {"connection": connection("SynchronizationFailed", sync="why")},
        "CompassConnection",
        Result.PROBLEM,
        "why",
        "install.yaml",
    ),
    (
        {"connection": connection("ResourceApplicationFailed", sync="why"), "lease": None},
        "CompassConnection",
        Result.PROBLEM,
        "why",
        "kubectl compass list",
    ),
    ({"connection": connection("MetadataUpdateFailed", sync="x")}, "CompassConnection", Result.PROBLEM, "x", "tried"),
]


GO_AGENT: dict[str, Any] = {"go_agent": "registry/go:1", "lease": None, "inside": Unknown("it has no doctor")}


def test_the_go_agent_is_recognised() -> None:
    """It is no fault that it has no leader and no doctor; what can be checked from outside is checked."""
    found = {finding.check: finding for finding in examine(replace(WELL, **GO_AGENT))}
    assert found["Deployment"].result is Result.WARNING
    assert "the Go agent runs here, image registry/go:1" in found["Deployment"].text
    (heading,) = re.findall(r"docs/upgrade.md, (.*)", found["Deployment"].cure)
    assert f"\n## {heading}\n" in (DOCS / "upgrade.md").read_text()
    assert found["leader"].result is Result.OK
    assert "permissions" not in found
    assert found["CompassConnection"].result is Result.OK
    assert Result.PROBLEM not in {finding.result for finding in found.values()}


def test_cures_need_no_clone_of_the_repository() -> None:
    """Who has installed a release has no folder config/, and no pages but in the repository."""
    facts = [*(row[0] for row in TABLE), {"connection": connection(warning="look at this")}]
    cures = {finding.cure for changed in facts for finding in examine(replace(WELL, **changed))}
    assert not [cure for cure in cures if re.search("config/|docs/| -k ", cure)]


@pytest.mark.parametrize(("facts", "check", "result", "text", "cure"), TABLE)
def test_each_fact_has_its_finding(facts: dict[str, Any], check: str, result: Result, text: str, cure: str) -> None:
    """And whatever is a problem or a warning has a cure."""
    found = [finding for finding in examine(replace(WELL, **facts)) if finding.check == check]
    (first,) = [finding for finding in found if text in finding.text]
    assert first.result is result
    assert cure in first.cure
    assert bool(first.cure) or result in (Result.OK, Result.UNKNOWN)


def test_permissions_are_not_reviewed_where_there_is_no_deployment() -> None:
    """Whose ServiceAccount it would be is not known."""
    found = examine(replace(WELL, deployment=None, inside=NO_POD))
    assert "permissions" not in {finding.check for finding in found}


def test_all_is_well() -> None:
    """The agent's own findings are among them, and nothing has a cure."""
    found = examine(WELL)
    assert {finding.result for finding in found} == {Result.OK}
    assert set(INSIDE) <= set(found)
    assert not any(finding.cure for finding in found)


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"now": 1000.0 + 901.0}, "the Director last answered at 1970-01-01T00:16:40Z"),
        ({"connection": connection(warning="look at this")}, "look at this"),
    ],
)
def test_a_state_that_is_well_does_not_hide_what_is_not(facts: dict[str, Any], text: str) -> None:
    found = [finding for finding in examine(replace(WELL, **facts)) if finding.check == "CompassConnection"]
    assert [finding.result is Result.OK for finding in found] == [True, False]
    assert text in found[1].text


def test_whatever_the_object_holds_has_findings() -> None:
    for status in ({"connectionState": {"a": 1}}, {"connectionStatus": 3, "synchronizationStatus": []}, None, 3):
        assert examine(replace(WELL, connection={"status": status}))


class Pods:
    """A cluster in which only the Pods exist; without a list, they may not be listed."""

    def __init__(self, pods: list[Object] | None) -> None:
        self._pods = pods

    def list(self, *_: Any, **__: Any) -> Object:
        if self._pods is None:
            raise Forbidden("no", status=403)
        return {"items": self._pods}

    def get(self, *_: Any, **__: Any) -> Object:
        raise NotFound("no", status=404)

    def request(self, *_: Any, **__: Any) -> Object:
        return {}


def look(pods: list[Object] | None) -> Facts:
    return gather(Cluster(Pods(pods), Connect(), environment={}, kubectl="/nowhere"), VirtualClock())  # type: ignore[arg-type]


def test_pods_that_have_ended_or_are_being_deleted_are_ignored() -> None:
    """Each rollout has some."""
    deleted = pod({"running": {}})
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    facts = look([pod({}, phase="Succeeded"), pod({}, phase="Failed"), deleted])
    assert facts.pods == ()
    assert facts.inside == NO_POD


def test_pods_that_cannot_be_listed_may_well_run() -> None:
    assert look(None).inside == Unknown("the Pods cannot be listed")
