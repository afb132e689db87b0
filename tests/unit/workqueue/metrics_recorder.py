from collections.abc import Callable

from workqueue import QueueGauges, QueueMetrics


class Recorder:
    """A MetricsProvider and the metrics of its only queue."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.adds = 0
        self.retries = 0
        self.queued: list[float] = []
        self.worked: list[float] = []

    def new_queue_metrics(self, name: str, gauges: Callable[[], QueueGauges]) -> QueueMetrics:
        self.names.append(name)
        self.gauges = gauges
        return self

    def added(self) -> None:
        self.adds += 1

    def handed_out(self, queued_seconds: float) -> None:
        self.queued.append(queued_seconds)

    def finished(self, work_seconds: float) -> None:
        self.worked.append(work_seconds)

    def retried(self) -> None:
        self.retries += 1
