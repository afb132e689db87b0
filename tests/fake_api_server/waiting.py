"""Time in tests with real threads: clocks that skip or shorten waits, and a wait for conditions."""

import threading
import time
from collections.abc import Callable


class HastyClock:
    """A sleep takes a millisecond, and monotonic() moves by its full length. Timers (threads whose names end in
    "-timer") use real time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._skipped = 0.0
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        with self._lock:
            return time.monotonic() + self._skipped

    def time(self) -> float:
        return time.time()

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        return condition.wait(timeout)

    def sleep(self, seconds: float, stop: threading.Event) -> bool:
        if threading.current_thread().name.endswith("-timer"):
            return stop.wait(seconds)
        with self._lock:
            self._skipped += seconds
            self.sleeps.append(seconds)
        return stop.wait(0.001)


class FastClock:
    """`scale` times as fast as the clock of the machine."""

    def __init__(self, scale: float) -> None:
        self._scale = scale

    def monotonic(self) -> float:
        return time.monotonic() * self._scale

    def time(self) -> float:
        return time.time()

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        return condition.wait(None if timeout is None else timeout / self._scale)

    def sleep(self, seconds: float, stop: threading.Event) -> bool:
        return stop.wait(seconds / self._scale)


def eventually(condition: Callable[[], object], timeout: float = 60.0) -> None:
    """Wait until the condition is true. Raises TimeoutError with its last value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"still {value!r} after {timeout} s")
        time.sleep(0.002)
