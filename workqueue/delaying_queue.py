"""Adding a key with a delay, as in client-go's util/workqueue/delaying_queue.go, without its thread."""

import math
from collections.abc import Hashable
from typing import TypeVar

from workqueue._keyed_heap import KeyedHeap
from workqueue.clock import REAL_CLOCK, Clock
from workqueue.metrics import MetricsProvider
from workqueue.queue import Queue

K = TypeVar("K", bound=Hashable)

_MAX_WAIT_SECONDS = 10.0  # a limit in case of an unexpected clock: waiting threads check again after this time


class DelayingQueue(Queue[K]):
    """A Queue whose keys can be added after a delay.

    - A key waits at most once. Of several delays the earliest counts, with the highest priority.
    - A waiting key can be added meanwhile. It is returned now, and again when its delay has passed.
    - A shutdown drops the keys whose delay has not passed.

    There is no timer thread: a get() without a key waits until the first delay ends.
    """

    def __init__(self, name: str = "", *, clock: Clock = REAL_CLOCK, metrics: MetricsProvider | None = None) -> None:
        # Both before the base class, which may pass _gauges on to another thread.
        self._delayed: KeyedHeap[K] = KeyedHeap()  # by the time, of clock.monotonic(), at which to queue the key
        self._delayed_priority: dict[K, int] = {}  # priorities of the same keys
        super().__init__(name, clock=clock, metrics=metrics)

    def add_after(self, key: K, delay_seconds: float, *, priority: int = 0) -> None:
        """Add a key when `delay_seconds` have passed; at once if that is zero or less. Ignored after a shutdown.

        Raises ValueError if the delay is not a number.
        """
        if math.isnan(delay_seconds):
            raise ValueError("the delay of a key is not a number (NaN)")
        with self._lock:
            if self._shutting_down:
                return
            if self._metrics is not None:
                self._metrics.retried()
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

    def _promote_locked(self) -> float | None:
        while (ready_at := self._delayed.first_rank()) is not None:
            now = self._clock.monotonic()
            if ready_at > now:
                return min(ready_at - now, _MAX_WAIT_SECONDS)
            _, key = self._delayed.pop()
            self._add_locked(key, self._delayed_priority.pop(key), ready_at)
        return None

    def _shut_down_locked(self) -> None:
        super()._shut_down_locked()
        self._delayed.clear()
        self._delayed_priority.clear()
