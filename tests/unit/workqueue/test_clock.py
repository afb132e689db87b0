"""The clocks: the virtual one moves only when told, and tells when nothing is left to do."""

import math
import threading

import pytest

from tests.clock import VirtualClock
from tests.unit.workqueue.conftest import Threads
from workqueue import RealClock


def test_time_stands_still_until_advanced(clock: VirtualClock) -> None:
    """monotonic() starts at 0, time() at 2026-01-01; only the wall clock can be set, also backwards."""
    assert (clock.monotonic(), clock.time()) == (0.0, 1_767_225_600.0)
    clock.advance(2.5)
    assert (clock.monotonic(), clock.time()) == (2.5, 1_767_225_602.5)
    clock.set_time(1000)
    clock.advance(1)
    assert (clock.monotonic(), clock.time()) == (3.5, 1001.0)
    with pytest.raises(ValueError, match="cannot advance"):
        clock.advance(-0.001)


def test_sleep_ends_by_time_or_stop(clock: VirtualClock, threads: Threads) -> None:
    """sleep() is False when the time has passed, True when stop was set first."""
    never, stopped = threading.Event(), threading.Event()
    results: dict[str, bool] = {}
    threads.start(lambda: results.update(never=clock.sleep(5, never)))
    threads.start(lambda: results.update(stopped=clock.sleep(60, stopped)))
    clock.wait_for_waiters(2)
    clock.advance(4.999)
    clock.wait_for_waiters(2)
    clock.advance(0.001)
    clock.wait_for_waiters(1)
    stopped.set()
    threads.join()
    assert results == {"never": False, "stopped": True}
    assert clock.sleep(0, never) is False
    assert clock.sleep(-1, stopped) is True


def test_woken_threads_do_not_count_as_waiting(clock: VirtualClock, threads: Threads) -> None:
    """A thread is no waiter from the notify, deadline or stop on, even if it did not run since."""
    condition, stop = threading.Condition(), threading.Event()
    gate = threading.Lock()

    def wait(timeout: float | None) -> None:
        with condition:
            clock.wait(condition, timeout)
        with gate:
            pass

    gate.acquire()
    for timeout in (1, None):
        threads.start(wait, timeout)
    threads.start(clock.sleep, 1, stop)
    threads.start(clock.sleep, 2, stop)
    clock.wait_for_waiters(4)
    clock.advance(1)  # wakes both waits (they share the condition) and one sleep
    clock.wait_for_waiters(1)
    with pytest.raises(TimeoutError, match=r"1 instead of 2 threads"):
        clock.wait_for_waiters(2, timeout=0.05)
    stop.set()
    with pytest.raises(TimeoutError, match=r"0 instead of 1 threads"):
        clock.wait_for_waiters(1, timeout=0.05)
    gate.release()


def test_advance_steps_a_loop_exactly(clock: VirtualClock, threads: Threads, eager_switching: None) -> None:
    """advance() and wait_for_waiters(1) let a periodic thread do exactly one period."""
    stop = threading.Event()
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while not clock.sleep(10, stop):
            ticks += 1

    threads.start(tick)
    for expected in range(1, 20):
        clock.wait_for_waiters(1)
        clock.advance(10)
        clock.wait_for_waiters(1)
        assert ticks == expected
    stop.set()


def test_infinite_times_are_waited_for(threads: Threads) -> None:
    """On the clock of the machine too, whose timeouts have a limit."""
    clock, condition, stop = RealClock(), threading.Condition(), threading.Event()
    results: list[bool] = []
    waiting = threading.Event()

    def wait() -> None:
        with condition:
            waiting.set()
            results.append(clock.wait(condition, math.inf))

    threads.start(wait)
    threads.start(lambda: results.append(clock.sleep(math.inf, stop)))
    assert waiting.wait(10)
    with condition:
        condition.notify()
    stop.set()
    threads.join()
    assert results == [True, True]


def test_a_sleep_on_the_machines_clock_ends_by_time() -> None:
    assert RealClock().sleep(0.001, threading.Event()) is False
