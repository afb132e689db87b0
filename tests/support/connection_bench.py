"""The connection's reconciler on virtual time, over an API server and a Connector in memory.

`settle` runs it as its controller would: again after each write that triggers it, and at the end of each delay
that it asks for while the clock moves.
"""

import base64
import random
from collections.abc import Mapping
from typing import Any

import orjson
from prometheus_client import CollectorRegistry

from controller.compass.errors import Refused
from controller.connection.backoff import Backoff, Pauses
from controller.connection.clients import Dependencies
from controller.connection.configuration import ConfigurationReader
from controller.connection.credentials import CredentialsStore, Registration
from controller.connection.observations import CompassService, Health
from controller.connection.reconciler import ConnectionReconciler
from controller.connection.store import ConnectionStore
from controller.metrics import AgentMetrics
from controller.resources import COMPASS_CONNECTION, CONFIG_MAP, CONNECTION_NAME, SECRET
from controller.settings import ObjectName, Settings
from e2e.cluster import encoded
from informers import MutationCache
from informers.errors import ApiError, NotFound
from tests.clock import VirtualClock
from tests.support.agent_thread import small_key
from tests.support.compass_border import CONNECTOR_URL, RUNTIME, TENANT, ConnectorBorder
from tests.support.object_store import ObjectStore, copied

CLUSTER = ObjectName("kyma-system", "cluster-client-certificates")
CA = ObjectName("istio-system", "ca-certificates")
CONFIGURATION = ObjectName("kyma-system", "compass-agent-configuration")
SYNC_PERIOD = 180.0
PAIRING = {"connectorUrl": CONNECTOR_URL, "runtimeId": RUNTIME, "tenant": TENANT}
MAX_ROUNDS = 20  # of reconciles without time passing: more are a loop


Object = dict[str, Any]


class Recorder:
    """What EventRecorder would have been told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []

    def event(self, _obj: Mapping[str, Any], kind: str, reason: str, message: str) -> None:
        self.events.append((kind, reason, message))

    @property
    def reasons(self) -> list[str]:
        return [reason for _, reason, _ in self.events]


class Bench:
    """`validity` of the certificates: hours, since every reconcile of every day of it costs a millisecond."""

    def __init__(
        self,
        *,
        subresource: bool = True,
        threshold: float = 0.3,
        minimal_sync_time: float = 15.0,
        validity: float = 10 * 3600.0,
    ) -> None:
        self.clock = VirtualClock()
        self.server = ObjectStore(subresource=subresource)
        self.connector = ConnectorBorder(clock=self.clock.time)
        self.connector.settings.certificate_validity = validity
        self.settings = Settings(
            renewal_threshold=threshold, minimal_sync_time=minimal_sync_time, sync_period=SYNC_PERIOD
        )
        self.reconciles = 0
        self.restart()

    def restart(self) -> None:
        """A new process: everything in memory is gone."""
        server, clock = self.server, self.clock
        self.recorder = Recorder()
        self.registry = CollectorRegistry()
        self.health = Health(clock)
        self.connections = ConnectionStore(
            server,  # type: ignore[arg-type]
            MutationCache(server.indexer(COMPASS_CONNECTION), clock=clock),
            clock=clock,
        )
        secrets = server.indexer(SECRET)
        self.credentials = CredentialsStore(
            server,  # type: ignore[arg-type]
            cluster_secrets=MutationCache(secrets, clock=clock),
            cluster_name=CLUSTER,
            ca_secrets=MutationCache(secrets, clock=clock),
            ca_name=CA,
        )

        self.configurations = ConfigurationReader(
            server,  # type: ignore[arg-type]
            secrets=secrets,
            config_maps=server.indexer(CONFIG_MAP),
            name=CONFIGURATION,
        )

        def backoff() -> Backoff:
            return Backoff(cap=SYNC_PERIOD, clock=clock, random=random.Random(1).random)

        self.reconciler = ConnectionReconciler(
            Dependencies(
                connections=self.connections,
                credentials=self.credentials,
                clients=self.connector,
                clock=clock,
                new_key=small_key,
            ),
            configurations=self.configurations,
            health=self.health,
            settings=self.settings,
            recorder=self.recorder,  # type: ignore[arg-type]
            pauses=Pauses(pairing=backoff(), connector=backoff(), gateway=backoff(), internal=backoff()),
            metrics=AgentMetrics(self.registry),
            jitter=lambda: 0.0,
        )
        self.health.subscribe(self._wake)
        self.due = 0.0

    # --- time ---

    def settle(self) -> None:
        """Reconcile until nothing more is due at this moment."""
        self._wake()
        self.work()

    def run(self, seconds: float) -> None:
        """Let that much time pass, reconciling whenever it is asked for."""
        self.settle()
        end = self.clock.monotonic() + seconds
        while self.next_due <= end:
            self.clock.advance(max(0.0, self.next_due - self.clock.monotonic()))
            self.work()
        self.clock.advance(max(0.0, end - self.clock.monotonic()))

    @property
    def next_due(self) -> float:
        return self.due

    def work(self) -> None:
        """Reconcile as long as it is due at this moment."""
        for _ in range(MAX_ROUNDS):
            if self.due > self.clock.monotonic():
                return
            self._reconcile()
        raise AssertionError(f"a loop: {MAX_ROUNDS} rounds of reconciles without any time passing")

    def _wake(self) -> None:
        self.due = self.clock.monotonic()

    def _reconcile(self) -> None:
        self.reconciles += 1
        before = self.server.writes.total()
        self.due = float("inf")
        try:
            after = self.reconciler.reconcile(CONNECTION_NAME).requeue_after
        except ApiError:
            after = 1.0  # the queue's rate limiter has its own tests
        if after is not None:
            self.due = min(self.due, self.clock.monotonic() + after)
        if self.server.writes.total() != before:
            self._wake()  # each write triggers it

    # --- what people and Compass do ---

    def apply(self, **spec: Any) -> None:
        """As `kubectl apply`: create the CompassConnection with this, or change it."""
        try:
            self.server.edit(COMPASS_CONNECTION, CONNECTION_NAME, lambda obj: obj["spec"].update(spec))
        except NotFound:
            self.server.put(COMPASS_CONNECTION, {"metadata": {"name": CONNECTION_NAME}, "spec": spec})

    def apply_pairing(self, **changes: str) -> None:
        """A `spec.pairing`, complete but for the token."""
        self.apply(pairing={**PAIRING, **changes})

    def refresh(self) -> None:
        self.apply(refreshCredentialsNow=True)

    def delete_connection(self) -> None:
        self.server.delete(COMPASS_CONNECTION, CONNECTION_NAME)

    def suspect(self) -> None:
        """The Director refuses, and the sync reports it."""
        refusal = Refused("insufficient scopes", status=200, code=23)
        self.health.refused(CompassService.DIRECTOR, self.fingerprint(), refusal)

    def secret(self, name: ObjectName = CLUSTER) -> Object:
        """A copy."""
        return copied(self.server.get(SECRET, name.name, namespace=name.namespace))

    def put_secret(self, data: Mapping[str, str], name: ObjectName = CLUSTER) -> None:
        """One with this data and no more, in place of the one that there is."""
        metadata = {"name": name.name, "namespace": name.namespace}
        self.server.put(SECRET, {"metadata": metadata, "data": dict(data)})

    def delete_secret(self, name: ObjectName = CLUSTER) -> None:
        self.server.delete(SECRET, name.name, namespace=name.namespace)

    def edit_secret(self, key: str, /, **values: object) -> None:
        """Change the JSON under a key of the client's Secret: `connection` or `pairing`."""

        def edit(obj: Object) -> None:
            stored = orjson.loads(base64.b64decode(obj["data"][key])) | values
            obj["data"][key] = base64.b64encode(orjson.dumps(stored)).decode()

        self.server.edit(SECRET, CLUSTER.name, edit, namespace=CLUSTER.namespace)

    def configure(self, *, kind: str = "ConfigMap", **changes: str) -> dict[str, str]:
        """A configuration with a fresh token, in which `changes` are made."""
        data = {
            "CONNECTOR_URL": CONNECTOR_URL,
            "RUNTIME_ID": RUNTIME,
            "TENANT": TENANT,
            "TOKEN": self.connector.token(),
        } | changes
        self.put_configuration(kind, data)
        return data

    def put_configuration(self, kind: str, data: Mapping[str, str]) -> None:
        """This ConfigMap or Secret."""
        if kind == "Secret":
            self.put_secret({key: encoded(value) for key, value in data.items()}, CONFIGURATION)
            return
        metadata = {"name": CONFIGURATION.name, "namespace": CONFIGURATION.namespace}
        self.server.put(CONFIG_MAP, {"metadata": metadata, "data": dict(data)})

    def unconfigure(self) -> None:
        """Delete the ConfigMap."""
        self.server.delete(CONFIG_MAP, CONFIGURATION.name, namespace=CONFIGURATION.namespace)

    def paired(self) -> "Bench":
        self.configure()
        self.settle()
        assert self.state == "Connected", self.error
        return self

    @property
    def connection(self) -> Object:
        return self.server.get(COMPASS_CONNECTION, CONNECTION_NAME)

    @property
    def state(self) -> str:
        return str(self.connection.get("status", {}).get("connectionState"))

    @property
    def error(self) -> str:
        return str(self.connection["status"]["connectionStatus"].get("error", ""))

    @property
    def warning(self) -> str:
        return str(self.connection["status"]["connectionStatus"].get("warning", ""))

    def condition(self, kind: str) -> Object | None:
        return next((c for c in self.connection["status"].get("conditions", ()) if c["type"] == kind), None)

    @property
    def signed(self) -> int:
        """The number of certificates."""
        return len(self.connector.state.certificates())

    @property
    def registration(self) -> Registration:
        registration = self.credentials.load().registration
        assert registration is not None
        return registration

    def fingerprint(self) -> str:
        return self.credentials.load().fingerprint

    def assert_connected(self) -> None:
        assert (self.state, self.error) == ("Connected", "")

    def is_unused(self, token: str) -> bool:
        """Whether it works; this uses it up."""
        return self.connector.state.spend_token(token) is not None
