"""Puts the agent together: informers feed controllers, controllers run reconcilers, the manager runs all.

This is the one place that knows every part; what a part does is told in its own module.
"""

import random
import threading
from collections.abc import Callable, Iterable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from controller.backoff import Backoff
from controller.cluster_metrics import ClusterMetrics
from controller.compass import certificates
from controller.connection.configured import Configured
from controller.connection.credentials import CredentialsStore
from controller.connection.health import Health
from controller.connection.reconciler import ConnectionReconciler
from controller.connection.renew import RenewalPolicy, RenewalReconciler
from controller.connection.sessions import Sessions
from controller.connection.store import ConnectionStore
from controller.metrics import AgentMetrics
from controller.model.secrets import SECRETS_SELECTOR
from controller.reconcilers.application import ApplicationReconciler
from controller.reconcilers.application_secrets import BY_APPLICATION, owning_applications, reserved_secrets
from controller.reconcilers.progress import Progress
from controller.reconcilers.sync import SyncReconciler
from controller.resources import APPLICATION, COMPASS_CONNECTION, COMPONENT, CONFIG_MAP, CONNECTION_NAME, SECRET
from controller.rights import RightsCheck, needed
from controller.runtime import Controller, LeaderElectionConfig, Manager, Metrics
from controller.runtime.events import EventRecorder
from controller.settings import ObjectName, Settings
from informers import Client, MutationCache, Resource, ResourceListerWatcher, SharedInformer
from workqueue import Clock, ItemExponentialFailureRateLimiter, RealClock

_APPLICATION_WORKERS = 8  # the API server answers a write in some milliseconds; more threads only wait for each other
_RETRY_BASE = 0.005
_RETRY_CAP = 300.0  # what Kubernetes refuses is often a quota or a policy, which people change within minutes
_PAIRING_RETRY_CAP = 300.0  # of a connection that Compass refuses: the cap when the sync period is longer

Object = dict[str, Any]


def build(
    settings: Settings,
    client: Client,
    metrics: Metrics,
    *,
    refused: threading.Event | None = None,
    clock: Clock | None = None,
    new_key: Callable[[], RSAPrivateKey] = certificates.new_key,
) -> Manager:
    """A manager that runs the whole agent. Nothing is sent before its ``run``.

    ``refused`` is set by whoever sees that the API server refused a request. ``new_key`` makes client keys.
    """
    clock = clock or RealClock()
    manager = Manager(
        client,
        clock=clock,
        leader_election=_leader_election(settings) if settings.leader_election else None,
        health_address=_address(settings.health_port),
        metrics_address=_address(settings.metrics_port),
        metrics=metrics,
    )
    informers = _Informers(settings, client, metrics, clock)
    for informer in informers.all():
        manager.add_informer(informer)
    rights = RightsCheck(client, needed(settings), refused=refused or threading.Event(), clock=clock)
    manager.add_early_runnable("rights", rights.run)
    manager.add_ready_check("rights", rights.check)
    recorder = EventRecorder(client, COMPONENT, clock=clock)
    manager.add_runnable("events", recorder.run, leader_only=False)
    cluster_metrics = ClusterMetrics(client, interval=settings.metrics_logging_interval, clock=clock)
    manager.add_runnable("cluster-metrics", cluster_metrics.run, leader_only=True)
    agent_metrics = AgentMetrics(metrics.registry)

    sessions = Sessions(
        ca_file=settings.compass_ca_file,
        skip_verify=settings.skip_compass_tls_verify,
        log_queries=settings.query_logging,
        observe=agent_metrics.compass_call,
    )

    def controllers(client: Client) -> Iterable[Controller[str]]:
        """Those of one term of leadership, with all that they remember: the next term begins without it."""
        connections = ConnectionStore(client, MutationCache(informers.connections.lister(), clock=clock), clock=clock)
        credentials = CredentialsStore(
            client,
            cluster_secrets=MutationCache(informers.cluster_secret.lister(), clock=clock),
            cluster_name=settings.cluster_certificates_secret,
            ca_secrets=MutationCache(informers.ca_secret.lister(), clock=clock),
            ca_name=settings.ca_certificates_secret,
        )
        configured = Configured(
            client,
            secrets=informers.configuration_secret.lister(),
            secret_name=settings.configuration_secret,
            config_maps=informers.configuration_map.lister(),
            config_map_name=settings.configuration_config_map,
        )
        health = Health()
        progress = Progress(lambda: sync.enqueue(CONNECTION_NAME))

        def backoff() -> Backoff:
            return Backoff(cap=min(settings.sync_period, _PAIRING_RETRY_CAP), clock=clock, random=random.random)

        connection: Controller[str] = Controller(
            "connection",
            ConnectionReconciler(
                connections=connections,
                credentials=credentials,
                configured=configured,
                sessions=sessions,
                health=health,
                backoff=backoff(),
                recorder=recorder,
                metrics=agent_metrics,
                clock=clock,
                new_key=new_key,
            ).reconcile,
            rate_limiter=_rate_limiter(settings.sync_period),
            clock=clock,
            metrics=metrics,
            kind=COMPASS_CONNECTION.kind,
        )
        connection.watches(informers.connections, _name)
        for informer in (
            informers.configuration_map,
            informers.configuration_secret,
            informers.cluster_secret,
            informers.ca_secret,
        ):
            connection.watches(informer, _connection_name)
        connection.enqueue(CONNECTION_NAME)  # there may be no object at all to wake it, and then it creates one

        renewal: Controller[str] = Controller(
            "renewal",
            RenewalReconciler(
                policy=RenewalPolicy(
                    threshold=settings.renewal_threshold,
                    minimal_sync_time=settings.minimal_sync_time,
                    sync_period=settings.sync_period,
                ),
                connections=connections,
                credentials=credentials,
                sessions=sessions,
                health=health,
                backoff=backoff(),
                recorder=recorder,
                metrics=agent_metrics,
                clock=clock,
                random=random.random,
                new_key=new_key,
            ).reconcile,
            rate_limiter=_rate_limiter(settings.sync_period),
            clock=clock,
            metrics=metrics,
            kind=COMPASS_CONNECTION.kind,
        )
        renewal.watches(informers.connections, _served_name)
        renewal.watches(informers.cluster_secret, _connection_name)
        renewal.watches(informers.ca_secret, _connection_name)

        applications = ApplicationReconciler(
            client,
            applications=informers.applications.lister(),
            secrets=informers.application_secrets.lister(),
            namespace=settings.integration_namespace,
            reserved=reserved_secrets(settings),
            progress=progress,
            recorder=recorder,
            metrics=agent_metrics,
            clock=clock,
        )
        application: Controller[str] = Controller(
            "application",
            applications.reconcile,
            workers=_APPLICATION_WORKERS,
            rate_limiter=_rate_limiter(_RETRY_CAP),
            clock=clock,
            metrics=metrics,
            kind=APPLICATION.kind,
        )
        application.watches(informers.applications, _name)
        application.watches(informers.application_secrets, owning_applications)

        sync: Controller[str] = Controller(
            "sync",
            SyncReconciler(
                settings=settings,
                connections=connections,
                credentials=credentials,
                sessions=sessions,
                applications=applications,
                workers=application,
                progress=progress,
                health=health,
                backoff=backoff(),
                recorder=recorder,
                metrics=agent_metrics,
                clock=clock,
                random=random.random,
            ).reconcile,
            rate_limiter=_rate_limiter(settings.sync_period),
            clock=clock,
            metrics=metrics,
            kind=COMPASS_CONNECTION.kind,
        )
        sync.watches(informers.connections, _served_name)
        sync.watches(informers.cluster_secret, _connection_name)
        return connection, renewal, sync, application

    manager.add_controllers(controllers)
    return manager


class _Informers:
    """Everything that the agent reads of the cluster. Single Secrets are watched by name, so RBAC can be as narrow."""

    def __init__(self, settings: Settings, client: Client, metrics: Metrics, clock: Clock) -> None:
        self._client, self._metrics, self._clock = client, metrics, clock
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
            transform=_without_managed_fields,
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

    def _of(self, resource: Resource, name: str) -> SharedInformer:
        return SharedInformer(
            ResourceListerWatcher(self._client, resource),
            name=name,
            transform=_without_managed_fields,
            clock=self._clock,
            metrics=self._metrics,
        )

    def _one(self, resource: Resource, name: str, wanted: ObjectName) -> SharedInformer:
        return SharedInformer(
            ResourceListerWatcher(
                self._client, resource, namespace=wanted.namespace, field_selector=f"metadata.name={wanted.name}"
            ),
            name=name,
            transform=_without_managed_fields,
            clock=self._clock,
            metrics=self._metrics,
        )


def _leader_election(settings: Settings) -> LeaderElectionConfig:
    return LeaderElectionConfig(
        name=COMPONENT,
        namespace=settings.leader_election_namespace,
        pod_uid=settings.pod_uid,
        lease_duration=settings.lease_duration,
        renew_deadline=settings.lease_renew_deadline,
        retry_period=settings.lease_retry_period,
    )


def _without_managed_fields(obj: Object) -> Object:
    """They are a third of an object, and nothing here reads them."""
    obj["metadata"].pop("managedFields", None)
    return obj


def _rate_limiter(cap: float) -> ItemExponentialFailureRateLimiter[str]:
    return ItemExponentialFailureRateLimiter(_RETRY_BASE, cap)


def _name(obj: Object) -> Iterable[str]:
    return (obj["metadata"]["name"],)


def _served_name(obj: Object) -> Iterable[str]:
    return (CONNECTION_NAME,) if obj["metadata"]["name"] == CONNECTION_NAME else ()


def _connection_name(_: Object) -> Iterable[str]:
    return (CONNECTION_NAME,)


def _address(port: int) -> str:
    return f":{port}" if port else ""
