"""Connection and renewal reconciler on virtual time, over an API server and a Connector in memory.

``settle`` runs them as their controllers would: again after each write that they would hear of, and at the end of each
delay that they ask for while the clock moves.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from prometheus_client import CollectorRegistry

from controller.backoff import Backoff
from controller.connection.configured import Configured
from controller.connection.credentials import CredentialsStore
from controller.connection.health import Health
from controller.connection.reconciler import ConnectionReconciler
from controller.connection.renew import RenewalPolicy, RenewalReconciler
from controller.connection.store import ConnectionStore
from controller.metrics import AgentMetrics
from controller.resources import COMPASS_CONNECTION, CONFIG_MAP, CONNECTION_NAME, SECRET
from controller.settings import ObjectName
from informers import MutationCache
from informers.errors import ApiError
from tests.support.connector_border import CONNECTOR_URL, RUNTIME, TENANT, ConnectorBorder
from tests.support.object_store import ObjectStore
from workqueue.testing import VirtualClock

CLUSTER = ObjectName("kyma-system", "cluster-client-certificates")
CA = ObjectName("istio-system", "ca-certificates")
CONFIGURATION = ObjectName("kyma-system", "compass-agent-configuration")
SYNC_PERIOD = 180.0
_MAX_ROUNDS = 20  # of reconciles without time passing: more are a loop

_KEYS: list[Any] = []

Object = dict[str, Any]


def pooled_key() -> Any:
    """One of a few keys, in turn, and no longer than OpenSSL demands: they take longer than all the rest of a test."""
    if len(_KEYS) < 3:
        _KEYS.append(rsa.generate_private_key(public_exponent=65537, key_size=1024))
    else:
        _KEYS.append(_KEYS.pop(0))
    return _KEYS[-1]


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
    """``validity`` of the certificates: hours, since every reconcile of every day of it costs a millisecond."""

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
        self.policy = RenewalPolicy(threshold=threshold, minimal_sync_time=minimal_sync_time, sync_period=SYNC_PERIOD)
        self.reconciles = 0
        self.restart()

    def restart(self) -> None:
        """A new process: everything in memory is gone."""
        server, clock = self.server, self.clock
        self.recorder = Recorder()
        self.health = Health()
        self.connections = ConnectionStore(
            server,  # type: ignore[arg-type]
            MutationCache(server.lister(COMPASS_CONNECTION), clock=clock),
            clock=clock,
        )
        secrets = server.lister(SECRET)
        self.credentials = CredentialsStore(
            server,  # type: ignore[arg-type]
            cluster_secrets=MutationCache(secrets, clock=clock),
            cluster_name=CLUSTER,
            ca_secrets=MutationCache(secrets, clock=clock),
            ca_name=CA,
        )
        metrics = AgentMetrics(CollectorRegistry())

        def backoff() -> Backoff:
            return Backoff(cap=SYNC_PERIOD, clock=clock, random=random.Random(1).random)

        self.connection_reconciler = ConnectionReconciler(
            connections=self.connections,
            credentials=self.credentials,
            configured=Configured(
                server,  # type: ignore[arg-type]
                secrets=secrets,
                secret_name=CONFIGURATION,
                config_maps=server.lister(CONFIG_MAP),
                config_map_name=CONFIGURATION,
            ),
            sessions=self.connector,
            health=self.health,
            backoff=backoff(),
            recorder=self.recorder,  # type: ignore[arg-type]
            metrics=metrics,
            clock=clock,
            new_key=pooled_key,
        )
        self.renewal_reconciler = RenewalReconciler(
            policy=self.policy,
            connections=self.connections,
            credentials=self.credentials,
            sessions=self.connector,
            health=self.health,
            backoff=backoff(),
            recorder=self.recorder,  # type: ignore[arg-type]
            metrics=metrics,
            clock=clock,
            random=lambda: 0.0,
            new_key=pooled_key,
        )
        self._due: dict[str, float] = {"connection": 0.0, "renewal": 0.0}

    # --- time ---

    def settle(self) -> None:
        """Reconcile until nothing more is due at this moment."""
        self._due = dict.fromkeys(self._due, self.clock.monotonic())
        self._work()

    def run(self, seconds: float) -> None:
        """Let that much time pass, reconciling whenever it is asked for."""
        self.settle()
        end = self.clock.monotonic() + seconds
        while (due := min(self._due.values())) <= end:
            self.clock.advance(max(0.0, due - self.clock.monotonic()))
            self._work()
        self.clock.advance(end - self.clock.monotonic())

    def _work(self) -> None:
        for _ in range(_MAX_ROUNDS):
            now = self.clock.monotonic()
            ready = [name for name, due in self._due.items() if due <= now]
            if not ready:
                return
            for name in ready:
                self._reconcile(name)
        raise AssertionError(f"a loop: {_MAX_ROUNDS} rounds of reconciles without any time passing")

    def _reconcile(self, name: str) -> None:
        self.reconciles += 1
        before = sum(self.server.writes.values())
        reconcile: Callable[[str], Any] = getattr(self, f"{name}_reconciler").reconcile
        try:
            after = reconcile(CONNECTION_NAME).requeue_after
        except ApiError:
            after = 1.0  # the queue's rate limiter has its own tests
        now = self.clock.monotonic()
        self._due[name] = float("inf") if after is None else now + after
        if sum(self.server.writes.values()) != before:
            self._due = dict.fromkeys(self._due, now)  # each hears of each write

    # --- the world ---

    def configure(self, *, kind: str = "ConfigMap", **changes: str) -> dict[str, str]:
        """A configuration with a fresh token, in which ``changes`` are made."""
        data = {
            "CONNECTOR_URL": CONNECTOR_URL,
            "RUNTIME_ID": RUNTIME,
            "TENANT": TENANT,
            "TOKEN": self.connector.token(),
        } | changes
        resource = CONFIG_MAP if kind == "ConfigMap" else SECRET
        metadata = {"name": CONFIGURATION.name, "namespace": CONFIGURATION.namespace}
        self.server.put(resource, {"metadata": metadata, "data": data})
        return data

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

    def fingerprint(self) -> str:
        return self.credentials.load().fingerprint
