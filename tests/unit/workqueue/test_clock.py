"""The clocks: the real one is the machine's, the virtual one moves only when told."""

import math
import threading
import time

import pytest

from tests.unit.workqueue.conftest import Threads
from workqueue import RealClock
from workqueue.testing import VirtualClock


class TestVirtualClock:
    def test_time_stands_still_until_advanced(self, clock: VirtualClock) -> None:
        """monotonic() starts at 0, time() at 2026-01-01, and both move by what advance() says."""
        assert (clock.monotonic(), clock.time()) == (0.0, 1_767_225_600.0)
        clock.advance(2.5)
        assert (clock.monotonic(), clock.time()) == (2.5, 1_767_225_602.5)

    def test_wall_clock_jumps_without_monotonic(self, clock: VirtualClock) -> None:
        """set_time() moves the wall clock only, also backwards."""
        clock.advance(10)
        clock.set_time(1000)
        assert (clock.monotonic(), clock.time()) == (10.0, 1000.0)
        clock.advance(1)
        assert (clock.monotonic(), clock.time()) == (11.0, 1001.0)

    @pytest.mark.parametrize("seconds", [-0.001, math.nan])
    def test_cannot_go_back(self, clock: VirtualClock, seconds: float) -> None:
        """A negative advance and one by no number are refused."""
        with pytest.raises(ValueError, match="cannot advance"):
            clock.advance(seconds)

    def test_wait_times_out_at_its_deadline(self, clock: VirtualClock, threads: Threads) -> None:
        """A wait ends with False when its deadline is reached, and not earlier."""
        condition = threading.Condition()
        results: list[bool] = []

        def wait() -> None:
            with condition:
                results.append(clock.wait(condition, 5))

        threads.start(wait)
        clock.wait_for_waiters(1)
        clock.advance(4.999)
        clock.wait_for_waiters(1)
        assert results == []
        clock.advance(0.001)
        threads.join()
        assert results == [False]

    def test_wait_ends_on_notify(self, clock: VirtualClock, threads: Threads) -> None:
        """A notified wait returns True, whether it had a deadline or not."""
        condition = threading.Condition()
        results: list[bool] = []

        def wait(timeout: float | None) -> None:
            with condition:
                results.append(clock.wait(condition, timeout))

        threads.start(wait, 5)
        threads.start(wait, None)
        clock.wait_for_waiters(2)
        with condition:
            condition.notify_all()
        threads.join()
        assert results == [True, True]

    @pytest.mark.parametrize("timeout", [0, -1])
    def test_wait_without_time_does_not_block(self, clock: VirtualClock, timeout: float) -> None:
        """A timeout of zero or less is over at once."""
        condition = threading.Condition()
        with condition:
            assert clock.wait(condition, timeout) is False

    def test_sleep_ends_by_time_or_stop(self, clock: VirtualClock, threads: Threads) -> None:
        """sleep() is False when the time has passed, True when stop was set first."""
        never, stopped = threading.Event(), threading.Event()
        results: dict[str, bool] = {}
        threads.start(lambda: results.update(never=clock.sleep(5, never)))
        threads.start(lambda: results.update(stopped=clock.sleep(60, stopped)))
        clock.wait_for_waiters(2)
        clock.advance(5)
        clock.wait_for_waiters(1)
        stopped.set()
        threads.join()
        assert results == {"never": False, "stopped": True}

    def test_sleep_without_time_tells_whether_to_stop(self, clock: VirtualClock) -> None:
        """A sleep of zero or less returns at once, with the state of stop."""
        stop = threading.Event()
        assert clock.sleep(0, stop) is False
        stop.set()
        assert clock.sleep(-1, stop) is True
        assert clock.sleep(10, stop) is True

    def test_woken_threads_do_not_count_as_waiting(self, clock: VirtualClock, threads: Threads) -> None:
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

    def test_notified_thread_is_counted_again_only_when_it_waits_again(
        self, clock: VirtualClock, threads: Threads, eager_switching: None
    ) -> None:
        """After notify() and wait_for_waiters(1) the waiter has done its round, and its effect is seen."""
        condition = threading.Condition()
        rounds, wanted = 0, 0

        def loop() -> None:
            nonlocal rounds
            with condition:
                while rounds < 500:
                    while rounds == wanted:
                        clock.wait(condition, None)
                    rounds += 1

        threads.start(loop)
        for expected in range(1, 500):
            clock.wait_for_waiters(1)
            with condition:
                wanted = expected
                condition.notify()
            clock.wait_for_waiters(1)
            assert rounds == expected
        with condition:
            wanted = 500
            condition.notify()

    def test_advance_steps_a_loop_exactly(self, clock: VirtualClock, threads: Threads, eager_switching: None) -> None:
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


class TestRealClock:
    def test_reads_the_machine(self) -> None:
        """monotonic() and time() are those of the machine."""
        clock = RealClock()
        assert time.monotonic() <= clock.monotonic() <= time.monotonic()
        assert clock.time() == pytest.approx(time.time(), abs=5)

    def test_wait_and_sleep_time_out(self) -> None:
        """Both end with False after their time."""
        clock, condition = RealClock(), threading.Condition()
        started = time.monotonic()
        with condition:
            assert clock.wait(condition, 0.01) is False
        assert clock.sleep(0.01, threading.Event()) is False
        assert time.monotonic() - started >= 0.02

    def test_infinite_times_are_waited_for(self, threads: Threads) -> None:
        """An infinite timeout waits for the notify or the stop instead of raising OverflowError."""
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
