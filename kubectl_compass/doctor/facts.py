"""Reads the input of `rules` from a cluster. What cannot be read is Unknown; the other checks continue."""

import json
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from controller import fields
from controller.commands import rights
from controller.commands.findings import Finding, Unknown, from_json
from controller.commands.rights import Right
from controller.resources import APPLICATION, COMPASS_CONNECTION, COMPONENT
from controller.settings import ObjectName, Settings, SettingsError
from informers import ApiError, Resource
from kubectl_compass.cluster import PODS, Cluster, find, pod_of
from workqueue import Clock

CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
EXPECTED_CRDS = (COMPASS_CONNECTION, APPLICATION)

_SELECTOR = f"app={COMPONENT}"
_EXEC_SECONDS = 90.0  # the agent's doctor asks two servers, with ten seconds for each step
_POLL_SECONDS = 0.5
_LEASE_SECONDS = 10.0  # for a Lease that has no duration

Object = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Lease:
    """`holder`: the identity, "" for none. `renewed`: whether it was renewed during the observation."""

    holder: str
    renewed: bool


@dataclass(frozen=True, kw_only=True)
class Facts:
    """`now` in epoch seconds, of this machine. None stands for an object that does not exist.

    `go_agent`: the image, if the Deployment is that of the Go agent; else "". `inside`: the findings of the agent's own
    doctor in a Pod. `missing_rights`: read from outside if they are unknown and there is a Deployment.
    """

    now: float
    namespace: str
    crds: Mapping[str, Object | Unknown | None]
    deployment: Object | Unknown | None
    go_agent: str = ""
    settings: Settings | Unknown
    pods: tuple[Object, ...] | Unknown
    lease: Lease | Unknown | None
    connection: Object | Unknown | None
    inside: tuple[Finding, ...] | Unknown
    missing_rights: tuple[Right, ...] | Unknown


def gather(cluster: Cluster, clock: Clock) -> Facts:
    """Read everything. Raises informers.ConnectionFailed if the API server cannot be reached."""
    cluster.client.request("GET", "/version")
    crds = {name: _attempt(partial(find, cluster.client, CRDS, name)) for name in map(_crd_name, EXPECTED_CRDS)}
    deployment = _attempt(lambda: cluster.deployment)
    settings = _attempt(lambda: cluster.settings)
    pods = _attempt(lambda: _pods(cluster))
    lease = _attempt(partial(_lease, cluster, clock)) if isinstance(settings, Settings) else settings
    go_agent = "" if isinstance(deployment, Unknown) else cluster.go_agent
    inside: tuple[Finding, ...] | Unknown
    if go_agent:
        inside = Unknown("it has no doctor")
    elif isinstance(pods, Unknown):
        inside = Unknown("the Pods cannot be listed")
    else:
        inside = _inside(cluster, _pod_to_ask(pods, lease))
    missing: tuple[Right, ...] | Unknown = ()
    if isinstance(settings, Unknown):
        missing = settings
    elif isinstance(inside, Unknown) and deployment is not None and not go_agent:
        missing = _attempt(partial(_missing_rights, cluster, settings))
    return Facts(
        now=clock.time(),
        namespace=cluster.namespace,
        crds=crds,
        deployment=deployment,
        go_agent=go_agent,
        settings=settings,
        pods=pods,
        lease=lease,
        connection=_attempt(cluster.connection),
        inside=inside,
        missing_rights=missing,
    )


def running(pod: Object) -> bool:
    """Whether the agent's container runs in this Pod."""
    statuses = fields.objects(fields.member(pod, "status").get("containerStatuses"))
    return any(s.get("name") == COMPONENT and "running" in fields.member(s, "state") for s in statuses)


def _attempt(look: Callable[[], T]) -> T | Unknown:
    try:
        return look()
    except (ApiError, SettingsError) as error:
        return Unknown(str(error))


def _crd_name(resource: Resource) -> str:
    return f"{resource.plural}.{resource.group}"


def _pods(cluster: Cluster) -> tuple[Object, ...]:
    pods = cluster.client.list(PODS, namespace=cluster.namespace, label_selector=_SELECTOR)["items"]
    return tuple(pod for pod in pods if not _is_ended(pod))


def _is_ended(pod: Object) -> bool:
    """Whether it has ended or is being deleted, as in each rollout."""
    phase = fields.member(pod, "status").get("phase")
    return phase in ("Succeeded", "Failed") or bool(pod["metadata"].get("deletionTimestamp"))


def _lease(cluster: Cluster, clock: Clock) -> Lease | None:
    """Observe the Lease until it is renewed or has expired, measured with the clock of this machine only."""
    first = cluster.lease()
    if first is None:
        return None
    spec = fields.spec(first)
    holder = str(spec.get("holderIdentity") or "")
    seconds = spec.get("leaseDurationSeconds")
    deadline = clock.monotonic() + (seconds if isinstance(seconds, int) else _LEASE_SECONDS)
    never = threading.Event()
    while holder and clock.monotonic() < deadline:
        now = fields.spec(cluster.lease() or {})
        if (now.get("renewTime"), now.get("holderIdentity")) != (spec.get("renewTime"), spec.get("holderIdentity")):
            return Lease(str(now.get("holderIdentity") or ""), renewed=True)
        clock.sleep(_POLL_SECONDS, never)
    return Lease(holder, renewed=False)


def _pod_to_ask(pods: tuple[Object, ...], lease: Lease | Unknown | None) -> str:
    """The Pod of the leader, otherwise any Pod in which the agent runs; "" if there is none."""
    names = sorted(pod["metadata"]["name"] for pod in pods if running(pod))
    leader = pod_of(lease.holder) if isinstance(lease, Lease) else ""
    return leader if leader in names else next(iter(names), "")


def _inside(cluster: Cluster, pod: str) -> tuple[Finding, ...] | Unknown:
    if not pod:
        return Unknown("no Pod of the agent runs")
    command = cluster.in_pod(f"pod/{pod}", "doctor", "--output", "json")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_EXEC_SECONDS)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return Unknown(f"kubectl exec in the Pod {pod} failed: {error}")
    try:
        return tuple(from_json(json.loads(done.stdout)))
    except (ValueError, KeyError, TypeError):
        said = done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}"
        return Unknown(f"kubectl exec in the Pod {pod} failed: {said}")


def _missing_rights(cluster: Cluster, settings: Settings) -> tuple[Right, ...]:
    """The missing permissions of the agent's ServiceAccount, reviewed from outside."""
    account = ObjectName(cluster.namespace, cluster.service_account)
    return rights.missing(cluster.client, rights.needed(settings), account=account)
