"""The generic core of a controller process, after controller-runtime. It knows nothing of the resources it controls."""

from controller.runtime.controller import LOW_PRIORITY, Controller, Reconcile, ReconcileFailed, Result
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
