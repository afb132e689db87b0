"""Builds the agent: informers trigger controllers, controllers run reconcilers, the manager runs them all.

Each component is documented in its own module, and the module of a reconciler builds its controller.
"""

import threading
from collections.abc import Callable, Iterable
from functools import partial

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from controller.cluster_metrics import ClusterMetrics
from controller.compass import certificates
from controller.compass.limits import Limits
from controller.connection import reconciler as connection
from controller.connection.sessions import Sessions
from controller.context import Caches, Context, Process
from controller.memory import memory_limit
from controller.metrics import AgentMetrics
from controller.reconcilers import application, sync
from controller.resources import COMPONENT
from controller.rights import RightsCheck, StatusTeller, needed
from controller.runtime import Controller, LeaderElectionConfig, Manager, Metrics
from controller.runtime.events import EventRecorder
from controller.settings import Settings
from informers import Client, Stop
from workqueue import Clock, RealClock


def build(
    settings: Settings,
    client: Client,
    metrics: Metrics,
    *,
    refused: threading.Event | None = None,
    clock: Clock | None = None,
    new_key: Callable[[int], RSAPrivateKey] = certificates.new_key,
) -> Manager:
    """A manager that runs the whole agent. Nothing is sent before its `run`.

    `refused`: an event that is set when the API server has refused a request. `new_key` creates client keys of
    that many bits.
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
    agent_metrics = AgentMetrics(metrics.registry)
    caches = Caches(settings, client, metrics, clock)
    process = Process(
        settings=settings,
        clock=clock,
        metrics=metrics,
        agent_metrics=agent_metrics,
        recorder=EventRecorder(client, COMPONENT, clock=clock),
        sessions=partial(_sessions, settings, agent_metrics),
        caches=caches,
        rights=RightsCheck(client, needed(settings), refused=refused or threading.Event(), clock=clock),
        new_key=new_key,
    )
    for informer in process.caches.all():
        manager.add_informer(informer)
    process.rights.tell(StatusTeller(process.connections(client)))
    manager.add_early_runnable("rights", process.rights.run)
    manager.add_ready_check("rights", process.rights.check)
    manager.add_runnable("events", process.recorder.run, leader_only=False)
    cluster_metrics = ClusterMetrics(client, interval=settings.metrics_logging_interval, clock=clock)
    manager.add_runnable("cluster-metrics", cluster_metrics.run, leader_only=True)
    manager.add_controllers(lambda client: _controllers(Context.of_term(process, client)))
    return manager


def _sessions(settings: Settings, metrics: AgentMetrics, stop: Stop) -> Sessions:
    limits = Limits(
        applications=settings.max_applications,
        pages=settings.max_pages,
        seconds=settings.fetch_timeout,
        memory_limit=memory_limit(),
    )
    return Sessions(
        ca_file=settings.compass_ca_file,
        skip_verify=settings.skip_compass_tls_verify,
        limits=limits,
        log_queries=settings.query_logging,
        observe=metrics.compass_call,
        stop=stop,
    )


def _controllers(context: Context) -> Iterable[Controller[str]]:
    """The controllers of one term of leadership, with all their memory."""
    applications = application.build(context)
    return connection.build(context), sync.build(context, applications), applications


def _leader_election(settings: Settings) -> LeaderElectionConfig:
    return LeaderElectionConfig(
        name=COMPONENT,
        namespace=settings.leader_election_namespace,
        pod_uid=settings.pod_uid,
        lease_duration=settings.lease_duration,
        renew_deadline=settings.lease_renew_deadline,
        retry_period=settings.lease_retry_period,
    )


def _address(port: int) -> str:
    return f":{port}" if port else ""
