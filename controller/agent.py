"""Builds the agent: informers trigger controllers, controllers run reconcilers, the manager runs them all.

Each component is documented in its own module. Only the command line imports this one.
"""

import random
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from controller.applications.conversion import SECRETS_SELECTOR
from controller.applications.objects import CacheTransform
from controller.applications.progress import Progress
from controller.applications.reconciler import ApplicationReconciler
from controller.applications.secrets import BY_APPLICATION, owning_applications, reserved_secrets
from controller.applications.sync import SyncReconciler
from controller.cluster_metrics import ClusterMetrics
from controller.compass import certificates
from controller.compass.limits import Limits
from controller.connection.backoff import Backoff, Pauses
from controller.connection.clients import CompassClients, Dependencies
from controller.connection.configuration import ConfigurationReader
from controller.connection.credentials import CredentialsStore
from controller.connection.observations import Health
from controller.connection.reconciler import ConnectionReconciler
from controller.connection.store import ConnectionStore
from controller.metrics import AgentMetrics
from controller.permissions import LONGEST_RETRY_SECONDS, Permissions, Report
from controller.resources import APPLICATION, COMPASS_CONNECTION, COMPONENT, CONFIG_MAP, CONNECTION_NAME, SECRET
from controller.runtime import Controller, LeaderElectionConfig, Manager, Metrics, Reconcile
from controller.runtime.events import EventRecorder
from controller.runtime.memory import memory_limit
from controller.settings import ObjectName, Settings
from informers import Client, ListerWatcher, MutationCache, Resource, SharedInformer, Stop
from informers.indexer import IndexFunction
from workqueue import Clock, RealClock

_APPLICATION_WORKERS = 8  # the API server answers a write within milliseconds; more threads would wait for each other

Object = dict[str, Any]


def build(
    settings: Settings,
    client: Client,
    metrics: Metrics,
    *,
    permissions: Permissions | None = None,
    clock: Clock | None = None,
    new_key: Callable[[int], RSAPrivateKey] = certificates.new_key,
) -> Manager:
    """A manager that runs the whole agent. Nothing is sent before its `run`.

    `permissions` gets the answers of the client's API server. `new_key` creates client keys of that many bits.
    """
    clock = clock or RealClock()
    manager = Manager(
        client,
        clock=clock,
        leader_election=LeaderElectionConfig(
            name=COMPONENT, namespace=settings.leader_election_namespace, pod_uid=settings.pod_uid
        )
        if settings.leader_election
        else None,
        health_port=settings.health_port or None,
        metrics_port=settings.metrics_port or None,
        metrics=metrics,
    )
    process = Process(
        settings,
        client,
        clock=clock,
        metrics=metrics,
        agent_metrics=AgentMetrics(metrics.registry, leads=manager.elected.is_set),
        permissions=permissions or Permissions(clock),
        new_key=new_key,
    )
    for cache in process.caches:
        manager.add_informer(cache)
    report = Report(process.permissions, process.connection_store(client), clock=clock, leads=manager.elected.is_set)
    manager.add_runnable("permissions", report.run, leader_only=False)
    manager.add_ready_check("permissions", process.permissions.check)
    manager.add_runnable("events", process.recorder.run, leader_only=False)
    cluster_metrics = ClusterMetrics(client, interval=settings.metrics_logging_interval, clock=clock)
    manager.add_runnable("cluster-metrics", cluster_metrics.run, leader_only=True)
    manager.add_controllers(lambda client: _controllers(Context(process, client)))
    return manager


def _controllers(context: "Context") -> Iterable[Controller[str]]:
    """The controllers of one term of leadership, with all their memory."""
    context.process.agent_metrics.term_begins()
    applications, workers = _applications(context)
    return _connection(context), _sync(context, applications, workers), workers


def _connection(context: "Context") -> Controller[str]:
    process, settings = context.process, context.process.settings
    reconciler = ConnectionReconciler(
        Dependencies(
            connections=context.connections,
            credentials=context.credentials,
            clients=context.clients,
            clock=process.clock,
            new_key=process.new_key,
        ),
        configurations=ConfigurationReader(
            context.client,
            secrets=process.configuration_secret.indexer,
            config_maps=process.configuration_map.indexer,
            name=settings.configuration,
        ),
        health=context.health,
        settings=settings,
        recorder=process.recorder,
        pauses=Pauses(
            pairing=context.backoff(),
            connector=context.backoff(),
            gateway=context.backoff(),
            internal=context.backoff(),
        ),
        metrics=process.agent_metrics,
        jitter=random.random,
    )
    controller = process.controller("connection", COMPASS_CONNECTION, reconciler.reconcile, retry_cap=context.retry_cap)
    controller.watches(process.connections, _name_of)
    for cache in (process.configuration_map, process.configuration_secret, process.cluster_secret, process.ca_secret):
        controller.watches(cache, _connection_name)
    context.health.subscribe(lambda: controller.enqueue(CONNECTION_NAME))
    controller.enqueue(CONNECTION_NAME)  # there may be no object whose event triggers it; it creates the object then
    return controller


def _sync(context: "Context", applications: ApplicationReconciler, workers: Controller[str]) -> Controller[str]:
    """`applications` and its `workers` apply the results."""
    process, settings = context.process, context.process.settings
    reconciler = SyncReconciler(
        settings=settings,
        connections=context.connections,
        credentials=context.credentials,
        clients=context.clients,
        applications=applications,
        workers=workers,
        progress=context.progress,
        health=context.health,
        backoff=context.backoff(),
        internal_backoff=context.backoff(),
        recorder=process.recorder,
        metrics=process.agent_metrics,
        clock=process.clock,
        jitter=random.random,
    )
    controller = process.controller("sync", COMPASS_CONNECTION, reconciler.reconcile, retry_cap=context.retry_cap)
    controller.watches(process.connections, _served_name)
    controller.watches(process.cluster_secret, _connection_name)
    context.progress.subscribe(lambda: controller.enqueue(CONNECTION_NAME))
    context.health.subscribe(lambda: controller.enqueue(CONNECTION_NAME))
    return controller


def _applications(context: "Context") -> tuple[ApplicationReconciler, Controller[str]]:
    process = context.process
    reconciler = ApplicationReconciler(
        context.client,
        applications=process.applications.indexer,
        secrets=process.application_secrets.indexer,
        namespace=process.settings.integration_namespace,
        reserved=reserved_secrets(process.settings),
        progress=context.progress,
        recorder=process.recorder,
        metrics=process.agent_metrics,
        clock=process.clock,
    )
    controller = process.controller(
        "application",
        APPLICATION,
        reconciler.reconcile,
        retry_cap=LONGEST_RETRY_SECONDS,  # the cause may be a quota or a policy, which people change within minutes
        workers=_APPLICATION_WORKERS,
    )
    controller.watches(process.applications, _name_of, predicate=reconciler.application_may_need_work)
    controller.watches(process.application_secrets, owning_applications, predicate=reconciler.secret_may_need_work)
    progress = weakref.ref(context.progress)  # the cache lives longer than the term
    process.application_transform.known = lambda name: (
        current.known_fields(name) if (current := progress()) is not None else {}
    )
    return reconciler, controller


def _name_of(obj: Object) -> Iterable[str]:
    return (obj["metadata"]["name"],)


def _served_name(obj: Object) -> Iterable[str]:
    """The key of the one CompassConnection that is served; no key for others."""
    return (CONNECTION_NAME,) if obj["metadata"]["name"] == CONNECTION_NAME else ()


def _connection_name(_: Object) -> Iterable[str]:
    """The key of the CompassConnection, for an object that belongs to it."""
    return (CONNECTION_NAME,)


class Process:
    """The objects that exist as long as the process, above all the caches of what the agent reads.

    Single Secrets are watched by name, so RBAC can be narrow.
    """

    def __init__(
        self,
        settings: Settings,
        client: Client,
        *,
        clock: Clock,
        metrics: Metrics,
        agent_metrics: AgentMetrics,
        permissions: Permissions,
        new_key: Callable[[int], RSAPrivateKey],
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.agent_metrics = agent_metrics
        self.permissions = permissions
        self.new_key = new_key
        self.recorder = EventRecorder(client, COMPONENT, clock=clock)
        self._client = client
        self._metrics = metrics
        self.caches: list[SharedInformer] = []
        self.connections = self._cache("compassconnections", COMPASS_CONNECTION)
        self.configuration_map = self._cache("configuration-configmap", CONFIG_MAP, settings.configuration)
        self.configuration_secret = self._cache("configuration-secret", SECRET, settings.configuration)
        self.cluster_secret = self._cache("cluster-certificates-secret", SECRET, settings.cluster_certificates_secret)
        self.ca_secret = self._cache("ca-certificates-secret", SECRET, settings.ca_certificates_secret)
        self.application_transform = CacheTransform()
        self.applications = self._cache("applications", APPLICATION, transform=self.application_transform)
        self.application_secrets = self._cache(
            "application-secrets",
            SECRET,
            namespace=settings.integration_namespace,
            label_selector=SECRETS_SELECTOR,
            indexers={BY_APPLICATION: owning_applications},
        )

    def _cache(
        self,
        name: str,
        resource: Resource,
        one: ObjectName | None = None,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        transform: CacheTransform | None = None,
        indexers: Mapping[str, IndexFunction] | None = None,
    ) -> SharedInformer:
        source = ListerWatcher(
            self._client,
            resource,
            namespace=one.namespace if one else namespace,
            field_selector=f"metadata.name={one.name}" if one else "",
            label_selector=label_selector,
        )
        cache = SharedInformer(
            source,
            name=name,
            indexers=indexers,
            transform=transform or CacheTransform(),
            clock=self.clock,
            metrics=self._metrics,
        )
        self.caches.append(cache)
        return cache

    def connection_store(self, client: Client) -> ConnectionStore:
        """A store that writes with this client."""
        return ConnectionStore(
            client, self._with_own_writes(self.connections), clock=self.clock, overlay=self.permissions.overlay
        )

    def credentials_store(self, client: Client) -> CredentialsStore:
        """A store that writes with this client."""
        return CredentialsStore(
            client,
            cluster_secrets=self._with_own_writes(self.cluster_secret),
            cluster_name=self.settings.cluster_certificates_secret,
            ca_secrets=self._with_own_writes(self.ca_secret),
            ca_name=self.settings.ca_certificates_secret,
        )

    def _with_own_writes(self, cache: SharedInformer) -> MutationCache:
        return MutationCache(cache.indexer, clock=self.clock)

    def clients(self, stop: Stop) -> CompassClients:
        """Connections to Compass, which end with `stop`."""
        settings = self.settings
        clients = CompassClients(
            ca_file=settings.compass_ca_file,
            skip_verify=settings.skip_compass_tls_verify,
            limits=Limits(applications=settings.max_applications, memory_limit=memory_limit()),
            log_queries=settings.query_logging,
            observe=self.agent_metrics.compass_call,
            stop=stop,
        )
        stop.add(clients.close)
        return clients

    def controller(
        self, name: str, resource: Resource, reconcile: Reconcile[str], *, retry_cap: float, workers: int = 1
    ) -> Controller[str]:
        """A controller that retries a failed key after at most `retry_cap` seconds."""
        return Controller(
            name,
            reconcile,
            workers=workers,
            retry_cap=retry_cap,
            clock=self.clock,
            metrics=self._metrics,
            kind=resource.kind,
        )


class Context:
    """The objects that exist as long as one term of leadership, so no term uses the memory of an earlier one."""

    def __init__(self, process: Process, client: Client) -> None:
        """`client`: its requests are refused after the term."""
        self.process = process
        self.client = client
        self.clients = process.clients(client.stop)
        self.connections = process.connection_store(client)
        self.credentials = process.credentials_store(client)
        self.health = Health(process.clock)
        self.progress = Progress()
        # The longest back-off, in seconds, of calls to Compass and of the queues of connection and sync.
        self.retry_cap = min(process.settings.sync_period, LONGEST_RETRY_SECONDS)

    def backoff(self) -> Backoff:
        """A new back-off for calls to Compass."""
        return Backoff(cap=self.retry_cap, clock=self.process.clock, random=random.random)
