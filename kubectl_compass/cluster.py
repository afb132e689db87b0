"""The cluster of the agent, through the kubeconfig of an operator.

Objects are read and written with `informers.Client`, as in the agent. Logs and commands in a Pod use kubectl, which is
always there when a plugin runs and implements the streaming protocol and all ways to authenticate. The `stream` module
of the official client would be a second implementation with other errors.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, TextIO

from controller import fields
from controller.applications.names import name_problem
from controller.resources import COMPASS_CONNECTION, COMPONENT, CONNECTION_NAME
from controller.runtime.leader_election import LEASES
from controller.runtime.version import VERSION as PLUGIN_VERSION
from controller.settings import Settings, SettingsError, format_duration
from informers import Client, NotFound, Resource
from informers.configuration import load
from kubectl_compass.arguments import Connect

DEPLOYMENTS = Resource(group="apps", version="v1", plural="deployments", kind="Deployment")
PODS = Resource(group="", version="v1", plural="pods", kind="Pod")

_USER_AGENT = f"kubectl-compass/{PLUGIN_VERSION}"
_IMPERSONATE = "Impersonate-User"
_CA_FILE = "APPCOMPASSCAFILE"
_VERSION_SECONDS = 20.0
_VERSION = re.compile(rf"{COMPONENT} (?P<version>[\w.+-]+) \(commit (?P<commit>[\w.+-]+)\)")
_READINESS_OF_GO_AGENT = "/healthz"

Object = dict[str, Any]


class Failed(Exception):
    """The command cannot be carried out. The text has the reason."""


class KubectlFailed(Exception):
    """kubectl cannot be run, or not with these arguments."""


class Cluster:
    """Each call reads from the API server. Only the Deployment and the agent's version are read once for a command.

    The methods raise informers.ApiError.
    """

    def __init__(
        self, client: Client, connect: Connect, *, environment: Mapping[str, str], kubectl: str = "kubectl"
    ) -> None:
        self.client = client
        self.namespace = connect.namespace
        self._environment = environment
        self._kubectl = [kubectl]
        options = {
            "--kubeconfig": connect.kubeconfig,
            "--context": connect.context,
            "--as": connect.user,
            "--request-timeout": format_duration(connect.request_timeout) if connect.request_timeout else "",
        }
        self._kubectl += [f"{option}={value}" for option, value in options.items() if value]

    @cached_property
    def deployment(self) -> Object | None:
        """None if the agent runs without a Deployment, as a process."""
        return find(self.client, DEPLOYMENTS, COMPONENT, self.namespace)

    @cached_property
    def settings(self) -> Settings:
        """The settings of the agent, as far as they can be read from outside. Raises SettingsError.

        From the Deployment, otherwise from the environment of this process. Files in the Pod cannot be read.
        """
        given = self._environment if self.deployment is None else environment_of(self.deployment)
        given = {name: value for name, value in given.items() if name.upper().replace("_", "") != _CA_FILE}
        try:
            return Settings.from_environment(given)
        except SettingsError as error:
            if self.deployment is None:
                raise
            where = f"Deployment {self.namespace}/{COMPONENT}"
            raise SettingsError([f"{where}: {problem}" for problem in error.problems]) from error

    @cached_property
    def agent(self) -> Object | None:
        """The image of the Deployment, and version and commit as the leader reports them; "" if it does not.

        None if the agent runs without a Deployment. The Go agent reports neither.
        """
        if self.deployment is None:
            return None
        printed = ""
        if not self.go_agent:
            with suppress(KubectlFailed, SettingsError):
                target = self.leader_target()
                printed = _output(self.in_pod(target, "--version")) if target else ""
        found = _VERSION.fullmatch(printed.strip())
        return {
            "image": str(container_of(self.deployment).get("image") or ""),
            "version": found["version"] if found else "",
            "commit": found["commit"] if found else "",
            "go_agent": bool(self.go_agent),
        }

    def is_missing(self) -> bool:
        """Whether the namespace has neither the Deployment nor, for an agent that runs as a process, a Lease that is
        held.
        """
        if self.deployment is not None or not self.settings.leader_election:
            return False
        return self.settings.leader_election_namespace != self.namespace or not self.holder()

    def refresh(self) -> None:
        """Read the Deployment again with the next use."""
        for name in ("deployment", "settings"):
            self.__dict__.pop(name, None)

    @property
    def go_agent(self) -> str:
        """The image of the Go agent, if the Deployment is that of the Go agent; else "".

        Its Pods are ready when they run, those of this agent when the caches are filled.
        """
        container = container_of(self.deployment or {})
        path = fields.member(fields.member(container, "readinessProbe"), "httpGet").get("path")
        return str(container.get("image")) if path == _READINESS_OF_GO_AGENT else ""

    @property
    def replicas(self) -> Object | None:
        """How many are wanted and ready; None without a Deployment."""
        if self.deployment is None:
            return None
        ready = fields.member(self.deployment, "status").get("readyReplicas", 0)
        return {"wanted": fields.spec(self.deployment).get("replicas", 1), "ready": ready}

    @property
    def service_account(self) -> str:
        """The name of the agent's ServiceAccount."""
        named = _pod_spec(self.deployment or {}).get("serviceAccountName")
        return named if isinstance(named, str) else COMPONENT

    def connection(self) -> Object | None:
        """The CompassConnection; None if it or its kind does not exist."""
        return find(self.client, COMPASS_CONNECTION, CONNECTION_NAME)

    def lease(self) -> Object | None:
        """The Lease; None before the first leader and without leader election."""
        return find(self.client, LEASES, COMPONENT, self.settings.leader_election_namespace)

    def holder(self) -> str:
        """The holder of the Lease; "" if there is none."""
        return str(fields.member(self.lease(), "spec").get("holderIdentity") or "")

    def leader(self) -> str:
        """The name of the leader's Pod, as the Lease has it; "" if there is none."""
        return pod_of(self.holder())

    def leader_target(self) -> str:
        """The leader's Pod as kubectl takes it, pod/NAME; "" if there is none. Raises KubectlFailed."""
        holder = self.holder()
        return pod_target(holder) if holder else ""

    def kubectl(self, *arguments: str) -> list[str]:
        """A command of kubectl for this cluster and namespace."""
        return [*self._kubectl, f"--namespace={self.namespace}", *arguments]

    def in_pod(self, target: str, *arguments: str) -> list[str]:
        """A command of the agent in `target`, such as pod/NAME. The Pod may have another container, a proxy of
        Istio.
        """
        return self.kubectl("exec", target, f"--container={COMPONENT}", "--", COMPONENT, *arguments)


class _Client(Client):
    """`request_timeout`: how many seconds each request may take; 0 for the limits of the base class."""

    request_timeout = 0.0

    def request(self, method: str, path: str, *, timeout: float | None = None, **options: Any) -> Object:
        return super().request(method, path, timeout=self.request_timeout or timeout, **options)


@contextmanager
def open_cluster(connect: Connect, environment: Mapping[str, str]) -> Iterator[Cluster]:
    """The cluster that kubectl would use. Raises informers.ConfigurationError."""
    configuration, credentials = load(connect.kubeconfig or None, context=connect.context or None, environ=environment)
    if connect.user:
        others = (header for header in credentials.impersonation if header[0] != _IMPERSONATE)
        # Go sends UTF-8, and http.client encodes headers as Latin-1.
        credentials.impersonation = ((_IMPERSONATE, connect.user.encode().decode("latin-1")), *others)
    client = _Client(configuration, credentials, user_agent=_USER_AGENT)
    client.request_timeout = connect.request_timeout
    try:
        yield Cluster(client, connect, environment=environment)
    finally:
        client.close()


def assert_agent(cluster: Cluster) -> None:
    """Raises Failed if there is no agent that could do something."""
    if cluster.is_missing():
        raise Failed(no_agent(cluster))


def no_agent(cluster: Cluster) -> str:
    """Why nothing can be asked of the agent, if it is missing."""
    where = f"there is no Deployment {COMPONENT} in the namespace {cluster.namespace}"
    return f"{where}; name that of the agent with --namespace"


def pod_of(holder: str) -> str:
    """The name of the Pod of a Lease holder: the first part of its identity; "" for ""."""
    return holder.partition("_")[0]


def pod_target(holder: str) -> str:
    """The Pod of a Lease holder as kubectl takes it: pod/NAME.

    Raises KubectlFailed if the holder does not begin with the name of a Pod. A Lease can hold any text, which kubectl
    could take for an option or for another object.
    """
    pod = pod_of(holder)
    if name_problem(pod):
        raise KubectlFailed(
            f"the holder of the Lease {COMPONENT}, {holder!r}, is not the name of a Pod: another program has written "
            "the Lease, so kubectl is not run"
        )
    return f"pod/{pod}"


def environment_of(deployment: Object) -> dict[str, str]:
    """The variables of the agent's container with a literal value."""
    variables = fields.objects(container_of(deployment).get("env"))
    return {
        v["name"]: v["value"] for v in variables if isinstance(v.get("name"), str) and isinstance(v.get("value"), str)
    }


def container_of(deployment: Object) -> Object:
    """The agent's container; empty if there is none."""
    containers = fields.objects(_pod_spec(deployment).get("containers"))
    return next((c for c in containers if c.get("name") == COMPONENT), {})


def run(command: list[str], *, stdout: TextIO | None = None) -> int:
    """Run the command with the streams of this process. Returns its exit status. Raises KubectlFailed."""
    try:
        return subprocess.run(command, check=False, stdout=stdout).returncode  # noqa: S603 - kubectl, without a shell
    except OSError as error:
        raise KubectlFailed(f"{command[0]} cannot be run: {error.strerror}") from error


def _output(command: list[str]) -> str:
    """What the command prints; "" if it fails. Its errors are not shown: the version is not all that was asked for."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_VERSION_SECONDS)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _pod_spec(deployment: Object) -> Object:
    return fields.member(fields.member(fields.spec(deployment), "template"), "spec")


def find(client: Client, resource: Resource, name: str, namespace: str | None = None) -> Object | None:
    """The object; None if it or its kind does not exist. Raises informers.ApiError."""
    try:
        return client.get(resource, name, namespace=namespace)
    except NotFound:
        return None
