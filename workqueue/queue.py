"""The de-duplicating queue, as client-go's util/workqueue/queue.go, with priorities.

Errors:

    Exception
    └── ShutDown    get() on a queue that is shut down and empty
"""

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

from workqueue._keyed_heap import KeyedHeap
from workqueue.clock import REAL_CLOCK, Clock
from workqueue.metrics import MetricsProvider, QueueGauges

K = TypeVar("K", bound=Hashable)


class ShutDown(Exception):
    """The queue is shut down and empty: the worker should end."""


class Queue(Generic[K]):
    """Keys that need work; each is with one worker at a time.

    - A key that is added several times before a worker takes it is returned once.
    - A key that is added while a worker has it is returned again after that worker's done(): no other worker gets it
      before, and the add is not lost.
    - Higher priority first, first come first served within a priority. An add of a waiting key never lowers its
      priority and never changes its place. With only the default priority this is a plain FIFO.
    - After a shutdown adds are ignored, and the accepted keys are still returned.

    All methods are thread-safe. Each get() must be followed by a done() for the key.
    """

    def __init__(self, name: str = "", *, clock: Clock = REAL_CLOCK, metrics: MetricsProvider | None = None) -> None:
        """`name` labels the metrics; a queue without a name has none."""
        self.name = name
        self._clock = clock
        self._lock = threading.Lock()
        # Two conditions on one lock. With one condition, notify() could wake a draining thread instead of a worker,
        # unless no worker waits during a drain.
        self._available = threading.Condition(self._lock)
        self._drained = threading.Condition(self._lock)

        # Keys that a get() may take now, by -priority. Each is in _dirty and not in _processing.
        self._queue: KeyedHeap[K] = KeyedHeap()
        # Keys that need work: priority, and the time of the add that made them dirty. Those that are not in _queue are
        # in _processing, and done() queues them.
        self._dirty: dict[K, tuple[int, float]] = {}
        # Keys of workers, with the start of the work.
        self._processing: dict[K, float] = {}
        self._shutting_down = False
        self._draining = False

        self._metrics = metrics.new_queue_metrics(name, self._gauges) if metrics is not None and name else None

    def add(self, key: K, *, priority: int = 0) -> None:
        """Mark a key as needing work. Ignored after a shutdown."""
        with self._lock:
            self._promote_locked()
            self._add_locked(key, priority, self._clock.monotonic())

    def get(self) -> K:
        """Wait for a key and take it. Raises ShutDown if the queue is shut down and nothing is queued."""
        return self.get_with_priority()[0]

    def get_with_priority(self) -> tuple[K, int]:
        """As get(), with the priority of the key, for a caller that adds it again."""
        with self._lock:
            while True:
                next_promotion = self._promote_locked()
                if self._queue:
                    break
                if self._shutting_down:
                    raise ShutDown
                self._clock.wait(self._available, next_promotion)
            _, key = self._queue.pop()
            priority, dirty_since = self._dirty.pop(key)
            now = self._processing[key] = self._clock.monotonic()
            if self._metrics is not None:
                self._metrics.handed_out(now - dirty_since)
            return key, priority

    def done(self, key: K) -> None:
        """Return a key after work; if it was added meanwhile it is queued again. No effect for any other key."""
        with self._lock:
            self._promote_locked()
            started = self._processing.pop(key, None)
            if started is None:
                return
            if self._metrics is not None:
                self._metrics.finished(self._clock.monotonic() - started)
            added_meanwhile = self._dirty.get(key)
            if added_meanwhile is not None:
                self._queue.push(key, -added_meanwhile[0])
                self._available.notify()
            elif self._idle_locked():
                self._drained.notify_all()

    def __len__(self) -> int:
        """Number of queued keys, without those of workers and those that wait for a delay."""
        with self._lock:
            self._promote_locked()
            return len(self._queue)

    @property
    def shutting_down(self) -> bool:
        """Whether the queue is shut down, in either way."""
        return self._shutting_down

    def shut_down(self) -> None:
        """Ignore all further adds and let the workers end when the queue is empty. Returns at once.

        Also ends the wait of a shut_down_with_drain() in progress.
        """
        with self._lock:
            self._draining = False
            self._shut_down_locked()
            self._drained.notify_all()

    def shut_down_with_drain(self) -> None:
        """Like shut_down(), and wait until all accepted work is done, or until shut_down() is called.

        Waits for queued keys and for those of workers. (client-go returns when no worker has a key, even if some are
        queued.) So it needs a running worker, or a shut_down() from another thread.
        """
        with self._lock:
            self._draining = True
            self._shut_down_locked()
            while self._draining and not self._idle_locked():
                self._clock.wait(self._drained, None)

    def _add_locked(self, key: K, priority: int, now: float) -> None:
        if self._shutting_down:
            return
        known = self._dirty.get(key)
        if known is None:
            self._dirty[key] = (priority, now)
            if self._metrics is not None:
                self._metrics.added()
        elif priority > known[0]:
            self._dirty[key] = (priority, known[1])
        else:
            return
        if key not in self._processing:
            self._queue.push(key, -priority)
            if known is None:
                self._available.notify()

    def _promote_locked(self) -> float | None:
        """Queue the keys whose delay has passed; returns the seconds until the next one, None for never.

        Each method that reads or changes the queue calls this first. So the queue always is as if each key had been
        queued at its exact time, without a timer thread.
        """
        return None

    def _shut_down_locked(self) -> None:
        self._promote_locked()
        self._shutting_down = True
        self._available.notify_all()

    def _idle_locked(self) -> bool:
        return not self._processing and not self._dirty

    def _gauges(self) -> QueueGauges:
        with self._lock:
            self._promote_locked()
            now = self._clock.monotonic()
            ages = [now - started for started in self._processing.values()]
            return QueueGauges(len(self._dirty), sum(ages), max(ages, default=0.0))
