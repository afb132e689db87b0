"""The agents as Pods of config/default in a cluster with nodes, and the mock Compass as a Pod beside them."""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.resources import CONFIG_MAP
from e2e.scenarios.compass import Compass
from e2e.scenarios.target import CommandFailed, Target
from informers import ApiError, Client, NotFound, Resource

_ROOT = Path(__file__).parents[2]
MOCK_COMPASS = _ROOT / "e2e/kind/mock_compass"
AGENT = _ROOT / "e2e/kind/agent"
AGENT_ALONE = _ROOT / "config/agent"

AGENT_IMAGE = "compass-runtime-agent:dev"
MOCK_IMAGE = "compass-runtime-agent-mock-compass:dev"

_NAMESPACE = "kyma-system"
_DEPLOYMENT = "deployment/compass-runtime-agent"
_SELECTOR = "app=compass-runtime-agent"
_WAIT = "--timeout=180s"  # images are there; starting Pods on a busy machine takes the time
_ADMIN = "/api/v1/namespaces/compass/services/mock-compass:admin/proxy"
_REMOVED = "unable to retrieve container logs"  # of the kubelet, which has just removed that container
_PYTHON = "/app/venv/bin/python"
_REPLICAS = 2
_RESTART_SECONDS = 400.0  # the kubelet waits up to five minutes with what it had to start again and again

_POD = Resource(group="", version="v1", plural="pods", kind="Pod")
_DEPLOYMENTS = Resource(group="apps", version="v1", plural="deployments", kind="Deployment")

NodeShell = Callable[[str], str]
"""Runs a shell command as root on the one node of the cluster; gives what it prints."""


@dataclass(frozen=True)
class Images:
    """As the nodes know them. `labels`: of the agent's, where they are known."""

    agent: str = AGENT_IMAGE
    mock_compass: str = MOCK_IMAGE
    labels: Mapping[str, str] = field(default_factory=dict)


class DeployedTarget(Target):
    """`node_shell`: for what cannot be done through the API server: outages and frozen replicas."""

    has_pods = True

    def __init__(
        self, *, kubeconfig: Path, kubectl: Path, images: Images, node_shell: NodeShell | None, clean_up: bool
    ) -> None:
        self.kubeconfig, self.kubectl_binary = kubeconfig, kubectl
        self._images, self._node_shell, self._clean_up = images, node_shell, clean_up
        self.go_agent_image = images.mock_compass
        super().__init__(Client.load(str(kubeconfig)))
        with ExitStack() as stack:
            stack.callback(self.client.close)
            if self._deployment() is not None:
                raise RuntimeError(f"the cluster of {kubeconfig} runs an agent already, which would be taken away")
            self._apply(MOCK_COMPASS)
            self._kubectl_in("compass", "rollout", "status", "deployment/mock-compass", _WAIT)
            self.compass = Compass(stack.enter_context(self._proxy()) + _ADMIN)
            stack.callback(self.compass.close)
            self.kubectl("apply", "--filename", str(_ROOT / "config/default/namespaces.yaml"))
            metadata = {"name": "compass-ca", "namespace": _NAMESPACE}
            self.put(CONFIG_MAP, {"metadata": metadata, "data": {"ca.crt": self.compass.ca_pem}})
            self._stack = stack.pop_all()

    def close(self) -> None:
        try:
            if self._clean_up:
                for folder in (AGENT, MOCK_COMPASS):
                    self.kubectl("delete", "--ignore-not-found", "-k", str(folder))
        finally:
            self._stack.close()

    def start_agents(self) -> None:
        if self._deployment() is None:
            self._apply(AGENT)
        self._in_agents_namespace("scale", _DEPLOYMENT, f"--replicas={_REPLICAS}")
        self._in_agents_namespace("rollout", "status", _DEPLOYMENT, _WAIT)

    def stop_agents(self) -> None:
        if self._deployment() is not None:
            self._in_agents_namespace("scale", _DEPLOYMENT, "--replicas=0")
        self._wait_until_gone()

    def replicas(self) -> set[str]:
        return {pod["metadata"]["name"] for pod in self._pods() if "deletionTimestamp" not in pod["metadata"]}

    def ending(self) -> set[str]:
        return {pod["metadata"]["name"] for pod in self._pods() if "deletionTimestamp" in pod["metadata"]}

    def replica_of(self, identity: str) -> str | None:
        pod = identity.partition("_")[0]
        return pod if pod in self.replicas() else None

    def kill(self, replica: str) -> None:
        if self._node_shell is None:  # only its node can send a Pod's first process a SIGKILL
            self._in_agents_namespace("delete", "pod", replica, "--force", "--grace-period=0")
            return
        self._signal(self._container(replica), "KILL")

    def delete(self, replica: str) -> None:
        self._in_agents_namespace("delete", "pod", replica)
        self._in_agents_namespace("rollout", "status", _DEPLOYMENT, _WAIT)

    def lose(self, replica: str) -> None:
        """Frozen first: a Pod that is deleted by force still gets a SIGTERM, and would release the lease."""
        if self._node_shell is not None:
            self._signal(self._container(replica), "STOP")
        self._in_agents_namespace("delete", "pod", replica, "--force", "--grace-period=0")

    @contextmanager
    def frozen(self, replica: str) -> Iterator[None]:
        container = self._container(replica)
        self._signal(container, "STOP")
        try:
            yield
        finally:
            self._signal(container, "CONT")

    def another_image(self) -> str:
        another = f"{self._images.agent}-again"
        if self._node_shell is not None:
            names = (f"docker.io/library/{image}" for image in (self._images.agent, another))
            self._node_shell(f"ctr --namespace k8s.io images tag --force {' '.join(names)}")
        return another

    def image_labels(self) -> Mapping[str, str]:
        return self._images.labels

    def ask(self, replica: str, path: str) -> str:
        port = 8080 if path == "metrics" else 8090
        try:
            return self.kubectl("get", "--raw", f"/api/v1/namespaces/{_NAMESPACE}/pods/{replica}:{port}/proxy/{path}")
        except CommandFailed as error:
            return str(error)

    def roll(self) -> None:
        self._in_agents_namespace("rollout", "restart", _DEPLOYMENT)
        self._in_agents_namespace("rollout", "status", _DEPLOYMENT, _WAIT)
        self.wait_for("the old Pods to be gone", lambda: len(self._pods()) == _REPLICAS)

    @contextmanager
    def deployments(self) -> Iterator[None]:
        """A cluster does so all the time."""
        yield

    def uninstall(self) -> None:
        self.kubectl("delete", "--ignore-not-found", "-k", str(AGENT_ALONE))
        self._wait_until_gone()
        # The permissions go with the Deployment, so the last leader cannot release it.
        self._in_agents_namespace("delete", "--ignore-not-found", "lease", "compass-runtime-agent")

    def command(self, *arguments: str) -> str:
        return self._in_agents_namespace("exec", _DEPLOYMENT, "--", "compass-runtime-agent", *arguments)

    def logs(self) -> dict[str, str]:
        """Of the containers that run, and of those that ran before them in the same Pods."""
        found = {}
        for name in sorted(self.replicas()):
            for what, which in ((name, ()), (f"{name} before", ("--previous",))):
                try:
                    text = self._in_agents_namespace("logs", name, *which)
                except CommandFailed:
                    continue  # it has not started yet, or it is its first one
                if not text.startswith(_REMOVED):
                    found[what] = text
        return found

    def process_status(self) -> dict[str, str]:
        python = (_PYTHON, "-c", "print(open('/proc/1/status').read())")  # there is no cat
        found = {}
        for pod in self._pods():
            name, containers = pod["metadata"]["name"], pod["status"].get("containerStatuses", ())
            if containers and "running" in containers[0]["state"]:
                status = self._in_agents_namespace("exec", name, "--", *python)
                found[f"{name}/{containers[0]['restartCount']}"] = status
        return found

    def node_missing(self) -> str:
        return "" if self._node_shell else "there is no way to the processes on the node"

    @contextmanager
    def api_server_outage(self) -> Iterator[None]:
        """It hangs, which clients notice later than a refusal, and is killed in the end: it is started again."""
        if self._node_shell is None:
            raise RuntimeError(self.node_missing())
        self._node_shell("kill -STOP $(pidof kube-apiserver)")
        try:
            yield
        finally:
            self._node_shell("kill -KILL $(pidof kube-apiserver)")
            self.wait_for("the API server", self._answers, timeout=_RESTART_SECONDS)

    def _answers(self) -> bool:
        try:
            self.client.request("GET", "/api/v1/namespaces/default", timeout=2.0)
        except ApiError:
            return False
        return True

    def _deployment(self) -> dict[str, Any] | None:
        try:
            return self.client.get(_DEPLOYMENTS, "compass-runtime-agent", namespace=_NAMESPACE)
        except NotFound:
            return None

    def _pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.list(_POD, namespace=_NAMESPACE, label_selector=_SELECTOR)["items"]
        return found

    def _container(self, replica: str) -> str:
        pod = self.client.get(_POD, replica, namespace=_NAMESPACE)
        identifier: str = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
        return identifier

    def _signal(self, container: str, signal: str) -> None:
        """To the processes of that container, if they are still there."""
        if self._node_shell is None:
            raise RuntimeError(self.node_missing())
        self._node_shell(
            f"grep -ls {container} /proc/[0-9]*/cgroup | cut -d/ -f3 | xargs --no-run-if-empty kill -{signal}"
        )

    def _wait_until_gone(self) -> None:
        self.wait_for("the Pods to be gone", lambda: not self._pods())

    def _apply(self, folder: Path) -> None:
        manifests = self.kubectl("kustomize", str(folder))
        for standard, wanted in ((AGENT_IMAGE, self._images.agent), (MOCK_IMAGE, self._images.mock_compass)):
            manifests = manifests.replace(f"image: {standard}\n", f"image: {wanted}\n")
        self.kubectl("apply", "-f", "-", stdin=manifests)

    def _in_agents_namespace(self, *arguments: str) -> str:
        return self._kubectl_in(_NAMESPACE, *arguments)

    def _kubectl_in(self, namespace: str, *arguments: str) -> str:
        return self.kubectl("--namespace", namespace, *arguments)

    @contextmanager
    def _proxy(self) -> Iterator[str]:
        """The API server as plain HTTP on this machine; gives the URL. It outlives the API server's restarts."""
        command = [str(self.kubectl_binary), "--kubeconfig", str(self.kubeconfig), "proxy", "--port=0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            if process.stdout is None:
                raise RuntimeError("kubectl proxy has no output")
            first = process.stdout.readline()  # Starting to serve on 127.0.0.1:PORT
            if not first:
                raise RuntimeError(f"kubectl proxy ended with status {process.wait()}")
            yield f"http://{first.split()[-1]}"
        finally:
            process.terminate()
            process.communicate()
