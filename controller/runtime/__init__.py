"""The generic core of a controller process, after controller-runtime. It is independent of the resources it controls.

- A Controller reconciles keys from a queue with a number of workers, and retries failed keys.
- A Manager starts informers, controllers and servers in order, waits for caches, and stops all within a grace period.
- A LeaderElector elects one of several processes with a Lease.
- Predicates, owner references, finalizers and create_or_update are helpers for reconcilers.
- Metrics have the names that dashboards for Go controllers use.
- Events and logs report what happens, and never block the work.
"""

from controller.runtime.controller import LOW_PRIORITY, Controller
from controller.runtime.events import EventRecorder, EventType
from controller.runtime.group import RunnableFailed
from controller.runtime.health import Check
from controller.runtime.http_server import HTTPServer, ServerBindError
from controller.runtime.leader_election import LeaderElectionConfig, LeaderElectionLost, LeaderElector
from controller.runtime.manager import BuildControllers, GracePeriodExceeded, Manager
from controller.runtime.metrics import ControllerMetrics, Metrics
from controller.runtime.ownership import keys_of_owners, set_controller
from controller.runtime.predicates import (
    Predicate,
    all_of,
    annotations_changed,
    any_of,
    generation_changed,
    labels_changed,
    negate,
)
from controller.runtime.reconcile import Reconcile, ReconcileFailed, Result, TerminalError
from controller.runtime.signals import stop_on_signals
from controller.runtime.term import Term
from controller.runtime.writes import add_finalizer, create_or_update, is_being_deleted, remove_finalizer

__all__ = [
    "LOW_PRIORITY",
    "BuildControllers",
    "Check",
    "Controller",
    "ControllerMetrics",
    "EventRecorder",
    "EventType",
    "GracePeriodExceeded",
    "HTTPServer",
    "LeaderElectionConfig",
    "LeaderElectionLost",
    "LeaderElector",
    "Manager",
    "Metrics",
    "Predicate",
    "Reconcile",
    "ReconcileFailed",
    "Result",
    "RunnableFailed",
    "ServerBindError",
    "Term",
    "TerminalError",
    "add_finalizer",
    "all_of",
    "annotations_changed",
    "any_of",
    "create_or_update",
    "generation_changed",
    "is_being_deleted",
    "keys_of_owners",
    "labels_changed",
    "negate",
    "remove_finalizer",
    "set_controller",
    "stop_on_signals",
]
