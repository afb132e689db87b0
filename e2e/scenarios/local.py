"""The agents as processes on this machine, before a kube-apiserver and etcd that run here too.

What Kubernetes does with the Deployment of the agent is done here, with processes instead of Pods.
"""

import signal
import threading
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import requests

from e2e.agent_process import AgentProcess, free_port
from e2e.cluster import Object
from e2e.kyma.operator import DEPLOYMENT, NAME
from e2e.scenarios.compass import Compass
from e2e.scenarios.deployed import AGENT_IMAGE
from e2e.scenarios.target import Target
from e2e.world import World
from informers import ApiError, Client, NotFound

_REPLICAS = 2
_ANOTHER_IMAGE = f"{AGENT_IMAGE}-again"
_LOOK_SECONDS = 0.1  # how soon an agent that ended, or a changed Deployment, is noticed; a cluster is slower
_PROBE_SECONDS = 2.0
SERVICE_ACCOUNT = "system:serviceaccount:kyma-system:compass-runtime-agent"


class LocalTarget(Target):
    """A World, and what a Deployment and a kubelet do for its agents."""

    has_pods = False

    def __init__(self, directory: Path) -> None:
        self._stack = ExitStack()
        self._world = self._stack.enter_context(World.local(directory))
        self._world.install_crds()
        super().__init__(self._world.client)
        self.kubeconfig = self._world.kubeconfig
        self.kubectl_binary = self._world.control_plane.assets.kubectl
        self.compass = Compass(self._world.compass.admin_url)
        self._stack.callback(self.compass.close)
        self._lock = threading.Lock()
        self._agents: dict[str, _Replica] = {}
        self._ending: set[str] = set()
        self._written: dict[str, Path] = {}
        self._number = 0
        self._closed = threading.Event()
        self._kubelet = threading.Thread(target=self._restart_what_ended, name="kubelet", daemon=True)
        self._kubelet.start()

    def close(self) -> None:
        self._closed.set()
        self._kubelet.join()
        self._stack.close()

    def start_agents(self) -> None:
        while len(self._agents) < _REPLICAS:
            self._add()
        for replica in list(self._agents.values()):
            self.wait_for(f"{replica.name} to be ready", replica.ready)

    def stop_agents(self) -> None:
        for name in self.replicas():
            self._end(name)

    def replicas(self) -> set[str]:
        with self._lock:
            return set(self._agents)

    def ending(self) -> set[str]:
        with self._lock:
            return set(self._ending)

    def replica_of(self, identity: str) -> str | None:
        with self._lock:
            replicas = list(self._agents.values())
        # The others name it too, as the holder.
        own = (f"identity={identity}", f'"identity":"{identity}"')  # as text, as JSON
        return next((one.name for one in replicas if any(text in one.log.read_text() for text in own)), None)

    def kill(self, replica: str) -> None:
        self._agents[replica].agent.kill()

    def delete(self, replica: str) -> None:
        self._end(replica)
        self._add()

    def lose(self, replica: str) -> None:
        self._take(replica).agent.kill()
        self._add()

    @contextmanager
    def frozen(self, replica: str) -> Iterator[None]:
        agent = self._agents[replica].agent
        agent.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            agent.signal(signal.SIGCONT)

    def another_image(self) -> str:
        return _ANOTHER_IMAGE

    def image_labels(self) -> Mapping[str, str]:
        return {}

    def ask(self, replica: str, path: str) -> str:
        return self._agents[replica].ask(path)

    def roll(self) -> None:
        for name in sorted(self.replicas()):
            fresh = self._add()
            self.wait_for(f"{fresh.name} to be ready", fresh.ready)
            self._end(name)

    def uninstall(self) -> None:
        self.stop_agents()

    def command(self, *arguments: str) -> str:
        return next(iter(self._agents.values())).agent.command(*arguments)

    def logs(self) -> dict[str, str]:
        return {name: path.read_text(errors="replace") for name, path in self._written.items()}

    def process_status(self) -> dict[str, str]:
        pids = {f"{name}/{replica.agent.pid}": replica.agent.pid for name, replica in list(self._agents.items())}
        files = {name: Path(f"/proc/{pid}/status") for name, pid in pids.items()}
        return {name: file.read_text() for name, file in files.items() if file.exists()}

    @contextmanager
    def api_server_outage(self) -> Iterator[None]:
        self._world.control_plane.kill_apiserver()
        try:
            yield
        finally:
            self._world.control_plane.start_apiserver()

    @contextmanager
    def deployments(self) -> Iterator[None]:
        controller = _DeploymentController(
            self.client,
            images={AGENT_IMAGE, _ANOTHER_IMAGE},
            start=self._add_from,
            stop=lambda replica: self._end(replica.name),
        )
        stop = threading.Event()
        thread = threading.Thread(target=controller.run, args=(stop,), name="deployments", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    # --- Deployment and kubelet ---

    def _add_from(self, environment: dict[str, str]) -> "_Replica":
        """With the permissions of the ServiceAccount, and with the authority of the mock where one is mounted."""
        kubeconfig = self._world.control_plane.write_kubeconfig(
            self._world.directory / "service-account", user=SERVICE_ACCOUNT, groups=()
        )
        settings = {name.removeprefix("APP_"): value for name, value in environment.items()}
        settings.setdefault("MAX_DELETION_PERCENT", "")
        if settings.setdefault("COMPASS_CA_FILE", ""):
            settings["COMPASS_CA_FILE"] = str(self._world.ca_file)
        return self._add(kubeconfig, **settings)

    def _end(self, name: str) -> None:
        with self._lock:
            self._ending.add(name)
        try:
            self._take(name).agent.stop()
        finally:
            with self._lock:
                self._ending.discard(name)

    def _add(self, kubeconfig: Path | None = None, **settings: str) -> "_Replica":
        self._number += 1
        name = f"agent-{self._number}"
        health, metrics = free_port(), free_port()
        ports = {"HEALTH_PORT": str(health), "METRICS_PORT": str(metrics)}
        as_deployed = {"CA_CERTIFICATES_SECRET": str(self.ca_secret), "MAX_DELETION_PERCENT": "50"}
        settings = {"LEADER_ELECTION": "true", **as_deployed, **settings, **ports}
        agent = self._world.agent(name, kubeconfig=kubeconfig, **settings)
        replica = _Replica(name, agent, health=health, metrics=metrics)
        replica.agent.start()
        with self._lock:
            self._agents[name] = replica
            self._written[name] = replica.log
        return replica

    def _take(self, name: str) -> "_Replica":
        """From now on it is not started again."""
        with self._lock:
            return self._agents.pop(name)

    def _restart_what_ended(self) -> None:
        while not self._closed.wait(_LOOK_SECONDS):
            with self._lock:
                for replica in self._agents.values():
                    if replica.agent.ended() is not None:
                        replica.agent.start()


class _Replica:
    def __init__(self, name: str, agent: AgentProcess, *, health: int, metrics: int) -> None:
        self.name = name
        self.agent = agent
        self.log = agent.log
        self._health, self._metrics = health, metrics

    def ready(self) -> bool:
        try:
            return requests.get(self._url("readyz"), timeout=_PROBE_SECONDS).ok
        except requests.RequestException:
            return False

    def ask(self, path: str) -> str:
        try:
            return requests.get(self._url(path), timeout=_PROBE_SECONDS).text
        except requests.RequestException as error:
            return str(error)

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._metrics if path == 'metrics' else self._health}/{path}"


class _DeploymentController:
    """Has as many processes run as the Deployment says, with its environment, and writes its status.

    New processes get ready before old ones are stopped. An image that is none of `images` is that of another agent,
    which cannot be started here: it counts as available, and nothing runs.
    """

    def __init__(
        self,
        client: Client,
        *,
        images: Container[str],
        start: Callable[[dict[str, str]], "_Replica"],
        stop: Callable[["_Replica"], None],
    ) -> None:
        """`start` is given the environment of the container."""
        self._client = client
        self._images = images
        self._start = start
        self._stop = stop
        self._running: list[tuple[Object, _Replica]] = []  # with the template that each was started from

    def run(self, stop: threading.Event) -> None:
        """Blocks until stop is set, and ends what it has started."""
        while not stop.wait(_LOOK_SECONDS):
            try:
                self.reconcile()
            except ApiError:  # the API server may be away; the next turn tries again
                continue
        self._scale(0, {})

    def reconcile(self) -> None:
        """One step towards what the Deployment says."""
        try:
            deployment = self._client.get(DEPLOYMENT, NAME, namespace="kyma-system")
        except NotFound:
            self._scale(0, {})
            return
        spec = deployment["spec"]
        template = spec["template"]["spec"]
        wanted: int = spec["replicas"]
        foreign = template["containers"][0]["image"] not in self._images
        self._scale(0 if foreign else wanted, template)
        ready = sum(replica.ready() for started_from, replica in self._running if started_from == template)
        self._write_status(
            deployment, updated=wanted if foreign else ready, old=len(self._running) - ready if foreign else 0
        )

    def _scale(self, wanted: int, template: Object) -> None:
        current = [pair for pair in self._running if pair[0] == template][:wanted]
        while len(current) < wanted:
            pair = (template, self._start(_environment(template)))
            self._running.append(pair)
            current.append(pair)
        if all(replica.ready() for _, replica in current):
            for pair in [pair for pair in self._running if pair not in current]:
                self._running.remove(pair)
                self._stop(pair[1])

    def _write_status(self, deployment: Object, *, updated: int, old: int) -> None:
        generation = deployment["metadata"]["generation"]
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        status: Object = {"observedGeneration": generation, **dict.fromkeys(counts, updated)}
        status["replicas"] += old
        if deployment.get("status", {}) != {key: value for key, value in status.items() if value}:
            self._client.patch(DEPLOYMENT, NAME, {"status": status}, namespace="kyma-system", subresource="status")


def _environment(template: Object) -> dict[str, str]:
    variables = template["containers"][0].get("env", [])
    return {variable["name"]: variable.get("value", "") for variable in variables}
