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
_ITEM_BASED_BASE_SECONDS = 0.001  # client-go's base without a bucket for the first retries
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


class _FailureCounter(Generic[K]):
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: dict[K, int] = {}

    def forget(self, key: K) -> None:
        with self._lock:
            self._failures.pop(key, None)

    def num_requeues(self, key: K) -> int:
        with self._lock:
            return self._failures.get(key, 0)

    def _count(self, key: K) -> int:
        """Failures before this one."""
        with self._lock:
            before = self._failures.get(key, 0)
            self._failures[key] = before + 1
            return before


class ItemExponentialFailureRateLimiter(_FailureCounter[K]):
    """base * 2^failures seconds, at most cap: by default 5, 10, 20, 40, 80 ms and so on, 1000 s from the 19th on."""

    def __init__(self, base: float = _BASE_SECONDS, cap: float = _CAP_SECONDS) -> None:
        super().__init__()
        self._base = base
        self._cap = cap

    def when(self, key: K) -> float:
        return min(self._cap, self._base * 2.0 ** min(self._count(key), _MAX_EXPONENT))


class ItemFastSlowRateLimiter(_FailureCounter[K]):
    """`fast` seconds for the first `max_fast_attempts` failures of a key, `slow` seconds from then on."""

    def __init__(self, fast: float, slow: float, *, max_fast_attempts: int) -> None:
        super().__init__()
        self._fast = fast
        self._slow = slow
        self._max_fast_attempts = max_fast_attempts

    def when(self, key: K) -> float:
        return self._fast if self._count(key) < self._max_fast_attempts else self._slow


class BucketRateLimiter(Generic[K]):
    """A token bucket for all keys: `burst` at once, then `qps` per second.

    Each when() reserves a token, if necessary a future one, and returns the time until it is available. There is no
    state for single keys. Raises ValueError unless `qps` > 0 and `burst` >= 1.
    """

    def __init__(self, qps: float = _QPS, burst: int = _BURST, *, clock: Clock = REAL_CLOCK) -> None:
        if not qps > 0:
            raise ValueError(f"qps must be above 0, not {qps}")
        if burst < 1:
            raise ValueError(f"burst must be at least 1, not {burst}")
        self._qps = qps
        self._burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens = float(burst)  # below zero: number of reserved future tokens
        self._updated = clock.monotonic()

    def when(self, key: K) -> float:  # noqa: ARG002
        with self._lock:
            now = self._clock.monotonic()
            self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._qps) - 1
            self._updated = now
            return max(0.0, -self._tokens / self._qps)

    def forget(self, key: K) -> None:
        pass

    def num_requeues(self, key: K) -> int:  # noqa: ARG002
        return 0


class MaxOfRateLimiter(Generic[K]):
    """The longest delay and the highest count of several limiters.

    Each limiter is called, so a token is used even if another limiter has the longer delay. Raises ValueError without a
    limiter.
    """

    def __init__(self, *limiters: RateLimiter[K]) -> None:
        if not limiters:
            raise ValueError("MaxOfRateLimiter needs at least one limiter")
        self._limiters = limiters

    def when(self, key: K) -> float:
        return max(limiter.when(key) for limiter in self._limiters)

    def forget(self, key: K) -> None:
        for limiter in self._limiters:
            limiter.forget(key)

    def num_requeues(self, key: K) -> int:
        return max(limiter.num_requeues(key) for limiter in self._limiters)


class WithMaxWaitRateLimiter(Generic[K]):
    """The delays of another limiter, limited to `max_wait` seconds."""

    def __init__(self, limiter: RateLimiter[K], max_wait: float) -> None:
        self._limiter = limiter
        self._max_wait = max_wait

    def when(self, key: K) -> float:
        return min(self._limiter.when(key), self._max_wait)

    def forget(self, key: K) -> None:
        self._limiter.forget(key)

    def num_requeues(self, key: K) -> int:
        return self._limiter.num_requeues(key)


def default_controller_rate_limiter(clock: Clock = REAL_CLOCK) -> MaxOfRateLimiter[Hashable]:
    """For each key 5 ms, doubled up to 1000 s, and for all keys 10 per second with a burst of 100; the longer delay
    counts.
    """
    return MaxOfRateLimiter(ItemExponentialFailureRateLimiter(), BucketRateLimiter(clock=clock))


def default_item_based_rate_limiter() -> ItemExponentialFailureRateLimiter[Hashable]:
    """For each key: 1 ms, doubled up to 1000 s."""
    return ItemExponentialFailureRateLimiter(base=_ITEM_BASED_BASE_SECONDS)
