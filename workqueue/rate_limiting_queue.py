"""Retrying a key with back-off. Behaves as client-go's util/workqueue/rate_limiting_queue.go."""

from collections.abc import Hashable
from typing import TypeVar

from workqueue.clock import REAL_CLOCK, Clock
from workqueue.delaying_queue import DelayingQueue
from workqueue.metrics import MetricsProvider
from workqueue.rate_limiters import RateLimiter

K = TypeVar("K", bound=Hashable)


class RateLimitingQueue(DelayingQueue[K]):
    """A DelayingQueue that asks a rate limiter how long a failed key should wait.

    After work on a key call done(), and before it either add_rate_limited() to try again or forget() to clear the
    count of failures. forget() does not replace done().
    """

    def __init__(
        self,
        rate_limiter: RateLimiter[K],
        *,
        name: str = "",
        clock: Clock = REAL_CLOCK,
        metrics: MetricsProvider | None = None,
    ) -> None:
        super().__init__(name, clock=clock, metrics=metrics)
        self._rate_limiter = rate_limiter

    def add_rate_limited(self, key: K, *, priority: int = 0) -> None:
        """Add a key again when the rate limiter says so."""
        self.add_after(key, self._rate_limiter.when(key), priority=priority)

    def retry_now(self) -> None:
        """End the delays of all keys that failed and wait to be tried again: the cause may be over.

        Their failures stay counted, and what waits for another reason goes on waiting.
        """
        with self._lock:
            now = self._clock.monotonic()
            for key in self._delayed:
                if self._rate_limiter.num_requeues(key):
                    self._delayed.push(key, now)
            self._promote_locked()

    def forget(self, key: K) -> None:
        """Stop counting failures of a key: it succeeded, or it is given up."""
        self._rate_limiter.forget(key)

    def num_requeues(self, key: K) -> int:
        """How often the key was added by add_rate_limited() since the last forget()."""
        return self._rate_limiter.num_requeues(key)
