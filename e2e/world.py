"""A cluster and a Compass, and the agent between them: what tests, demo and benchmarks act in.

with World.local(directory) as world:
    world.install_crds()
    world.configure()
    world.agent().start()
    world.wait_for("Synchronized", lambda: world.state() == "Synchronized")
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from controller.settings import ObjectName
from e2e.agent_process import AGENT_COMMAND, AgentProcess
from e2e.cluster import CLUSTER_SECRET, CONFIGURATION, LEASE, NAMESPACES, Cluster, Object, encoded
from e2e.controlplane import ControlPlane
from e2e.mock_compass.server import MockCompass
from informers import Client

__all__ = [
    "CA_SECRET",
    "CLUSTER_SECRET",
    "CONFIGURATION",
    "LEASE",
    "NAMESPACES",
    "OWN_CRDS",
    "Object",
    "World",
    "encoded",
]

OWN_CRDS = Path(__file__).parent.parent / "config" / "crd"
CA_SECRET = ObjectName("istio-system", "ca-certificates")


class World(Cluster):
    """One control plane, one mock Compass and any number of agents."""

    def __init__(self, *, control_plane: ControlPlane, compass: MockCompass, directory: Path) -> None:
        self.control_plane = control_plane
        self.compass = compass
        self.directory = directory
        self.kubeconfig = control_plane.write_kubeconfig(directory / "kubeconfig")
        super().__init__(Client.load(str(self.kubeconfig)))
        self.ca_file = directory / "compass-ca.pem"
        self.ca_file.write_text(compass.ca_pem)
        self._agents: list[AgentProcess] = []

    @classmethod
    @contextmanager
    def local(cls, directory: Path, *, apiserver_flags: Sequence[str] = ()) -> Iterator[Self]:
        """A world of its own on this machine, ended with the block."""
        with ControlPlane(apiserver_flags=apiserver_flags) as control_plane, MockCompass() as compass:
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

    def agent(
        self,
        name: str = "agent",
        *,
        kubeconfig: Path | None = None,
        command: Sequence[str] = AGENT_COMMAND,
        **settings: str,
    ) -> AgentProcess:
        """A new agent, not started; its log is NAME.log in the world's directory."""
        agent = AgentProcess(
            kubeconfig=kubeconfig or self.kubeconfig,
            environment=self.environment(**settings),
            log=self.directory / f"{name}.log",
            command=command,
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
        """Writes the configuration, over the one that is there; one with a fresh token when none is given."""
        super().configure(self.configuration() if data is None else data, secret=secret)

    def reset(self) -> None:
        """Takes everything away that an agent or a test has left behind."""
        for agent in self._agents:
            agent.close()
        self._agents.clear()
        self.remove_all(CONFIGURATION.namespace, CLUSTER_SECRET.namespace, CA_SECRET.namespace)

    def agent_logs(self) -> str:
        return "\n".join(agent.log.read_text(errors="replace")[-3000:] for agent in self._agents)
