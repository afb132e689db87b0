"""The wait after a failure."""

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
