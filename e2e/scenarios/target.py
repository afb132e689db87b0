"""What a scenario acts on: a cluster with two replicas of the agent in it, and a Compass.

    LocalTarget      kube-apiserver and etcd of this machine; the agents are processes
    DeployedTarget   a cluster with nodes; the agents are Pods of config/default, from the image

A scenario uses nothing but what is here, so that it holds for both.
"""

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from controller.resources import APPLICATION, COMPASS_CONNECTION, CONFIG_MAP, CONNECTION_NAME, SECRET
from controller.settings import ObjectName
from e2e.cluster import CLUSTER_SECRET, CONFIGURATION, LEASE, Cluster, Object
from e2e.mock_compass.examples import landscape
from e2e.scenarios.compass import Compass
from informers import ApiError, NotFound

TAKE_OVER_SECONDS = 60.0
"""A lease expires after 10 s; the rest is for a busy machine to start a process or a Pod."""

ERP = "mp-harbour-logistics-erp"
"""The Application of the example landscape that scenarios change."""
ERP_IN_COMPASS = next(one for one in landscape() if one["name"] == "Harbour Logistics ERP")

# After an outage an informer waits up to a minute until it lists again, and a busy machine takes its time.
_TIMEOUT = 120.0
_KUBECTL_SECONDS = 300.0

T = TypeVar("T")


class Target(Cluster, ABC):
    """Everything is up when it is made, and `close` takes it away again."""

    compass: Compass
    ca_secret = ObjectName("istio-system", "kyma-gateway-certs-cacert")  # as config/manager sets it
    kubectl_binary: Path
    kubeconfig: Path
    go_agent_image: str | None = None
    """That of a stand-in for the Go agent; None where the image of its manifests will do."""
    has_pods: bool
    """Whether the agents are Pods, and objects without an owner are collected."""

    @abstractmethod
    def close(self) -> None:
        """Take everything away that was brought."""

    # --- the agents ---

    @abstractmethod
    def start_agents(self) -> None:
        """Bring two replicas up unless they are; returns when both are ready."""

    @abstractmethod
    def stop_agents(self) -> None:
        """End them all in order; returns when they are gone."""

    @abstractmethod
    def replicas(self) -> set[str]:
        """The names of those that run."""

    @abstractmethod
    def ending(self) -> set[str]:
        """The names of those that got a signal to end, and have not ended yet."""

    @abstractmethod
    def replica_of(self, identity: str) -> str | None:
        """Whose identity that is, of those that run."""

    @abstractmethod
    def kill(self, replica: str) -> None:
        """SIGKILL. It is started again, as Kubernetes does."""

    @abstractmethod
    def delete(self, replica: str) -> None:
        """As `kubectl delete pod` does: it ends in order, and another one takes its place."""

    @abstractmethod
    def lose(self, replica: str) -> None:
        """It is gone without a word, as with its node: it releases no lease, and its name does not come back."""

    @abstractmethod
    def frozen(self, replica: str) -> AbstractContextManager[None]:
        """Inside the block the replica stands still (SIGSTOP); after it, it goes on where it was."""

    @abstractmethod
    def another_image(self) -> str:
        """Another name of the image of the agent, known where a Deployment runs."""

    @abstractmethod
    def image_labels(self) -> Mapping[str, str]:
        """Of the image that the agents run from; {} where there is none, or they are unknown."""

    @abstractmethod
    def ask(self, replica: str, path: str) -> str:
        """What its servers answer: "metrics", "readyz", "readyz/permissions"; or why there is no answer."""

    @abstractmethod
    def roll(self) -> None:
        """Replace all replicas as a rolling update does; returns when it is done."""

    @abstractmethod
    def deployments(self) -> AbstractContextManager[None]:
        """Inside the block the Deployment of the agent is what runs. Outside it may be ignored."""

    @abstractmethod
    def uninstall(self) -> None:
        """Take the agent away, and nothing else. `start_agents` brings it back."""

    @abstractmethod
    def command(self, *arguments: str) -> str:
        """Run a command of the agent where an agent runs, with its settings; gives what it prints."""

    @abstractmethod
    def logs(self) -> dict[str, str]:
        """All that replicas have written, by name; those that are gone as far as it is still known."""

    @abstractmethod
    def process_status(self) -> dict[str, str]:
        """/proc/PID/status of the replicas that run, by a name that a restart changes."""

    # --- what may happen to the API server ---

    def node_missing(self) -> str:
        """Why nothing can be done where the processes run (`api_server_outage`, `frozen`); "" where it can."""
        return ""

    @abstractmethod
    def api_server_outage(self) -> AbstractContextManager[None]:
        """The API server is gone inside the block, and answers again after it."""

    # --- made of these ---

    def wait_for(self, what: str, condition: Callable[[], T], *, timeout: float = _TIMEOUT) -> T:
        """As Cluster.wait_for, with more patience."""
        return super().wait_for(what, condition, timeout=timeout)

    def agent_logs(self) -> str:
        try:
            return "\n".join(f"--- {name}\n{text[-3000:]}" for name, text in self.logs().items())
        except (CommandFailed, ApiError) as error:
            return f"the logs cannot be read: {error}"

    def wait_for_state(self, *states: str, timeout: float = _TIMEOUT) -> str:
        return super().wait_for_state(*states, timeout=timeout)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What a kubectl command prints; raises CalledProcessError, with what it said in `stderr`."""
        return run([str(self.kubectl_binary), "--kubeconfig", str(self.kubeconfig), *arguments], stdin=stdin)

    def lease(self) -> Object:
        """The spec of the lease; {} while there is none."""
        try:
            spec: Object = self.client.request("GET", LEASE).get("spec") or {}
        except NotFound:
            return {}
        return spec

    def lease_holder(self) -> str:
        """The identity in the lease; "" while there is none."""
        holder: str = self.lease().get("holderIdentity") or ""
        return holder

    def leader(self) -> str | None:
        """The replica that holds the lease; None when there is none, or one that has ended."""
        holder = self.lease_holder()
        return self.replica_of(holder) if holder else None

    def wait_for_leader(self, *, other_than: str | None = None) -> str:
        """A leader that runs; with `other_than`, a lease held under another identity than that."""

        def leads() -> str | None:
            holder = self.lease_holder()
            return self.replica_of(holder) if holder and holder != other_than else None

        return str(self.wait_for("a leader", leads, timeout=TAKE_OVER_SECONDS))

    def wait_for_landscape(self) -> dict[str, Object]:
        """Synchronized, and the Applications are those of the example landscape; gives them."""
        wanted = sorted(application.get("description") or "Description not provided" for application in landscape())

        def there() -> dict[str, Object]:
            # A scenario before this one may have left others, or the same ones changed, and the state is of then.
            found = self.applications()
            as_wanted = sorted(str(application["spec"].get("description")) for application in found.values()) == wanted
            return found if as_wanted and self.state() == "Synchronized" else {}

        return self.wait_for("the example landscape", there)

    def change_erp(self, description: str) -> None:
        """In Compass."""
        self.compass.change(ERP_IN_COMPASS["id"], description=description)

    def wait_for_erp(self, description: str) -> None:
        """Until the Application has that description."""
        self.wait_for("the change", lambda: self.applications()[ERP]["spec"]["description"] == description)

    def condition(self, kind: str) -> str:
        """The status of a condition of the CompassConnection; "" without one."""
        conditions = ((self.connection() or {}).get("status") or {}).get("conditions") or []
        return next((str(one["status"]) for one in conditions if one["type"] == kind), "")

    def collect_secrets(self) -> None:
        """What the garbage collector does with the Secrets of Applications that are gone, where there is none."""
        if not self.has_pods:
            for name in self.secrets():
                self.remove(SECRET, name, "kyma-system")

    def disconnect(self) -> None:
        """From whatever a scenario has left behind to a cluster that was never connected, and no agent in it."""
        self.stop_agents()
        for resource in (SECRET, CONFIG_MAP):
            self.remove(resource, CONFIGURATION.name, CONFIGURATION.namespace)
        for name in (CLUSTER_SECRET, self.ca_secret):
            self.remove(SECRET, name.name, name.namespace)
        for application in self.applications():
            self.remove(APPLICATION, application)
        self.remove(COMPASS_CONNECTION, CONNECTION_NAME)

    def connect(self) -> None:
        """From whatever a scenario has left behind to a paired cluster with the example landscape, all synchronised."""
        self.compass.reset()
        self.remove(SECRET, CONFIGURATION.name, CONFIGURATION.namespace)  # it would win over the ConfigMap
        self.start_agents()
        paired = (self.secret(CLUSTER_SECRET) or {}).get("crt") and self.state() != "ConnectionFailed"
        # A connected agent ignores the ConfigMap; the commands for a new token read the rest of it.
        if not paired or not self.has_config_map(CONFIGURATION):
            self.configure(self.compass.configuration())
        self.wait_for_leader()
        self.wait_for_landscape()


def run(command: Sequence[str], *, stdin: str | None = None) -> str:
    """What a command prints; raises CalledProcessError, with what it said in `stderr` also in its text."""
    done = subprocess.run(
        command, check=False, input=stdin or "", capture_output=True, text=True, timeout=_KUBECTL_SECONDS
    )
    if done.returncode:
        raise CommandFailed(done.returncode, list(command), done.stdout, done.stderr)
    return done.stdout


class CommandFailed(subprocess.CalledProcessError):
    """CalledProcessError that says what the command said."""

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.stdout}{self.stderr}"
