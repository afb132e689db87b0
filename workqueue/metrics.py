"""What a queue tells a metrics system. The queue knows none: it takes a MetricsProvider, or None for no metrics."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class QueueGauges:
    """The state of a queue at the moment of asking."""

    depth: int
    """Keys that need work and are not handed out yet, those added again while being processed included."""
    unfinished_work_seconds: float
    """Sum of the ages of all work in progress. Growing without bound means stuck workers."""
    longest_running_processor_seconds: float
    """Age of the oldest work in progress; 0 when there is none."""


class QueueMetrics(Protocol):
    """Receives what happens in one queue; the names in client-go are given for each.

    Called with the queue's lock held, so that no key is seen leaving before it is seen coming: implementations must be
    quick and must not call the queue.
    """

    def added(self) -> None:
        """A key became dirty (workqueue_adds_total). Adds that change nothing are not counted."""
        ...

    def handed_out(self, queued_seconds: float) -> None:
        """A worker got a key, this long after its first add (workqueue_queue_duration_seconds)."""
        ...

    def finished(self, work_seconds: float) -> None:
        """A worker called done(), this long after get() (workqueue_work_duration_seconds)."""
        ...

    def retried(self) -> None:
        """add_after() was called, a delay of zero included (workqueue_retries_total)."""
        ...


class MetricsProvider(Protocol):
    """Makes the metrics of queues. One provider serves all queues of a process."""

    def new_queue_metrics(self, name: str, gauges: Callable[[], QueueGauges]) -> QueueMetrics:
        """Called once by each queue that has a name.

        ``gauges`` may be called from any thread at any time, best on each scrape, for workqueue_depth,
        workqueue_unfinished_work_seconds and workqueue_longest_running_processor_seconds. (client-go sets the last two
        from a timer each 0.5 s; asking gives the exact value and needs no thread.) It takes the queue's lock, so the
        provider must not hold a lock that QueueMetrics' methods need.
        """
        ...
