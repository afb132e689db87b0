"""The generic core of a controller process, after controller-runtime. It is independent of the resources it controls.

- A Controller reconciles keys from a queue with a number of workers, and retries failed keys.
- A Manager starts informers, controllers and servers in order, waits for caches, and stops all within a grace period.
- A LeaderElector elects one of several processes with a Lease.
- Metrics have the names that dashboards for Go controllers use.
- Events and logs report what happens, and never block the work.
"""

from controller.runtime.controller import LOW_PRIORITY, Controller, Reconcile, ReconcileFailed, Result
from controller.runtime.events import EventRecorder
from controller.runtime.group import RunnableFailed
from controller.runtime.http_server import HTTPServer, ServerBindError
from controller.runtime.leader_election import LeaderElectionConfig, LeaderElectionLost, LeaderElector
from controller.runtime.manager import GracePeriodExceeded, Manager
from controller.runtime.metrics import Metrics
from controller.runtime.signals import stop_on_signals
from controller.runtime.term import Term

__all__ = [
    "LOW_PRIORITY",
    "Controller",
    "EventRecorder",
    "GracePeriodExceeded",
    "HTTPServer",
    "LeaderElectionConfig",
    "LeaderElectionLost",
    "LeaderElector",
    "Manager",
    "Metrics",
    "Reconcile",
    "ReconcileFailed",
    "Result",
    "RunnableFailed",
    "ServerBindError",
    "Term",
    "stop_on_signals",
]
