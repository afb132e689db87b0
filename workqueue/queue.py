"""The de-duplicating queue. Behaves as client-go's util/workqueue/queue.go, with priorities added.

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
    """The queue is shut down and has handed out all it held: the worker should leave."""


class Queue(Generic[K]):
    """Keys that need work, each handed to one worker at a time.

    - A key added many times before a worker takes it is handed out once.
    - A key added while a worker has it is handed out again after that worker's done(): nobody else gets it meanwhile,
      and the add is not lost.
    - Higher priority first, first come first served within a priority. An add of a key that already waits never lowers
      its priority and never costs it its place. With the default priority everywhere this is a plain FIFO.
    - After a shutdown adds are ignored, and what was accepted before is still handed out.

    All methods may be called from any thread. Each get() must be followed by a done() for the key.
    """

    def __init__(self, name: str = "", *, clock: Clock = REAL_CLOCK, metrics: MetricsProvider | None = None) -> None:
        """``name`` labels the metrics; a queue without a name has none."""
        self.name = name
        self._clock = clock
        self._lock = threading.Lock()
        # Two conditions on one lock. On a shared one each notify() for a key would rest on the fact that no worker
        # waits while a thread drains (idle workers leave at the shutdown); else it could wake the wrong one.
        self._available = threading.Condition(self._lock)
        self._drained = threading.Condition(self._lock)

        # Keys that a get() may take now, by -priority. Each is in _dirty and not in _processing.
        self._queue: KeyedHeap[K] = KeyedHeap()
        # Keys that need work: priority, and the time of the add that made them dirty. Those that are not in _queue are
        # in _processing, and done() queues them.
        self._dirty: dict[K, tuple[int, float]] = {}
        # Keys that a worker has, and since when.
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
        """As get(), with the priority at which the key was handed out: for whoever adds it again."""
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
        """Give a key back after work; if it was added meanwhile it is queued again. Harmless for any other key."""
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
        """Number of queued keys: neither those that workers have, nor those that wait for a delay to pass."""
        with self._lock:
            self._promote_locked()
            return len(self._queue)

    @property
    def shutting_down(self) -> bool:
        """Whether either kind of shutdown was asked for."""
        return self._shutting_down

    def shut_down(self) -> None:
        """Ignore all further adds and release the workers once the queue is empty. Returns at once.

        Also ends the wait of a shut_down_with_drain() in progress.
        """
        with self._lock:
            self._draining = False
            self._shut_down_locked()
            self._drained.notify_all()

    def shut_down_with_drain(self) -> None:
        """Like shut_down(), and wait until all work that was accepted is done, or until shut_down() is called.

        Waits for what is queued as well as for what workers have. (client-go returns as soon as no worker has a key,
        even if some are queued.) So it needs a worker that is alive, or a shut_down() from another thread.
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
        """Queue the keys whose delay has passed; seconds until that should be tried again, None for never.

        Each method that looks at the queue or changes it calls this first. So the queue is always as it would be had
        each key been queued at its very moment, and no thread has to watch the time.
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
