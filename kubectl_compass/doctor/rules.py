"""Pure functions from facts to findings. Findings are in the order in which to fix them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from controller import fields
from controller.commands.findings import (
    PAIR,
    Finding,
    Result,
    Unknown,
    ok,
    problem,
    rights_finding,
    unknown,
    warning,
)
from controller.commands.report import stale_after
from controller.connection import status as cc
from controller.connection.status import ConnectionState
from controller.resources import APPLY_RELEASE, COMPASS_CONNECTION, COMPONENT
from controller.settings import Settings
from kubectl_compass.cluster import pod_of
from kubectl_compass.doctor.facts import Facts, running

_VERSION = COMPASS_CONNECTION.version
_SETTING_CANNOT_BE_USED = 2  # exit status of the agent

Object = dict[str, Any]

_ABOVE = "see the findings above"

_CURES: Mapping[str, str] = {
    ConnectionState.CONNECTION_FAILED: f"what the text says; most often: {PAIR}",
    ConnectionState.CONNECTION_MAINTENANCE_FAILED: f"wait, if Compass is down; if it refuses the certificate: {PAIR}",
    ConnectionState.SYNCHRONIZATION_FAILED: f"wait, if Compass is down; for missing permissions: {APPLY_RELEASE}",
    ConnectionState.RESOURCE_APPLICATION_FAILED: (
        "kubectl compass list has the reasons; for deletions that are held back: kubectl compass confirm-deletions"
    ),
    ConnectionState.METADATA_UPDATE_FAILED: (
        "it is tried again with each synchronisation; look for errors of the Director"
    ),
}


def examine(facts: Facts) -> list[Finding]:
    """The findings. They depend only on the facts."""
    causes = [*_crds(facts), _deployment(facts), *_pods(facts), _lease(facts), *_inside(facts)]
    return [*causes, *_connection(facts, any(finding.result is Result.PROBLEM for finding in causes))]


def _logs(facts: Facts, more: str = "") -> str:
    return f"kubectl -n {facts.namespace} logs --selector=app={COMPONENT} --prefix --tail=20{more}"


def _crds(facts: Facts) -> list[Finding]:
    return [_crd(name, crd) for name, crd in facts.crds.items()]


def _crd(name: str, crd: Object | Unknown | None) -> Finding:
    check = "CRD"
    apply = "apply install.yaml of the release, or the folder crds of the chart; Kyma's operator applies them itself"
    if isinstance(crd, Unknown):
        return unknown(check, f"{name} cannot be read: {crd.why}")
    if crd is None:
        return problem(check, f"{name} is missing", apply)
    versions = fields.objects(fields.spec(crd).get("versions"))
    version = next((v for v in versions if v.get("name") == _VERSION and v.get("served") is True), None)
    if version is None:
        return problem(check, f"{name} does not serve {_VERSION}", apply)
    conditions = fields.objects(fields.member(crd, "status").get("conditions"))
    established = any(c.get("type") == "Established" and c.get("status") == "True" for c in conditions)
    if not established:
        return problem(check, f"{name} is not established", f"kubectl describe crd {name}")
    if name.startswith(COMPASS_CONNECTION.plural) and "status" not in fields.member(version, "subresources"):
        return ok(check, f"{name} is that of the Go agent, which keeps no conditions; it is enough")
    return ok(check, f"{name} is there")


def _deployment(facts: Facts) -> Finding:
    check, deployment = "Deployment", facts.deployment
    if isinstance(deployment, Unknown):
        return unknown(check, f"cannot be read: {deployment.why}")
    if deployment is None:
        return problem(
            check,
            f"there is no Deployment {COMPONENT} in the namespace {facts.namespace}",
            "name its namespace with --namespace; to install it, apply install.yaml of the release, or use the chart",
        )
    if isinstance(facts.settings, Unknown):
        return problem(
            check,
            f"the agent cannot start: {facts.settings.why}",
            f"kubectl -n {facts.namespace} edit deployment {COMPONENT}",
        )
    wanted = fields.spec(deployment).get("replicas", 1)
    ready = fields.member(deployment, "status").get("readyReplicas", 0)
    text = f"{ready} of {wanted} replicas are ready"
    if wanted == 0:
        return problem(
            check,
            "replicas is 0; Kyma's operator does that while there is no Secret with the configuration",
            f"in Kyma: {PAIR}; elsewhere: kubectl -n {facts.namespace} scale deployment {COMPONENT} --replicas=2",
        )
    describe = f"kubectl -n {facts.namespace} describe pods --selector=app={COMPONENT}"
    if not ready:
        return problem(check, text, describe)
    if facts.go_agent:
        return warning(
            check,
            f"the Go agent runs here, image {facts.go_agent}; {text}",
            "to use this agent: docs/upgrade.md, From the Go agent",
        )
    return ok(check, text) if ready >= wanted else warning(check, text, describe)


def _pods(facts: Facts) -> list[Finding]:
    if isinstance(facts.pods, Unknown):
        return [unknown("Pod", f"cannot be read: {facts.pods.why}")]
    return [finding for pod in facts.pods if (finding := _pod(facts, pod)) is not None]


def _pod(facts: Facts, pod: Object) -> Finding | None:
    """The reason why the Pod does not run; None if it runs."""
    check, name, status = "Pod", pod["metadata"]["name"], fields.member(pod, "status")
    describe = f"kubectl -n {facts.namespace} describe pod {name}"
    for condition in fields.objects(status.get("conditions")):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return problem(check, f"{name} is on no node: {condition.get('message')}", describe)
    statuses = fields.objects(status.get("containerStatuses"))
    container = next((s for s in statuses if s.get("name") == COMPONENT), {})
    ended = [fields.member(fields.member(container, state), "terminated") for state in ("state", "lastState")]
    if not running(pod):
        if any(end.get("exitCode") == _SETTING_CANNOT_BE_USED for end in ended):
            return problem(check, f"{name} ends at once: a variable cannot be used", _logs(facts))
        waiting = fields.member(fields.member(container, "state"), "waiting")
        reason = " ".join(str(waiting[key]) for key in ("reason", "message") if waiting.get(key))
        return problem(check, f"{name} does not run: {reason or status.get('phase')}", describe)
    for end in ended:
        if end.get("reason") == "OOMKilled":
            cure = f"raise it: kubectl -n {facts.namespace} set resources deployment {COMPONENT} --limits=memory=..."
            return warning(check, f"{name} was killed for its memory at {end.get('finishedAt')}", cure)
    return None


def _lease(facts: Facts) -> Finding:
    check, lease = "leader", facts.lease
    if isinstance(facts.settings, Settings) and not facts.settings.leader_election:
        return ok(check, "leader election is off")
    if facts.go_agent:
        return ok(check, "the Go agent elects no leader")
    if isinstance(lease, Unknown):
        return unknown(check, f"the Lease cannot be read: {lease.why}")
    if lease is None or not lease.holder:
        return problem(check, "no replica holds the Lease, so no replica works", _logs(facts))
    pod = pod_of(lease.holder)
    if not lease.renewed:
        return problem(check, f"{pod} holds the Lease and did not renew it while it was watched", _logs(facts))
    return ok(check, f"{pod} holds the Lease and renews it")


def _inside(facts: Facts) -> list[Finding]:
    """The findings of the agent's own doctor; without them, what is known from outside."""
    if not isinstance(facts.inside, Unknown):
        return list(facts.inside)
    if facts.go_agent:
        return [
            unknown(
                "inside the cluster", "the Go agent has no doctor: configuration, DNS, TLS and clocks are not checked"
            )
        ]
    check = "permissions"
    missing = facts.missing_rights
    seen = unknown(check, missing.why) if isinstance(missing, Unknown) else rights_finding(missing)
    why = f"configuration, DNS, TLS and clocks are checked in a Pod of the agent: {facts.inside.why}"
    inside = unknown("inside the cluster", why)
    return [inside] if facts.deployment is None else [seen, inside]


def _connection(facts: Facts, is_explained: bool) -> list[Finding]:
    """`is_explained`: another finding is a problem, which is fixed first."""
    check, connection = "CompassConnection", facts.connection
    if isinstance(connection, Unknown):
        return [unknown(check, f"cannot be read: {connection.why}")]
    if connection is None:
        cure = "see the findings above; the agent creates it as soon as one leads"
        return [problem(check, "there is none: no agent has led yet, or it may not create it", cure)]
    told = fields.member(connection, "status")
    contact, sync = fields.member(told, "connectionStatus"), fields.member(told, "synchronizationStatus")
    state = told.get("connectionState")
    found = [_state(state, contact, sync)]
    if is_explained and found[0].result is Result.PROBLEM and state != ConnectionState.RESOURCE_APPLICATION_FAILED:
        found = [replace(found[0], cure=_ABOVE)]
    if contact.get("warning"):
        found.append(warning(check, str(contact["warning"]), "correct what the text names; the connection works"))
    fetched = cc.parse_timestamp(sync.get("lastSuccessfulFetch"))
    if fetched is None or isinstance(facts.settings, Unknown):
        return found
    if facts.now - fetched > stale_after(facts.settings):
        text = f"the Director last answered at {sync['lastSuccessfulFetch']}"
        found.append(problem(check, text, "see the findings above; compare the clocks of this machine and the cluster"))
    return found


def _state(state: object, contact: Mapping[str, Any], sync: Mapping[str, Any]) -> Finding:
    check = "CompassConnection"
    if state == ConnectionState.SYNCHRONIZED:
        return ok(check, f"{state}; last synchronisation at {sync.get('lastSuccessfulApplication')}")
    if state == ConnectionState.CONNECTED:
        return warning(check, f"{state}; the Director has not answered yet", "wait a moment; kubectl compass resync")
    if not state:
        return problem(check, "has no state yet", _ABOVE)
    part = contact if str(state) in cc.CONNECTION_LOST else sync
    return problem(check, f"{state}: {part.get('error') or 'no error is told'}", _CURES.get(str(state), ""))
