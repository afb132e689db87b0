"""When something that failed may be tried again: growing delays with jitter, forgotten as soon as something changed.

A queue's rate limiter cannot do this: it delays a key, but any event on the key ends the delay, and writing down a
failure is itself an event. So the delay sits here, in front of the call that must not be repeated without a pause.
"""

import threading
from collections.abc import Callable

from workqueue.clock import Clock

BASE_SECONDS = 1.0  # a pod that waits for its Compass at start should not wait long
_FACTOR = 2.0
_JITTER = 0.2  # of the delay: a thousand Runtimes that lost one Connector must not come back together
_MAX_DOUBLINGS = 32  # any cap is reached by then; more would overflow


class Backoff:
    """Delays for one thing at a time. Another thing (a changed token, say) may be tried at once. Thread-safe."""

    def __init__(self, *, cap: float, clock: Clock, random: Callable[[], float], base: float = BASE_SECONDS) -> None:
        self._base = min(base, cap)
        self._cap = cap
        self._clock = clock
        self._random = random
        self._lock = threading.Lock()
        self._what = ""
        self._failures = 0
        self._next = 0.0

    def wait(self, what: str) -> float:
        """Seconds until ``what`` may be tried; 0 means now."""
        with self._lock:
            return max(0.0, self._next - self._clock.monotonic()) if what == self._what else 0.0

    def failed(self, what: str, *, at_least: float | None = None) -> float:
        """Note a failure of ``what``; gives the seconds until it may be tried again.

        ``at_least`` is what the server asked for, in seconds; it is bounded by the cap and gets jitter, too.
        """
        with self._lock:
            self._failures = self._failures + 1 if what == self._what else 1
            self._what = what
            delay = min(self._cap, self._base * _FACTOR ** min(self._failures - 1, _MAX_DOUBLINGS))
            # A server tells all its clients the same at_least: they must not come back in the same moment either.
            delay = max(delay, min(at_least or 0.0, self._cap)) * (1 + _JITTER * self._random())
            self._next = self._clock.monotonic() + delay
            return delay

    def succeeded(self) -> None:
        """Start anew with the shortest delay."""
        with self._lock:
            self._what, self._failures, self._next = "", 0, 0.0
