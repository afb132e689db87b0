"""`kubectl compass doctor`: checks for the problems in docs/troubleshooting.md, each with its cure.

Each check reads what it judges. If that cannot be read, its result is unknown, and the other checks continue.
"""

import json
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from controller import fields
from controller.commands import findings, permission_review
from controller.commands.findings import (
    PAIR,
    Finding,
    Result,
    ok,
    permissions_finding,
    problem,
    unknown,
    warning,
)
from controller.commands.report import stale_after
from controller.connection import status as cc
from controller.connection.status import ConnectionState
from controller.resources import APPLICATION, APPLY_RELEASE, COMPASS_CONNECTION, COMPONENT
from controller.settings import ObjectName, SettingsError
from informers import ApiError, Resource
from kubectl_compass.cluster import PODS, Cluster, find, pod_of
from kubectl_compass.terminal import Terminal
from workqueue import Clock

CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)

_SELECTOR = f"app={COMPONENT}"
_EXEC_SECONDS = 90.0  # the agent's doctor asks two servers, with ten seconds for each step
_POLL_SECONDS = 0.5
_LEASE_SECONDS = 10.0  # for a Lease that has no duration
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


def doctor(cluster: Cluster, terminal: Terminal) -> int:
    """Print the findings. Returns the exit status."""
    found = Doctor(cluster, terminal.clock).examine()
    terminal.show(findings.to_json(found), lines=lambda: findings.lines(found))
    return findings.exit_status(found)


class Doctor:
    """Examines a cluster once. `_pods` and `_leader` are what earlier checks have read, for later ones."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster, self._clock = cluster, clock
        self._go_agent = ""
        self._pods: list[Object] | None = None
        self._leader = ""

    def examine(self) -> list[Finding]:
        """The findings, in the order in which to fix them.

        Raises informers.ConnectionFailed if the API server cannot be reached.
        """
        self._cluster.client.request("GET", "/version")
        checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
            ("CRD", partial(self._check_crd, COMPASS_CONNECTION)),
            ("CRD", partial(self._check_crd, APPLICATION)),
            ("Deployment", self._check_deployment),
            ("Pod", self._check_pods),
            ("leader", self._check_leader),
            ("inside the cluster", self._check_inside),
        ]
        causes = [finding for check, look in checks for finding in _attempt(check, look)]
        is_explained = any(finding.result is Result.PROBLEM for finding in causes)
        return [*causes, *_attempt("CompassConnection", partial(self._check_connection, is_explained))]

    def _check_crd(self, resource: Resource) -> list[Finding]:
        name = f"{resource.plural}.{resource.group}"
        return [_crd(name, find(self._cluster.client, CRDS, name), resource)]

    def _check_deployment(self) -> list[Finding]:
        check, namespace, deployment = "Deployment", self._cluster.namespace, self._cluster.deployment
        if deployment is None:
            text = f"there is no Deployment {COMPONENT} in the namespace {namespace}"
            install = "to install it, apply install.yaml of the release, or use the chart"
            return [problem(check, text, f"name its namespace with --namespace; {install}")]
        self._go_agent = self._cluster.go_agent
        try:
            _ = self._cluster.settings
        except SettingsError as error:
            cure = f"kubectl -n {namespace} edit deployment {COMPONENT}"
            return [problem(check, f"the agent cannot start: {error}", cure)]
        wanted = fields.spec(deployment).get("replicas", 1)
        ready = fields.member(deployment, "status").get("readyReplicas", 0)
        text = f"{ready} of {wanted} replicas are ready"
        if wanted == 0:
            text = "replicas is 0; Kyma's operator does that while there is no Secret with the configuration"
            scale = f"kubectl -n {namespace} scale deployment {COMPONENT} --replicas=2"
            return [problem(check, text, f"in Kyma: {PAIR}; elsewhere: {scale}")]
        describe = f"kubectl -n {namespace} describe pods --selector={_SELECTOR}"
        if not ready:
            return [problem(check, text, describe)]
        if self._go_agent:
            text = f"the Go agent runs here, image {self._go_agent}; {text}"
            return [warning(check, text, "to use this agent: docs/upgrade.md, From the Go agent")]
        return [ok(check, text) if ready >= wanted else warning(check, text, describe)]

    def _check_pods(self) -> list[Finding]:
        """The reasons why Pods do not run."""
        namespace = self._cluster.namespace
        pods = self._cluster.client.list(PODS, namespace=namespace, label_selector=_SELECTOR)["items"]
        self._pods = [pod for pod in pods if not _is_ended(pod)]
        return [finding for pod in self._pods if (finding := _pod(pod, namespace)) is not None]

    def _check_leader(self) -> list[Finding]:
        check = "leader"
        if self._go_agent:
            return [ok(check, "the Go agent elects no leader")]
        if not self._cluster.settings.leader_election:
            return [ok(check, "leader election is off")]
        holder, is_renewed = self._observe_lease()
        self._leader = pod_of(holder)
        logs = _logs(self._cluster.namespace)
        if not holder:
            return [problem(check, "no replica holds the Lease, so no replica works", logs)]
        if not is_renewed:
            return [problem(check, f"{self._leader} holds the Lease and did not renew it while it was watched", logs)]
        return [ok(check, f"{self._leader} holds the Lease and renews it")]

    def _observe_lease(self) -> tuple[str, bool]:
        """The holder, "" for none, and whether it renews the Lease before that expires by the clock of this machine."""
        spec = fields.spec(self._cluster.lease() or {})
        seconds = spec.get("leaseDurationSeconds")
        deadline = self._clock.monotonic() + (seconds if isinstance(seconds, int) else _LEASE_SECONDS)
        never = threading.Event()
        while spec.get("holderIdentity") and self._clock.monotonic() < deadline:
            now = fields.spec(self._cluster.lease() or {})
            if (now.get("renewTime"), now.get("holderIdentity")) != (spec.get("renewTime"), spec.get("holderIdentity")):
                return str(now.get("holderIdentity") or ""), True
            self._clock.sleep(_POLL_SECONDS, never)
        return str(spec.get("holderIdentity") or ""), False

    def _check_inside(self) -> list[Finding]:
        """The findings of the agent's own doctor; without them, what is known from outside."""
        check = "inside the cluster"
        if self._go_agent:
            text = "the Go agent has no doctor: configuration, DNS, TLS and clocks are not checked"
            return [unknown(check, text)]
        if self._pods is None:
            inside: list[Finding] | str = "the Pods cannot be listed"
        else:
            inside = self._run_inside(self._pods)
        if isinstance(inside, list):
            return inside
        text = f"configuration, DNS, TLS and clocks are checked in a Pod of the agent: {inside}"
        return [*_attempt("permissions", self._check_permissions), unknown(check, text)]

    def _run_inside(self, pods: list[Object]) -> list[Finding] | str:
        """The findings in the Pod of the leader, otherwise in any that runs; or why there are none."""
        names = sorted(pod["metadata"]["name"] for pod in pods if _is_running(pod))
        if not names:
            return "no Pod of the agent runs"
        pod = self._leader if self._leader in names else names[0]
        command = self._cluster.in_pod(f"pod/{pod}", "doctor", "--output", "json")
        failed = f"kubectl exec in the Pod {pod} failed"
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_EXEC_SECONDS)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{failed}: {error}"
        try:
            return findings.from_json(json.loads(done.stdout))
        except (ValueError, KeyError, TypeError):
            return f"{failed}: {done.stderr.strip() or done.stdout.strip() or f'exit status {done.returncode}'}"

    def _check_permissions(self) -> list[Finding]:
        """Of the ServiceAccount of the Deployment, reviewed from outside."""
        if self._cluster.deployment is None:
            return []
        account = ObjectName(self._cluster.namespace, self._cluster.service_account)
        return [
            permissions_finding(
                permission_review.missing(
                    self._cluster.client, permission_review.needed(self._cluster.settings), account=account
                )
            )
        ]

    def _check_connection(self, is_explained: bool) -> list[Finding]:
        """`is_explained`: another finding is a problem, which is fixed first."""
        check, connection = "CompassConnection", self._cluster.connection()
        if connection is None:
            cure = f"{_ABOVE}; the agent creates it as soon as one leads"
            return [problem(check, "there is none: no agent has led yet, or it may not create it", cure)]
        stored = fields.member(connection, "status")
        contact, sync = fields.member(stored, "connectionStatus"), fields.member(stored, "synchronizationStatus")
        state = stored.get("connectionState")
        found = [_state(check, state, contact, sync)]
        if is_explained and found[0].result is Result.PROBLEM and state != ConnectionState.RESOURCE_APPLICATION_FAILED:
            found = [replace(found[0], cure=_ABOVE)]
        if contact.get("warning"):
            found.append(warning(check, str(contact["warning"]), "correct what the text names; the connection works"))
        fetched = cc.parse_timestamp(sync.get("lastSuccessfulFetch"))
        try:
            limit = stale_after(self._cluster.settings)
        except (ApiError, SettingsError):
            return found
        if fetched is not None and self._clock.time() - fetched > limit:
            text = f"the Director last answered at {sync['lastSuccessfulFetch']}"
            found.append(problem(check, text, f"{_ABOVE}; compare the clocks of this machine and the cluster"))
        return found


def _attempt(check: str, look: Callable[[], Iterable[Finding]]) -> Iterable[Finding]:
    try:
        return look()
    except (ApiError, SettingsError) as error:
        return [unknown(check, f"cannot be read: {error}")]


def _logs(namespace: str) -> str:
    return f"kubectl -n {namespace} logs --selector={_SELECTOR} --prefix --tail=20"


def _crd(name: str, crd: Object | None, resource: Resource) -> Finding:
    check = "CRD"
    apply = "apply install.yaml of the release, or the folder crds of the chart; Kyma's operator applies them itself"
    if crd is None:
        return problem(check, f"{name} is missing", apply)
    versions = fields.objects(fields.spec(crd).get("versions"))
    version = next((v for v in versions if v.get("name") == resource.version and v.get("served") is True), None)
    if version is None:
        return problem(check, f"{name} does not serve {resource.version}", apply)
    conditions = fields.objects(fields.member(crd, "status").get("conditions"))
    if not any(c.get("type") == "Established" and c.get("status") == "True" for c in conditions):
        return problem(check, f"{name} is not established", f"kubectl describe crd {name}")
    if resource is COMPASS_CONNECTION and "status" not in fields.member(version, "subresources"):
        return ok(check, f"{name} is that of the Go agent, which keeps no conditions; it is enough")
    return ok(check, f"{name} is there")


def _is_running(pod: Object) -> bool:
    statuses = fields.objects(fields.member(pod, "status").get("containerStatuses"))
    return any(s.get("name") == COMPONENT and "running" in fields.member(s, "state") for s in statuses)


def _is_ended(pod: Object) -> bool:
    """Whether it has ended or is being deleted, as in each rollout."""
    phase = fields.member(pod, "status").get("phase")
    return phase in ("Succeeded", "Failed") or bool(pod["metadata"].get("deletionTimestamp"))


def _pod(pod: Object, namespace: str) -> Finding | None:
    """The reason why the Pod does not run; None if it runs."""
    check, name, status = "Pod", pod["metadata"]["name"], fields.member(pod, "status")
    describe = f"kubectl -n {namespace} describe pod {name}"
    for condition in fields.objects(status.get("conditions")):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return problem(check, f"{name} is on no node: {condition.get('message')}", describe)
    statuses = fields.objects(status.get("containerStatuses"))
    container = next((s for s in statuses if s.get("name") == COMPONENT), {})
    ended = [fields.member(fields.member(container, state), "terminated") for state in ("state", "lastState")]
    if not _is_running(pod):
        if any(end.get("exitCode") == _SETTING_CANNOT_BE_USED for end in ended):
            return problem(check, f"{name} ends at once: a variable cannot be used", _logs(namespace))
        waiting = fields.member(fields.member(container, "state"), "waiting")
        reason = " ".join(str(waiting[key]) for key in ("reason", "message") if waiting.get(key))
        return problem(check, f"{name} does not run: {reason or status.get('phase')}", describe)
    for end in ended:
        if end.get("reason") == "OOMKilled":
            cure = f"raise it: kubectl -n {namespace} set resources deployment {COMPONENT} --limits=memory=..."
            return warning(check, f"{name} was killed for its memory at {end.get('finishedAt')}", cure)
    return None


def _state(check: str, state: object, contact: Mapping[str, Any], sync: Mapping[str, Any]) -> Finding:
    if state == ConnectionState.SYNCHRONIZED:
        return ok(check, f"{state}; last synchronisation at {sync.get('lastSuccessfulApplication')}")
    if state == ConnectionState.CONNECTED:
        return warning(check, f"{state}; the Director has not answered yet", "wait a moment; kubectl compass resync")
    if not state:
        return problem(check, "has no state yet", _ABOVE)
    part = contact if str(state) in cc.FAILED_CONNECTION_STATES else sync
    cure = _CURES.get(str(state), "the plugin is older than the agent: install that of its release")
    return problem(check, f"{state}: {part.get('error') or 'the status has no error'}", cure)
