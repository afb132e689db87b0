"""The streams and settings of a command."""

from dataclasses import dataclass
from typing import Any, TextIO

from controller.settings import format_duration
from kubectl_compass.arguments import Output
from kubectl_compass.cluster import Cluster
from kubectl_compass.waiting import Progress, Waiting
from workqueue import Clock

Object = dict[str, Any]


@dataclass(frozen=True)
class Desk:
    """`timeout`: seconds that a command waits for the agent."""

    cluster: Cluster
    output: Output
    out: TextIO
    err: TextIO
    clock: Clock
    timeout: float = 0.0

    def waiting(self, progress: Progress, known: Object | None) -> Waiting:
        progress.say(f"waiting for the agent, at most {format_duration(self.timeout)}")
        return Waiting(self.cluster.connection, progress, clock=self.clock, timeout=self.timeout, known=known)
