"""A cluster and a Compass, and the agent between them: what tests, demo and benchmarks act in.

with World.local(directory) as world:
    world.install_crds()
    world.configure()
    world.agent().start()
    world.wait_for("Synchronized", lambda: world.state() == "Synchronized")
"""

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from controller.model.secrets import SECRETS_SELECTOR
from controller.resources import APPLICATION, COMPASS_CONNECTION, CONFIG_MAP, CONNECTION_NAME, SECRET
from controller.settings import ObjectName
from e2e.agent_process import AgentProcess
from e2e.controlplane import ControlPlane
from e2e.mock_compass.server import MockCompass
from informers import Client, NotFound

OWN_CRDS = Path(__file__).parent.parent / "config" / "crd"
NAMESPACES = ("kyma-system", "istio-system")
CONFIGURATION = ObjectName("kyma-system", "compass-agent-configuration")
CLUSTER_SECRET = ObjectName("kyma-system", "cluster-client-certificates")
CA_SECRET = ObjectName("istio-system", "ca-certificates")
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kyma-system/leases/compass-runtime-agent"

_POLL_SECONDS = 0.02  # of conditions in the API server; nothing waits for less
_TIMEOUT = 30.0  # far above what anything takes on a busy machine

Object = dict[str, Any]
_T = TypeVar("_T")


class World:
    """One control plane, one mock Compass and any number of agents."""

    def __init__(self, *, control_plane: ControlPlane, compass: MockCompass, directory: Path) -> None:
        self.control_plane = control_plane
        self.compass = compass
        self.directory = directory
        self.kubeconfig = control_plane.write_kubeconfig(directory / "kubeconfig")
        self.client = Client.load(str(self.kubeconfig))
        self.ca_file = directory / "compass-ca.pem"
        self.ca_file.write_text(compass.ca_pem)
        self._agents: list[AgentProcess] = []

    @classmethod
    @contextmanager
    def local(cls, directory: Path) -> Iterator[Self]:
        """A world of its own on this machine, ended with the block."""
        with ControlPlane() as control_plane, MockCompass() as compass:
            world = cls(control_plane=control_plane, compass=compass, directory=directory)
            try:
                for namespace in NAMESPACES:
                    control_plane.create_namespace(namespace)
                yield world
            finally:
                world.close()

    def close(self) -> None:
        """Ends the agents and lets go of the API server."""
        for agent in self._agents:
            agent.close()
        self.client.close()

    # --- what is set up ---

    def install_crds(self, path: Path = OWN_CRDS) -> None:
        self.control_plane.apply_crds(path)

    def environment(self, **settings: str) -> dict[str, str]:
        """Settings of an agent in this world, quick enough for tests; names without their prefix."""
        quick = {
            "COMPASS_CA_FILE": str(self.ca_file),
            "CONTROLLER_SYNC_PERIOD": "2s",
            "MINIMAL_COMPASS_SYNC_TIME": "100ms",
            "HEALTH_PORT": "0",
            "METRICS_PORT": "0",
            "LEADER_ELECTION": "false",
        }
        return {f"APP_{name}": value for name, value in (quick | settings).items()}

    def agent(self, name: str = "agent", *, kubeconfig: Path | None = None, **settings: str) -> AgentProcess:
        """A new agent, not started; its log is NAME.log in the world's directory."""
        agent = AgentProcess(
            kubeconfig=kubeconfig or self.kubeconfig,
            environment=self.environment(**settings),
            log=self.directory / f"{name}.log",
        )
        self._agents.append(agent)
        return agent

    def configuration(self, *, token: str | None = None) -> dict[str, str]:
        """What an operator configures; with a fresh token when none is given."""
        return {
            "CONNECTOR_URL": self.compass.connector_url,
            "RUNTIME_ID": self.compass.runtime_id,
            "TENANT": self.compass.tenant,
            "TOKEN": self.compass.issue_token() if token is None else token,
        }

    def configure(self, data: Mapping[str, str] | None = None, *, secret: bool = False) -> None:
        """Writes the configuration as ConfigMap or Secret, over the one that is there."""
        data = self.configuration() if data is None else data
        obj: Object = {"metadata": {"name": CONFIGURATION.name, "namespace": CONFIGURATION.namespace}}
        if secret:
            self.put(SECRET, obj | {"data": {key: encoded(value) for key, value in data.items()}})
        else:
            self.put(CONFIG_MAP, obj | {"data": dict(data)})

    def put(self, resource: Any, obj: Object) -> Object:
        """Creates an object, or replaces the one of that name."""
        obj = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        namespace = obj["metadata"].get("namespace")
        try:
            present = self.client.get(resource, obj["metadata"]["name"], namespace=namespace)
        except NotFound:
            return self.client.create(resource, obj, namespace=namespace)
        metadata = {**obj["metadata"], "resourceVersion": present["metadata"]["resourceVersion"]}
        return self.client.update(resource, {**obj, "metadata": metadata}, namespace=namespace)

    def patch_connection(self, patch: Object) -> Object:
        return self.client.patch(COMPASS_CONNECTION, CONNECTION_NAME, patch)

    def delete_connection(self) -> None:
        self.client.delete(COMPASS_CONNECTION, CONNECTION_NAME)

    def reset(self) -> None:
        """Takes everything away that an agent or a test has left behind."""
        for agent in self._agents:
            agent.close()
        self._agents.clear()
        names = {name.namespace for name in (CONFIGURATION, CLUSTER_SECRET, CA_SECRET)}
        for resource in (COMPASS_CONNECTION, APPLICATION):
            with suppress(NotFound):
                for obj in self.client.list(resource)["items"]:
                    self._delete(resource, obj)
        for namespace in names:
            for resource in (SECRET, CONFIG_MAP):
                for obj in self.client.list(resource, namespace=namespace)["items"]:
                    self._delete(resource, obj)
        with suppress(NotFound):
            self.client.request("DELETE", LEASE)

    def _delete(self, resource: Any, obj: Object) -> None:
        with suppress(NotFound):
            self.client.delete(resource, obj["metadata"]["name"], namespace=obj["metadata"].get("namespace"))

    # --- what is there ---

    def connection(self) -> Object | None:
        """The CompassConnection; None when there is none, or no such kind of object."""
        try:
            return self.client.get(COMPASS_CONNECTION, CONNECTION_NAME)
        except NotFound:
            return None

    def state(self) -> str:
        """status.connectionState, "" without one."""
        text: str = ((self.connection() or {}).get("status") or {}).get("connectionState", "")
        return text

    def connection_error(self) -> str:
        status = (self.connection() or {}).get("status") or {}
        text: str = (status.get("connectionStatus") or {}).get("error", "")
        return text

    def sync_error(self) -> str:
        status = (self.connection() or {}).get("status") or {}
        text: str = (status.get("synchronizationStatus") or {}).get("error", "")
        return text

    def applications(self) -> dict[str, Object]:
        return {obj["metadata"]["name"]: obj for obj in self.client.list(APPLICATION)["items"]}

    def secrets(self) -> dict[str, Object]:
        """The Secrets of Applications."""
        found = self.client.list(SECRET, namespace="kyma-system", label_selector=SECRETS_SELECTOR)["items"]
        return {obj["metadata"]["name"]: obj for obj in found}

    def secret(self, name: ObjectName) -> dict[str, str] | None:
        """The decoded values of a Secret; None when there is none."""
        try:
            found = self.client.get(SECRET, name.name, namespace=name.namespace)
        except NotFound:
            return None
        return {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}

    def events(self, reason: str | None = None) -> list[Object]:
        found = self.client.request("GET", "/api/v1/events")["items"]
        return [event for event in found if reason in (None, event["reason"])]

    def wait_for(self, what: str, condition: Callable[[], _T], *, timeout: float = _TIMEOUT) -> _T:
        """The first true value of ``condition``; raises TimeoutError telling what did not come and how things stand."""
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            if time.monotonic() > deadline:
                logs = "\n".join(agent.log.read_text(errors="replace")[-3000:] for agent in self._agents)
                raise TimeoutError(f"not within {timeout:g} s: {what}\nCompassConnection: {self.connection()}\n{logs}")
            time.sleep(_POLL_SECONDS)
        return value

    def wait_for_state(self, *states: str, timeout: float = _TIMEOUT) -> str:
        def reached() -> str:
            state = self.state()
            return state if state in states else ""

        return self.wait_for(f"state {' or '.join(states)}", reached, timeout=timeout)


def encoded(text: str) -> str:
    """A value as Secrets hold it."""
    return base64.b64encode(text.encode()).decode()
