"""The objects that the controllers share. The module of each reconciler builds its controller from these."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from controller.backoff import Backoff
from controller.connection.credentials import CredentialsStore
from controller.connection.health import Health
from controller.connection.sessions import Sessions
from controller.connection.store import ConnectionStore
from controller.metrics import AgentMetrics
from controller.model.secrets import SECRETS_SELECTOR
from controller.reconcilers.application_secrets import BY_APPLICATION, owning_applications
from controller.reconcilers.progress import Progress
from controller.resources import APPLICATION, COMPASS_CONNECTION, CONFIG_MAP, CONNECTION_NAME, SECRET
from controller.rights import RightsCheck
from controller.runtime import Metrics
from controller.runtime.events import EventRecorder
from controller.settings import ObjectName, Settings
from controller.sharing import Trimmed
from informers import Client, MutationCache, Resource, ResourceListerWatcher, SharedInformer, Stop
from workqueue import Clock, ItemExponentialFailureRateLimiter

_RETRY_BASE = 0.005  # seconds, as in controllers in Go
_COMPASS_RETRY_CAP = 300.0  # seconds between retries of calls to Compass at most, also if the sync period is longer

Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Process:
    """Objects that exist as long as the process."""

    settings: Settings
    clock: Clock
    metrics: Metrics
    agent_metrics: AgentMetrics
    recorder: EventRecorder
    sessions: Callable[[Stop], Sessions]
    caches: "Caches"
    rights: RightsCheck
    new_key: Callable[[int], RSAPrivateKey]

    def connections(self, client: Client) -> ConnectionStore:
        """A store that writes with this client."""
        cache = MutationCache(self.caches.connections.lister(), clock=self.clock)
        return ConnectionStore(client, cache, clock=self.clock, overlay=self.rights.overlay)


@dataclass(frozen=True, kw_only=True)
class Context:
    """Objects that exist as long as one term of leadership, so no term uses the memory of an earlier one."""

    process: Process
    client: Client
    sessions: Sessions
    connections: ConnectionStore
    credentials: CredentialsStore
    health: Health
    progress: Progress

    @classmethod
    def of_term(cls, process: Process, client: Client) -> "Context":
        """`client`: its writes are refused after the term."""
        caches, clock = process.caches, process.clock
        return cls(
            process=process,
            client=client,
            sessions=process.sessions(client.stop),
            connections=process.connections(client),
            credentials=caches.credentials(client),
            health=Health(clock),
            progress=Progress(clock),
        )

    @property
    def retry_cap(self) -> float:
        """The longest delay between retries of a call to Compass, in seconds."""
        return min(self.process.settings.sync_period, _COMPASS_RETRY_CAP)

    def backoff(self) -> Backoff:
        """A new back-off for calls to Compass."""
        return Backoff(cap=self.retry_cap, clock=self.process.clock, random=random.random)


def rate_limiter(cap: float) -> ItemExponentialFailureRateLimiter[str]:
    """The rate limiter for keys whose reconcile has raised."""
    return ItemExponentialFailureRateLimiter(_RETRY_BASE, cap)


# --- which key an object wakes ---


def name_of(obj: Object) -> Iterable[str]:
    return (obj["metadata"]["name"],)


def served_name(obj: Object) -> Iterable[str]:
    """The key of the one CompassConnection that is served; no key for others."""
    return (CONNECTION_NAME,) if obj["metadata"]["name"] == CONNECTION_NAME else ()


def connection_name(_: Object) -> Iterable[str]:
    """The key of the CompassConnection, for an object that belongs to it."""
    return (CONNECTION_NAME,)


class Caches:
    """The informers for all objects that the agent reads. Single Secrets are watched by name, so RBAC can be narrow."""

    def __init__(self, settings: Settings, client: Client, metrics: Metrics, clock: Clock) -> None:
        self._settings, self._client, self._metrics, self._clock = settings, client, metrics, clock
        self.connections = self._of(COMPASS_CONNECTION, "compassconnections")
        self.configuration_map = self._one(CONFIG_MAP, "configuration-configmap", settings.configuration_config_map)
        self.configuration_secret = self._one(SECRET, "configuration-secret", settings.configuration_secret)
        self.cluster_secret = self._one(SECRET, "cluster-certificates-secret", settings.cluster_certificates_secret)
        self.ca_secret = self._one(SECRET, "ca-certificates-secret", settings.ca_certificates_secret)
        self.applications = self._of(APPLICATION, "applications")
        self.application_secrets = SharedInformer(
            ResourceListerWatcher(
                client, SECRET, namespace=settings.integration_namespace, label_selector=SECRETS_SELECTOR
            ),
            name="application-secrets",
            indexers={BY_APPLICATION: owning_applications},
            transform=Trimmed(),
            clock=clock,
            metrics=metrics,
        )

    def all(self) -> Iterable[SharedInformer]:
        return (
            self.connections,
            self.configuration_map,
            self.configuration_secret,
            self.cluster_secret,
            self.ca_secret,
            self.applications,
            self.application_secrets,
        )

    def credentials(self, client: Client) -> CredentialsStore:
        """A store that reads from these caches and writes with this client."""
        return CredentialsStore(
            client,
            cluster_secrets=MutationCache(self.cluster_secret.lister(), clock=self._clock),
            cluster_name=self._settings.cluster_certificates_secret,
            ca_secrets=MutationCache(self.ca_secret.lister(), clock=self._clock),
            ca_name=self._settings.ca_certificates_secret,
        )

    def _of(self, resource: Resource, name: str) -> SharedInformer:
        return SharedInformer(
            ResourceListerWatcher(self._client, resource),
            name=name,
            transform=Trimmed(),
            clock=self._clock,
            metrics=self._metrics,
        )

    def _one(self, resource: Resource, name: str, wanted: ObjectName) -> SharedInformer:
        return SharedInformer(
            ResourceListerWatcher(
                self._client, resource, namespace=wanted.namespace, field_selector=f"metadata.name={wanted.name}"
            ),
            name=name,
            transform=Trimmed(),
            clock=self._clock,
            metrics=self._metrics,
        )
