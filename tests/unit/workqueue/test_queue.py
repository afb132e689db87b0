"""Rules of the queue that test_state_machine.py cannot see: who waits for how long, who wakes, what is refused."""

import gc
import math
import sys
import threading
import weakref

import pytest

from tests.clock import VirtualClock
from tests.unit.workqueue.conftest import Threads
from workqueue import RateLimitingQueue, ShutDown


class RecordingClock(VirtualClock):
    """Notes the timeouts that threads wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        self.waits.append(timeout)
        return super().wait(condition, timeout)


@pytest.fixture
def clock() -> RecordingClock:
    return RecordingClock()


@pytest.fixture
def queue(clock: RecordingClock) -> RateLimitingQueue[str]:
    return RateLimitingQueue(retry_base=100, clock=clock)


def take_all(queue: RateLimitingQueue[str]) -> list[str]:
    """What is queued, in order; each key is done before the next is taken."""
    taken = []
    while len(queue):
        taken.append(queue.get())
        queue.done(taken[-1])
    return taken


class TestWaitingWorkers:
    """Threads in get()."""

    def test_one_key_wakes_one(self, queue: RateLimitingQueue[str], clock: VirtualClock, threads: Threads) -> None:
        got: list[str] = []
        for _ in range(2):
            threads.start(lambda: got.append(queue.get()))
        clock.wait_for_waiters(2)
        queue.add("a")
        clock.wait_for_waiters(1)
        queue.add("b")
        threads.join()
        assert sorted(got) == ["a", "b"]

    def test_done_of_a_dirty_key_wakes_one(
        self, queue: RateLimitingQueue[str], clock: VirtualClock, threads: Threads
    ) -> None:
        queue.add("a")
        queue.get()
        queue.add("a")
        got: list[str] = []
        threads.start(lambda: got.append(queue.get()))
        clock.wait_for_waiters(1)
        assert got == []
        queue.done("a")
        threads.join()
        assert got == ["a"]

    def test_leave_at_a_shutdown(self, queue: RateLimitingQueue[str], clock: VirtualClock, threads: Threads) -> None:
        """All of them, at once, also those that wait for a delay."""

        def leave() -> None:
            with pytest.raises(ShutDown):
                queue.get()

        queue.add_after("a", 3600)
        for _ in range(3):
            threads.start(leave)
        clock.wait_for_waiters(3)
        queue.shut_down()
        threads.join()

    def test_learn_of_an_earlier_deadline(
        self, queue: RateLimitingQueue[str], clock: VirtualClock, threads: Threads
    ) -> None:
        """One that sleeps without a deadline, or until a later one, wakes in time for a new key, and not earlier."""
        got: list[str] = []
        threads.start(lambda: got.append(queue.get()))
        clock.wait_for_waiters(1)
        queue.add_after("late", 8)
        clock.wait_for_waiters(1)
        queue.add_after("early", 2)
        clock.wait_for_waiters(1)
        clock.advance(1.999)
        clock.wait_for_waiters(1)
        assert got == []
        clock.advance(0.001)
        threads.join()
        assert got == ["early"]

    def test_each_watches_the_deadlines(
        self, queue: RateLimitingQueue[str], clock: RecordingClock, threads: Threads
    ) -> None:
        """All of them know the first one: were it one only, and that one busy later, the next key would be late."""
        got: list[str] = []
        for _ in range(2):
            threads.start(lambda: got.append(queue.get()))
        clock.wait_for_waiters(2)
        queue.add_after("a", 5)
        clock.wait_for_waiters(2)
        assert clock.waits == [None, None, 5, 5]
        queue.add_after("b", 8)
        clock.wait_for_waiters(2)
        clock.advance(5)
        clock.wait_for_waiters(1)
        assert clock.waits == [None, None, 5, 5, 3]
        clock.advance(3)
        threads.join()
        assert sorted(got) == ["a", "b"]

    def test_wake_for_all_keys_of_one_moment(
        self, queue: RateLimitingQueue[str], clock: VirtualClock, threads: Threads
    ) -> None:
        got: list[str] = []
        for _ in range(3):
            threads.start(lambda: got.append(queue.get()))
        clock.wait_for_waiters(3)
        queue.add_after("a", 5)
        queue.add_after("b", 5)
        clock.wait_for_waiters(3)
        clock.advance(5)
        clock.wait_for_waiters(1)
        queue.add("c")
        threads.join()
        assert sorted(got) == ["a", "b", "c"]

    def test_look_again_each_ten_seconds(
        self, queue: RateLimitingQueue[str], clock: RecordingClock, threads: Threads
    ) -> None:
        """Insurance: a deadline a day away is not slept for in one go. Without a deadline nobody looks."""
        got: list[str] = []
        threads.start(lambda: got.append(queue.get()))
        clock.wait_for_waiters(1)
        clock.advance(3600)
        queue.add_after("a", 86_400)
        clock.wait_for_waiters(1)
        clock.advance(10)
        clock.wait_for_waiters(1)
        clock.advance(86_390)
        threads.join()
        assert clock.waits == [None, 10.0, 10.0]
        assert got == ["a"]


def test_delays_end_on_the_machines_clock() -> None:
    """With the real clock a sleeping worker gets the key too, and an endless delay disturbs nobody."""
    queue: RateLimitingQueue[str] = RateLimitingQueue()
    queue.add_after("never", math.inf)
    queue.add_after("a", 0.01)
    assert queue.get() == "a"


class TestFailedKeys:
    """add_rate_limited()."""

    def test_wait_as_the_limiter_says(self, queue: RateLimitingQueue[str], clock: VirtualClock) -> None:
        """Each failure doubles the wait; after forget() it starts anew."""
        for wait in (100, 200, 400):
            queue.add_rate_limited("a")
            clock.advance(wait - 0.5)
            assert len(queue) == 0
            clock.advance(0.5)
            assert take_all(queue) == ["a"]
        assert queue.num_requeues("a") == 3
        for _ in range(2):
            queue.forget("a")
            assert queue.num_requeues("a") == 0
        queue.add_rate_limited("a")
        clock.advance(100)
        assert take_all(queue) == ["a"]

    @pytest.mark.parametrize(("base", "cap"), [(0.005, 1000.0), (1e300, sys.float_info.max)])
    def test_wait_twice_as_long_each_time_up_to_the_cap(self, base: float, cap: float) -> None:
        """Before a float overflows."""
        queue: RateLimitingQueue[str] = RateLimitingQueue(retry_base=base, retry_cap=cap)
        waits: list[float] = []
        queue.add_after = lambda _, seconds, **__: waits.append(seconds)  # type: ignore[method-assign]
        for _ in range(1100):
            queue.add_rate_limited("a")
        queue.add_rate_limited("b")
        assert waits[:3] == [base, 2 * base, 4 * base]
        assert waits[-2:] == [cap, base], "each key has its own count"

    def test_retry_now_ends_their_delays(self, queue: RateLimitingQueue[str], clock: VirtualClock) -> None:
        """They keep their priority and their count of failures; a key that waits for another reason goes on waiting."""
        queue.add_rate_limited("low", priority=-5)
        queue.add_rate_limited("high", priority=5)
        queue.add_after("later", 50)
        assert len(queue) == 0
        queue.retry_now()
        assert [queue.get_with_priority() for _ in range(len(queue))] == [("high", 5), ("low", -5)]
        queue.done("low")
        queue.add_rate_limited("low")
        clock.advance(199)
        assert take_all(queue) == ["later"]
        clock.advance(1)
        assert take_all(queue) == ["low"]

    def test_retry_now_wakes_a_waiting_worker(
        self, queue: RateLimitingQueue[str], clock: VirtualClock, threads: Threads
    ) -> None:
        queue.add_rate_limited("a")
        got: list[str] = []
        threads.start(lambda: got.append(queue.get()))
        clock.wait_for_waiters(1)
        queue.retry_now()
        threads.join()
        assert got == ["a"]


def test_bad_arguments_leave_the_queue_as_it_was(queue: RateLimitingQueue[str]) -> None:
    """A key that is not hashable, and a delay that has no place in any order."""
    with pytest.raises(TypeError, match="unhashable"):
        queue.add(["a"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not a number"):
        queue.add_after("a", math.nan)
    queue.add("a")
    assert take_all(queue) == ["a"]


def test_incomparable_keys_are_fine() -> None:
    """Keys need a hash, not an order."""
    queue: RateLimitingQueue[object] = RateLimitingQueue()
    keys = [object(), 1, "a", None, threading.Lock()]
    for key in keys:
        queue.add(key)
    assert [queue.get() for _ in keys] == keys


def test_the_priority_of_a_key_is_zero_by_default(queue: RateLimitingQueue[str], clock: VirtualClock) -> None:
    queue.add("now")
    queue.add_after("later", 1)
    queue.add_rate_limited("failed")
    clock.advance(100)
    assert {queue.get_with_priority() for _ in range(3)} == {("now", 0), ("later", 0), ("failed", 0)}


def test_a_key_that_is_done_is_not_kept(clock: VirtualClock) -> None:
    """A queue that lives for months must not hold what went through it."""

    class Key:
        """Something that can be watched going away."""

    queue: RateLimitingQueue[Key] = RateLimitingQueue(clock=clock)
    key = Key()
    gone = weakref.ref(key)
    queue.add_rate_limited(key)
    clock.advance(1)
    assert queue.get() is key
    queue.add(key)
    queue.done(key)
    assert queue.get() is key
    queue.forget(key)
    queue.done(key)
    del key
    gc.collect()
    assert gone() is None
