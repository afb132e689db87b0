"""The time of the next attempt after a failure: exponential back-off with jitter, reset when something changes.

A queue's rate limiter is not sufficient: it delays a key, but any event of the key ends the delay, and writing the
failure to the status is an event. So this back-off is applied before the call that must not be repeated without a
pause.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from controller.runtime.controller import Result
from informers.errors import ApiError
from workqueue.clock import Clock

log = logging.getLogger(__name__)

BASE_SECONDS = 1.0  # a Pod that starts before its Compass should not wait long
_FACTOR = 2.0
_JITTER = 0.2  # of the delay: a thousand Runtimes that lost one Connector must not retry at the same time
_PERIOD_JITTER = 0.1
_LONGEST_REQUESTED_SECONDS = 300.0  # by a server
_MAX_DOUBLINGS = 32  # any cap is reached by then; more would overflow


def with_jitter(period: float, random: Callable[[], float]) -> float:
    """The period, up to a tenth longer, in seconds: a thousand Runtimes must not ask one Compass at the same time."""
    return period * (1 + _PERIOD_JITTER * random())


class Backoff:
    """Delays for one key at a time. Another key (for example that of a changed token) has no delay. Thread-safe."""

    def __init__(self, *, cap: float, clock: Clock, random: Callable[[], float], base: float = BASE_SECONDS) -> None:
        self._base = min(base, cap)
        self._cap = cap
        self._clock = clock
        self._random = random
        self._lock = threading.Lock()
        self._key = ""
        self._failures = 0
        self._next = 0.0

    def wait(self, key: str) -> float:
        """Seconds until the next attempt for `key`; 0 means now."""
        with self._lock:
            return max(0.0, self._next - self._clock.monotonic()) if key == self._key else 0.0

    def failed(self, key: str, *, at_least: float | None = None) -> float:
        """Record a failure of `key`; returns the seconds until the next attempt.

        `at_least` is the server's Retry-After, in seconds. It is limited to five minutes, and gets jitter, too.
        """
        with self._lock:
            self._failures = self._failures + 1 if key == self._key else 1
            self._key = key
            delay = min(self._cap, self._base * _FACTOR ** min(self._failures - 1, _MAX_DOUBLINGS))
            # A server sends the same at_least to all its clients, which must not retry at the same time.
            delay = max(delay, min(at_least or 0.0, _LONGEST_REQUESTED_SECONDS)) * (1 + _JITTER * self._random())
            self._next = self._clock.monotonic() + delay
            return delay

    def succeeded(self) -> None:
        """Reset to the shortest delay."""
        with self._lock:
            self._key, self._failures, self._next = "", 0, 0.0


def reconcile_with_backoff(
    reconcile: Callable[[], Result], backoff: Backoff, key: str, *, report: Callable[[Exception], None]
) -> Result:
    """Run a reconciler; unexpected errors are logged and reported, and a back-off follows.

    Raises informers.ApiError, for which the queue has a back-off, and what `report` raises.
    """
    pause = backoff.wait(key)
    if pause > 0:
        return Result(requeue_after=pause)
    try:
        result = reconcile()
    except ApiError:
        raise
    except Exception as error:
        log.exception("Unexpected error")
        pause = backoff.failed(key)
        report(error)
        return Result(requeue_after=pause)
    backoff.succeeded()
    return result


@dataclass(frozen=True, kw_only=True)
class Pauses:
    """The back-offs: for a pairing, for calls to the Connector, for writes of the gateway's Secret, and for reconciles
    with an unexpected error.
    """

    pairing: Backoff
    connector: Backoff
    gateway: Backoff
    internal: Backoff
