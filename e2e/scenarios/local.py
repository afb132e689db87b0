"""The agents as processes on this machine, before a kube-apiserver and etcd that run here too."""

import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import requests

from controller.settings import ObjectName
from e2e.agent_process import AgentProcess
from e2e.scenarios.compass import Compass
from e2e.scenarios.deployed import AGENT_IMAGE
from e2e.scenarios.local_deployment import DeploymentController
from e2e.scenarios.stage import Stage, run
from e2e.world import World

_REPLICAS = 2
_ANOTHER_IMAGE = f"{AGENT_IMAGE}-again"
_LOOK_SECONDS = 0.1  # how soon an agent that ended is noticed; a kubelet is slower
_PROBE_SECONDS = 2.0
SERVICE_ACCOUNT = "system:serviceaccount:kyma-system:compass-runtime-agent"


class LocalStage(Stage):
    """A World, and what a Deployment and a kubelet do for its agents."""

    has_pods = False
    ca_secret = ObjectName("istio-system", "kyma-gateway-certs-cacert")

    def __init__(self, directory: Path, **settings: str) -> None:
        """`settings` of the agents, names without their prefix."""
        as_deployed = {"CA_CERTIFICATES_SECRET": str(self.ca_secret), "MAX_DELETION_PERCENT": "50"}
        self._settings = as_deployed | settings
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

    @contextmanager
    def settings(self, **settings: str) -> Iterator[None]:
        before = self._settings
        self._settings = {**before, **settings}
        self.roll()
        try:
            yield
        finally:
            self._settings = before
            self.roll()

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

    def python(self, script: str) -> str:
        return run(["env", f"KUBECONFIG={self.kubeconfig}", sys.executable, "-c", script])

    def logs(self) -> dict[str, str]:
        return {name: path.read_text(errors="replace") for name, path in self._written.items()}

    def process_status(self) -> dict[str, str]:
        pids = {f"{name}/{replica.agent.pid}": replica.agent.pid for name, replica in list(self._agents.items())}
        files = {name: Path(f"/proc/{pid}/status") for name, pid in pids.items()}
        return {name: file.read_text() for name, file in files.items() if file.exists()}

    def agent_logs(self) -> str:
        return "\n".join(f"--- {name}\n{text[-3000:]}" for name, text in self.logs().items() if name in self._agents)

    @contextmanager
    def api_server_outage(self) -> Iterator[None]:
        self._world.control_plane.kill_apiserver()
        try:
            yield
        finally:
            self._world.control_plane.start_apiserver()

    @contextmanager
    def deployments(self) -> Iterator[None]:
        controller = DeploymentController(
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
        """With the rights of the ServiceAccount, and with the authority of the mock where one is mounted."""
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
        health, metrics = _free_port(), _free_port()
        ports = {"HEALTH_PORT": str(health), "METRICS_PORT": str(metrics)}
        settings = {"LEADER_ELECTION": "true", **self._settings, **settings, **ports}
        agent = self._world.agent(name, kubeconfig=kubeconfig, **settings)
        replica = _Replica(name, agent, health=health, metrics=metrics)
        replica.agent.start()
        with self._lock:
            self._agents[name] = replica
            self._written[name] = replica.log
        return replica

    def _take(self, name: str) -> "_Replica":
        """From now on nobody starts it again."""
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
