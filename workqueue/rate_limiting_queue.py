"""Retries with back-off, as in client-go's util/workqueue/rate_limiting_queue.go."""

from collections.abc import Hashable
from typing import TypeVar

from workqueue.clock import REAL_CLOCK, Clock
from workqueue.delaying_queue import DelayingQueue
from workqueue.metrics import MetricsProvider
from workqueue.rate_limiters import RateLimiter

K = TypeVar("K", bound=Hashable)


class RateLimitingQueue(DelayingQueue[K]):
    """A DelayingQueue that uses a rate limiter for the delays of failed keys.

    After the work on a key call done(), and before it either add_rate_limited() for a retry or forget() to reset the
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
        """Add a key again after the delay of the rate limiter."""
        self.add_after(key, self._rate_limiter.when(key), priority=priority)

    def retry_now(self) -> None:
        """End the delays of all failed keys, because the cause of the failures may be gone.

        The counts of failures stay. Keys that wait for another reason continue to wait.
        """
        with self._lock:
            now = self._clock.monotonic()
            for key in self._delayed:
                if self._rate_limiter.num_requeues(key):
                    self._delayed.push(key, now)
            self._promote_locked()

    def forget(self, key: K) -> None:
        """Reset the failures of a key: it succeeded, or it is not retried."""
        self._rate_limiter.forget(key)

    def num_requeues(self, key: K) -> int:
        """How often the key was added by add_rate_limited() since the last forget()."""
        return self._rate_limiter.num_requeues(key)
