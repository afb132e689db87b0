"""A clock for tests: time stands still until the test moves it.

A test of a threaded component runs in steps, none of which depends on how fast the machine is:

    clock.wait_for_waiters(1)   # the thread under test has done all it can do and waits
    clock.advance(5)            # its deadline passes
    clock.wait_for_waiters(1)   # it has reacted and waits again
"""

import math
import threading
import time
from dataclasses import dataclass

_START_OF_WALL_CLOCK = 1_767_225_600.0  # 2026-01-01T00:00:00Z: a fixed date, so that serialised times can be asserted
_STOP_POLL_SECONDS = 0.001  # real time; see VirtualClock.sleep


@dataclass(eq=False, slots=True)
class _Waiter:
    deadline: float
    parked_on: threading.Condition | threading.Event
    expired: bool = False


class VirtualClock:
    """A Clock that moves only by advance() and set_time(). monotonic() starts at 0, time() at 2026-01-01T00:00:00Z.

    Safe for any number of threads. The thread that calls advance() or wait_for_waiters() must not hold a condition
    that others wait on through this clock.
    """

    def __init__(self) -> None:
        # Guards all fields. Taken inside a waiter's condition, never around one.
        self._changed = threading.Condition()
        self._now = 0.0
        self._wall_minus_monotonic = _START_OF_WALL_CLOCK
        self._waiters: set[_Waiter] = set()
        self._registrations = 0

    def monotonic(self) -> float:
        with self._changed:
            return self._now

    def time(self) -> float:
        with self._changed:
            return self._now + self._wall_minus_monotonic

    def advance(self, seconds: float) -> None:
        """Move both clocks ahead and wake all threads whose deadline is reached.

        Other threads that wait on the same condition wake up too, as after a notify_all(). Raises ValueError if
        `seconds` is negative.
        """
        if not seconds >= 0:
            raise ValueError(f"a monotonic clock cannot advance by {seconds} seconds")
        with self._changed:
            self._now += seconds
            due = {waiter for waiter in self._waiters if waiter.deadline <= self._now}
            # Forgotten here and not by their threads: the next wait_for_waiters() must not count them once more.
            self._waiters -= due
            for waiter in due:
                waiter.expired = True
        for condition in {w.parked_on for w in due if isinstance(w.parked_on, threading.Condition)}:
            with condition:
                condition.notify_all()

    def set_time(self, epoch_seconds: float) -> None:
        """Change the wall clock, in either direction; monotonic() and all deadlines stay."""
        with self._changed:
            self._wall_minus_monotonic = epoch_seconds - self._now

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """See Clock.wait. `timeout` is in virtual seconds."""
        waiter = self._register(timeout, condition)
        if waiter is None:
            return False
        try:
            # No wake-up is lost: advance() notifies under the condition, which is held until this thread is parked.
            condition.wait()
        finally:
            self._unregister(waiter)
        return not waiter.expired

    def sleep(self, seconds: float, stop: threading.Event) -> bool:
        """See Clock.sleep. `seconds` are virtual."""
        waiter = self._register(seconds, stop)
        if waiter is None:
            return stop.is_set()
        try:
            # An Event cannot be waited on together with anything else, so the deadline is polled for in real time.
            while not stop.wait(_STOP_POLL_SECONDS):
                if waiter.expired:
                    return stop.is_set()
        finally:
            self._unregister(waiter)
        return True

    def wait_for_waiters(self, count: int, timeout: float = 60.0) -> None:
        """Block until at least `count` threads wait on this clock, with or without a deadline.

        A thread that has been notified, whose deadline is reached or whose stop event is set does not count, even if it
        has not run yet. Raises TimeoutError after `timeout` real seconds.
        """
        give_up = time.monotonic() + timeout
        while True:
            with self._changed:
                seen = self._registrations
                places = {waiter.parked_on for waiter in self._waiters}
            waiting = sum(self._parked(place) for place in places)
            if waiting >= count:
                return
            with self._changed:
                if not self._changed.wait_for(lambda: self._registrations != seen, give_up - time.monotonic()):  # noqa: B023
                    raise TimeoutError(f"{waiting} instead of {count} threads wait on the clock after {timeout} s")

    def _parked(self, place: threading.Condition | threading.Event) -> int:
        if isinstance(place, threading.Event):
            return 0 if place.is_set() else self._registered(place)
        # With the condition held each of its waiters is either parked or notified. Only the condition itself can tell
        # which, and it has no public name for that.
        with place:
            return min(self._registered(place), len(place._waiters))  # type: ignore[attr-defined]

    def _registered(self, place: threading.Condition | threading.Event) -> int:
        with self._changed:
            return sum(waiter.parked_on is place for waiter in self._waiters)

    def _register(self, timeout: float | None, place: threading.Condition | threading.Event) -> _Waiter | None:
        """Enter the caller as a waiter; None if its deadline is reached already."""
        with self._changed:
            waiter = _Waiter(math.inf if timeout is None else self._now + timeout, place)
            if waiter.deadline <= self._now:
                return None
            self._waiters.add(waiter)
            self._registrations += 1
            self._changed.notify_all()
            return waiter

    def _unregister(self, waiter: _Waiter) -> None:
        with self._changed:
            self._waiters.discard(waiter)
