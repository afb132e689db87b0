"""The wait after a failure, and the time for which one kind of failure is retried."""

from collections.abc import Callable

from workqueue.clock import Clock

# client-go tools/cache/reflector.go: with the jitter the waits are 0.8 s to just under a minute, which protects a
# server with many clients.
INITIAL = 0.8
FACTOR = 2.0
CAP = 30.0
JITTER = 1.0
RESET_AFTER = 120.0


class Backoff:
    """Exponential back-off: 0.8 s, doubled at each step up to 30 s, each increased by up to 100 % at random.

    Reset when two minutes have passed since the last step (apimachinery wait.NewExponentialBackoffManager). Not
    thread-safe: it belongs to one loop.
    """

    def __init__(self, clock: Clock, random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random
        self._base = INITIAL
        self._last_step: float | None = None

    def next(self) -> float:
        """Seconds to wait now."""
        now = self._clock.monotonic()
        if self._last_step is not None and now - self._last_step > RESET_AFTER:
            self._base = INITIAL
        self._last_step = now
        base = self._base
        self._base = min(base * FACTOR, CAP)
        return base + self._random() * JITTER * base


class RetryWindow:
    """Whether a series of errors is still short enough for another try of the same (client-go: RetryWithDeadline).

    The series begins with its first error and ends when `reset_after` seconds pass without one.
    """

    def __init__(self, clock: Clock, *, seconds: float, reset_after: float = 60.0) -> None:
        self._clock = clock
        self._seconds = seconds
        self._reset_after = reset_after
        self._first: float | None = None
        self._last: float | None = None

    def should_retry(self) -> bool:
        """Record an error. True when the series is not older than the window; never for a window of 0."""
        now = self._clock.monotonic()
        if self._first is None or self._last is None or now - self._last >= self._reset_after:
            self._first = now
        self._last = now
        if self._seconds <= 0:
            return False
        if now - self._first <= self._seconds:
            return True
        self._first = self._last = None
        return False
