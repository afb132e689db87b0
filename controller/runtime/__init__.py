"""The generic core of a controller process, after controller-runtime; it knows nothing of what is controlled.

- A Controller reconciles keys from a queue with a number of workers, and tries failed keys again.
- A Manager starts informers, controllers and servers in order, waits for caches, and stops all within a grace period.
- A LeaderElector lets one of several processes work, by a Lease.
- Metrics carry the names that dashboards for Go controllers use.
- Events and logs tell people what happens, and never hold up the work.
"""

from controller.runtime.controller import LOW_PRIORITY, Controller, Predicate
from controller.runtime.events import EventRecorder, EventType
from controller.runtime.group import RunnableFailed
from controller.runtime.health import Check
from controller.runtime.http_server import HTTPServer, ServerBindError
from controller.runtime.leader_election import LeaderElectionConfig, LeaderElectionLost, LeaderElector
from controller.runtime.manager import BuildControllers, GracePeriodExceeded, Manager
from controller.runtime.metrics import ControllerMetrics, Metrics
from controller.runtime.reconcile import Reconcile, ReconcileFailed, Result, TerminalError
from controller.runtime.signals import stop_on_signals
from controller.runtime.term import Term, TermEnded

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
    "TermEnded",
    "TerminalError",
    "stop_on_signals",
]
