"""The queue of a controller, as in client-go's util/workqueue, with priorities."""

import math
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from workqueue._keyed_heap import KeyedHeap
from workqueue.clock import REAL_CLOCK, Clock

K = TypeVar("K", bound=Hashable)

_RETRY_BASE_SECONDS = 0.005  # the first retry is immediate for people (client-go: DefaultTypedControllerRateLimiter)
RETRY_CAP_SECONDS = 1000.0  # a key that always fails is still retried every 17 minutes
_MAX_EXPONENT = 1023  # of a float: one more and ** raises OverflowError
_MAX_WAIT_SECONDS = 10.0  # a limit in case of an unexpected clock: waiting threads check again after this time


class ShutDown(Exception):
    """The queue is shut down and empty: the worker should end."""


@dataclass(frozen=True, slots=True)
class QueueGauges:
    """The current state of a queue.

    depth: keys that need work and are not with a worker, including those that were added again while being processed.
    unfinished_work_seconds: sum of the ages of all work in progress. If it keeps growing, workers are stuck.
    longest_running_processor_seconds: age of the oldest work in progress; 0 if there is none.
    """

    depth: int
    unfinished_work_seconds: float
    longest_running_processor_seconds: float


class QueueMetrics:
    """The metrics of queues by their names. Exporters override the hooks; these do nothing.

    All but queue() are called with the lock of the queue held, so that the events of a key are in order: they must be
    quick and must not call the queue.
    """

    def queue(self, name: str, gauges: Callable[[], QueueGauges]) -> None:
        """There is a queue of this name.

        `gauges` may be called from any thread at any time, for example on each scrape. (client-go updates them every
        0.5 s; a call returns the exact value and needs no thread.) It takes the queue's lock, so the caller must not
        hold a lock that the hooks below need.
        """

    def key_added(self, name: str) -> None:
        """A key became dirty (workqueue_adds_total). Adds without effect are not counted."""

    def key_taken(self, name: str, *, queued_seconds: float) -> None:
        """A worker got a key, this long after its first add (workqueue_queue_duration_seconds)."""

    def key_done(self, name: str, *, work_seconds: float) -> None:
        """A worker called done(), this long after get() (workqueue_work_duration_seconds)."""

    def key_delayed(self, name: str) -> None:
        """add_after() was called, also with a delay of zero (workqueue_retries_total)."""


class RateLimitingQueue(Generic[K]):
    """Keys that need work; each is with one worker at a time.

    - A key that is added several times before a worker takes it is returned once.
    - A key that is added while a worker has it is returned again after that worker's done(): no other worker gets it
      before, and the add is not lost.
    - Higher priority first, first come first served within a priority. An add of a waiting key never lowers its
      priority and never changes its place. With only the default priority this is a plain FIFO.
    - A key may be added after a delay. It waits at most once: of several delays the earliest counts, with the highest
      priority. If it is added meanwhile, it is returned now, and again when its delay has passed.
    - After a shutdown adds are ignored, and keys whose delay has not passed are dropped. The others are still returned.

    There is no timer thread: a get() without a key waits until the first delay ends.

    All methods are thread-safe. Each get() must be followed by a done() for the key, and before it by either
    add_rate_limited() for a retry or forget() to reset the count of failures.
    """

    def __init__(
        self,
        *,
        name: str = "",
        retry_base: float = _RETRY_BASE_SECONDS,
        retry_cap: float = RETRY_CAP_SECONDS,
        clock: Clock = REAL_CLOCK,
        metrics: QueueMetrics | None = None,
    ) -> None:
        """`name` labels the metrics; a queue without a name has none. The n-th retry of a failed key waits
        retry_base * 2^(n-1) seconds, at most retry_cap.
        """
        self.name = name
        self._retry_base = retry_base
        self._retry_cap = retry_cap
        self._clock = clock
        self._lock = threading.Lock()
        self._available = threading.Condition(self._lock)

        # Keys that a get() may take now, by -priority. Each is in _dirty and not in _processing.
        self._queue: KeyedHeap[K] = KeyedHeap()
        # Keys that need work: priority, and the time of the add that made them dirty. Those that are not in _queue are
        # in _processing, and done() queues them.
        self._dirty: dict[K, tuple[int, float]] = {}
        # Keys of workers, with the start of the work.
        self._processing: dict[K, float] = {}
        # Keys that wait, by the time at which to queue them, and their priorities.
        self._delayed: KeyedHeap[K] = KeyedHeap()
        self._delayed_priority: dict[K, int] = {}
        self._failures: dict[K, int] = {}
        self._shutting_down = False

        self._metrics = metrics if metrics is not None and name else QueueMetrics()
        self._metrics.queue(name, self._gauges)

    def add(self, key: K, *, priority: int = 0) -> None:
        """Mark a key as needing work. Ignored after a shutdown."""
        with self._lock:
            self._promote_locked()
            self._add_locked(key, priority, self._clock.monotonic())

    def add_after(self, key: K, delay_seconds: float, *, priority: int = 0) -> None:
        """Add a key when `delay_seconds` have passed; at once if that is zero or less. Ignored after a shutdown.

        Raises ValueError if the delay is not a number.
        """
        if math.isnan(delay_seconds):
            raise ValueError("the delay of a key is not a number (NaN)")
        with self._lock:
            if self._shutting_down:
                return
            self._metrics.key_delayed(self.name)
            self._promote_locked()
            now = self._clock.monotonic()
            if delay_seconds <= 0:
                self._add_locked(key, priority, now)
                return
            first = self._delayed.first_rank()
            ready_at = now + delay_seconds
            self._delayed.push(key, ready_at)
            self._delayed_priority[key] = max(priority, self._delayed_priority.get(key, priority))
            if first is None or ready_at < first:
                # All, not one: each waiting get() must know the first deadline. If only one knew it, and that one got
                # another key, no thread would wake up for this key.
                self._available.notify_all()

    def add_rate_limited(self, key: K, *, priority: int = 0) -> None:
        """Count a failure of the key, and add it again after its delay."""
        with self._lock:
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
        delay = min(self._retry_cap, self._retry_base * 2.0 ** min(failures, _MAX_EXPONENT))
        self.add_after(key, delay, priority=priority)

    def retry_now(self) -> None:
        """End the delays of all failed keys, because the cause of the failures may be gone.

        The counts of failures stay. Keys that wait for another reason continue to wait.
        """
        with self._lock:
            now = self._clock.monotonic()
            for key in self._delayed:
                if key in self._failures:
                    self._delayed.push(key, now)
            self._promote_locked()

    def forget(self, key: K) -> None:
        """Reset the failures of a key: it succeeded, or it is not retried. Does not replace done()."""
        with self._lock:
            self._failures.pop(key, None)

    def num_requeues(self, key: K) -> int:
        """How often the key was added by add_rate_limited() since the last forget()."""
        with self._lock:
            return self._failures.get(key, 0)

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
            self._metrics.key_taken(self.name, queued_seconds=now - dirty_since)
            return key, priority

    def done(self, key: K) -> None:
        """Return a key after work; if it was added meanwhile it is queued again. No effect for any other key."""
        with self._lock:
            self._promote_locked()
            started = self._processing.pop(key, None)
            if started is None:
                return
            self._metrics.key_done(self.name, work_seconds=self._clock.monotonic() - started)
            added_meanwhile = self._dirty.get(key)
            if added_meanwhile is not None:
                self._queue.push(key, -added_meanwhile[0])
                self._available.notify()

    def __len__(self) -> int:
        """Number of queued keys, without those of workers and those that wait for a delay."""
        with self._lock:
            self._promote_locked()
            return len(self._queue)

    @property
    def shutting_down(self) -> bool:
        """Whether the queue is shut down."""
        return self._shutting_down

    def shut_down(self) -> None:
        """Ignore all further adds and let the workers end when the queue is empty. Returns at once."""
        with self._lock:
            self._promote_locked()
            self._shutting_down = True
            self._delayed.clear()
            self._delayed_priority.clear()
            self._available.notify_all()

    def _add_locked(self, key: K, priority: int, now: float) -> None:
        if self._shutting_down:
            return
        known = self._dirty.get(key)
        if known is None:
            self._dirty[key] = (priority, now)
            self._metrics.key_added(self.name)
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
        while (ready_at := self._delayed.first_rank()) is not None:
            now = self._clock.monotonic()
            if ready_at > now:
                return min(ready_at - now, _MAX_WAIT_SECONDS)
            _, key = self._delayed.pop()
            self._add_locked(key, self._delayed_priority.pop(key), ready_at)
        return None

    def _gauges(self) -> QueueGauges:
        with self._lock:
            self._promote_locked()
            now = self._clock.monotonic()
            ages = [now - started for started in self._processing.values()]
            return QueueGauges(len(self._dirty), sum(ages), max(ages, default=0.0))
