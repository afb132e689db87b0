"""The delay of a failed key. Formulas as in client-go's util/workqueue/default_rate_limiters.go.

A rate limiter only computes delays and counts failures. All of them are thread-safe.
"""

import threading
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

from workqueue.clock import REAL_CLOCK, Clock

K = TypeVar("K", bound=Hashable)
K_contra = TypeVar("K_contra", bound=Hashable, contravariant=True)

_BASE_SECONDS = 0.005  # first retry of the default controller limiter: immediate for people
_CAP_SECONDS = 1000.0  # a key that always fails is still retried every 17 minutes
_QPS = 10.0  # for all keys: protects the API server from a controller whose keys all fail
_BURST = 100
_MAX_EXPONENT = 1023  # of a float: one more and ** raises OverflowError


class RateLimiter(Protocol[K_contra]):
    """Decides how long a key waits before its retry."""

    def when(self, key: K_contra) -> float:
        """Count a failure of the key and return the seconds to wait."""
        ...

    def forget(self, key: K_contra) -> None:
        """The key succeeded, or is not retried: reset its count."""
        ...

    def num_requeues(self, key: K_contra) -> int:
        """Failures counted since the last forget()."""
        ...


class ItemExponentialFailureRateLimiter(Generic[K]):
    """base * 2^failures seconds, at most cap: by default 5, 10, 20, 40, 80 ms and so on, 1000 s from the 19th on."""

    def __init__(self, base: float = _BASE_SECONDS, cap: float = _CAP_SECONDS) -> None:
        self._base = base
        self._cap = cap
        self._lock = threading.Lock()
        self._failures: dict[K, int] = {}

    def when(self, key: K) -> float:
        with self._lock:
            before = self._failures.get(key, 0)
            self._failures[key] = before + 1
        return min(self._cap, self._base * 2.0 ** min(before, _MAX_EXPONENT))

    def forget(self, key: K) -> None:
        with self._lock:
            self._failures.pop(key, None)

    def num_requeues(self, key: K) -> int:
        with self._lock:
            return self._failures.get(key, 0)


class ControllerRateLimiter(ItemExponentialFailureRateLimiter[K]):
    """The delays above, and at least those of a token bucket for all keys: 100 at once, then 10 per second.

    Each when() reserves a token, if necessary a future one. (client-go: DefaultTypedControllerRateLimiter.)
    """

    def __init__(self, *, clock: Clock = REAL_CLOCK) -> None:
        super().__init__()
        self._clock = clock
        self._tokens = float(_BURST)  # below zero: number of reserved future tokens
        self._updated = clock.monotonic()

    def when(self, key: K) -> float:
        delay = super().when(key)
        with self._lock:
            now = self._clock.monotonic()
            self._tokens = min(_BURST, self._tokens + (now - self._updated) * _QPS) - 1
            self._updated = now
            return max(delay, -self._tokens / _QPS)
