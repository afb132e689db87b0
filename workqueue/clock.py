"""Time as an argument: all waits and measurements use a Clock, so that a test can pass one of its own."""

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Source of time for one process. All methods may be called from any thread."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back. For every delay and age."""
        ...

    def time(self) -> float:
        """Wall clock in seconds since 1970-01-01 UTC. Only for fields that are serialised: it may jump."""
        ...

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait until `condition` (held by the caller) is notified; False if `timeout` seconds passed first.

        As with Condition.wait, a wake-up may be spurious: the caller checks its predicate again.
        """
        ...

    def sleep(self, seconds: float, stop: threading.Event) -> bool:
        """Wait `seconds` or until `stop` is set. True means that `stop` is set."""
        ...


class RealClock:
    """The clock of the machine."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        # Longer timeouts, infinity included, raise OverflowError in the interpreter.
        return condition.wait(None if timeout is None else min(timeout, threading.TIMEOUT_MAX))

    def sleep(self, seconds: float, stop: threading.Event) -> bool:
        return stop.wait(min(seconds, threading.TIMEOUT_MAX))


REAL_CLOCK: Clock = RealClock()
"""The default for all clock arguments. RealClock has no state, so one instance is enough."""
