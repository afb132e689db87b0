"""The metrics of a queue. The queue uses a MetricsProvider, or None for no metrics."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class QueueGauges:
    """The current state of a queue."""

    depth: int
    """Keys that need work and are not with a worker, including those that were added again while being processed."""
    unfinished_work_seconds: float
    """Sum of the ages of all work in progress. If it keeps growing, workers are stuck."""
    longest_running_processor_seconds: float
    """Age of the oldest work in progress; 0 if there is none."""


class QueueMetrics(Protocol):
    """Receives the events of one queue; client-go's metric is named for each.

    Called with the queue's lock held, so that the events of a key are in order: implementations must be quick and must
    not call the queue.
    """

    def added(self) -> None:
        """A key became dirty (workqueue_adds_total). Adds without effect are not counted."""
        ...

    def handed_out(self, queued_seconds: float) -> None:
        """A worker got a key, this long after its first add (workqueue_queue_duration_seconds)."""
        ...

    def finished(self, work_seconds: float) -> None:
        """A worker called done(), this long after get() (workqueue_work_duration_seconds)."""
        ...

    def retried(self) -> None:
        """add_after() was called, also with a delay of zero (workqueue_retries_total)."""
        ...


class MetricsProvider(Protocol):
    """Creates the metrics of queues. One provider serves all queues of a process."""

    def new_queue_metrics(self, name: str, gauges: Callable[[], QueueGauges]) -> QueueMetrics:
        """Called once by each queue with a name.

        `gauges` may be called from any thread at any time, for example on each scrape, for workqueue_depth,
        workqueue_unfinished_work_seconds and workqueue_longest_running_processor_seconds. (client-go sets the last two
        from a timer every 0.5 s; a call returns the exact value and needs no thread.) It takes the queue's lock, so the
        provider must not hold a lock that the methods of QueueMetrics need.
        """
        ...
