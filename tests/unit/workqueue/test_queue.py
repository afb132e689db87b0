"""Rules of the plain queue: de-duplication, order, one worker per key, both shutdowns."""

import gc
import threading
import weakref

import pytest

from tests.unit.workqueue.conftest import Threads
from workqueue import (
    DelayingQueue,
    ItemExponentialFailureRateLimiter,
    Queue,
    RateLimitingQueue,
    ShutDown,
    default_controller_rate_limiter,
)
from workqueue.testing import VirtualClock


@pytest.fixture(params=["plain", "delaying", "rate limiting"])
def queue(request: pytest.FixtureRequest, clock: VirtualClock) -> Queue[str]:
    """Each kind of queue keeps the rules of the plain one."""
    if request.param == "plain":
        return Queue(clock=clock)
    if request.param == "delaying":
        return DelayingQueue(clock=clock)
    return RateLimitingQueue(default_controller_rate_limiter(clock), clock=clock)


def take_all(queue: Queue[str]) -> list[str]:
    """What is queued, in order; each key is done before the next is taken."""
    taken = []
    while len(queue):
        taken.append(queue.get())
        queue.done(taken[-1])
    return taken


@pytest.mark.parametrize(
    ("adds", "order"),
    [
        pytest.param([("a", 0), ("b", 0), ("c", 0)], ["a", "b", "c"], id="first come, first served"),
        pytest.param([("a", 0), ("b", 0), ("a", 0)], ["a", "b"], id="a second add changes nothing"),
        pytest.param([("a", -100), ("b", 0), ("c", 7)], ["c", "b", "a"], id="higher priority first"),
        pytest.param([("a", 1), ("b", 2), ("c", 1), ("d", 2)], ["b", "d", "a", "c"], id="FIFO within a priority"),
        pytest.param([("a", 0), ("b", 0), ("b", 5)], ["b", "a"], id="a second add raises the priority"),
        pytest.param([("a", 0), ("b", 5), ("b", 0), ("c", 3)], ["b", "c", "a"], id="a second add never lowers it"),
        pytest.param([("a", 0), ("b", 5), ("c", 5), ("a", 5)], ["a", "b", "c"], id="a raised key keeps its arrival"),
    ],
)
def test_order(queue: Queue[str], adds: list[tuple[str, int]], order: list[str]) -> None:
    """Keys come by priority, then by first arrival, each once."""
    for key, priority in adds:
        queue.add(key, priority=priority)
    assert len(queue) == len(order)
    assert take_all(queue) == order


def test_add_while_processing_waits_for_done(queue: Queue[str]) -> None:
    """A key that a worker has is not queued again until that worker's done(), however often it is added."""
    queue.add("a")
    assert queue.get() == "a"
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert take_all(queue) == ["a"]


def test_key_added_while_processing_queues_up_at_done(queue: Queue[str]) -> None:
    """Its place is that of the done(), not that of the add."""
    queue.add("a")
    queue.get()
    queue.add("a")
    queue.add("b")
    queue.done("a")
    assert take_all(queue) == ["b", "a"]


def test_priority_of_adds_while_processing(queue: Queue[str]) -> None:
    """The highest of them counts; the priority it was handed out with before does not."""
    queue.add("a", priority=9)
    queue.get()
    for priority in (1, 3, 2):
        queue.add("a", priority=priority)
    queue.done("a")
    queue.add("b", priority=4)
    queue.add("c", priority=3)
    assert take_all(queue) == ["b", "a", "c"]


def test_done_without_get_is_harmless(queue: Queue[str]) -> None:
    """Neither an unknown key nor a queued one is changed by done()."""
    queue.done("never seen")
    queue.add("a")
    queue.done("a")
    assert take_all(queue) == ["a"]
    queue.done("a")
    assert len(queue) == 0


def test_len_counts_queued_keys_only(queue: Queue[str]) -> None:
    """Keys that workers have do not count, even if they are dirty again."""
    for key in "abc":
        queue.add(key)
    queue.get()
    queue.add("a")
    assert len(queue) == 2


def test_get_blocks_until_add(queue: Queue[str], clock: VirtualClock, threads: Threads) -> None:
    """A worker that finds nothing sleeps until a key comes; one key wakes one worker."""
    got: list[str] = []
    for _ in range(2):
        threads.start(lambda: got.append(queue.get()))
    clock.wait_for_waiters(2)
    queue.add("a")
    clock.wait_for_waiters(1)
    queue.add("b")
    threads.join()
    assert sorted(got) == ["a", "b"]


def test_done_of_a_dirty_key_wakes_a_waiting_worker(queue: Queue[str], clock: VirtualClock, threads: Threads) -> None:
    """The key that done() queues again goes to whoever waits in get()."""
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


class TestShutDown:
    def test_later_adds_are_ignored(self, queue: Queue[str]) -> None:
        """After shut_down() nothing is accepted."""
        assert queue.shutting_down is False
        queue.shut_down()
        queue.add("a")
        assert queue.shutting_down is True
        with pytest.raises(ShutDown):  # type: ignore[unreachable]  # shut_down() changed what mypy has narrowed
            queue.get()

    def test_queued_keys_are_still_handed_out(self, queue: Queue[str]) -> None:
        """get() raises ShutDown only when the queue is empty."""
        queue.add("a")
        queue.add("b")
        queue.shut_down()
        assert take_all(queue) == ["a", "b"]
        with pytest.raises(ShutDown):
            queue.get()

    def test_key_dirty_while_processing_survives(self, queue: Queue[str]) -> None:
        """A key added while a worker had it, before the shutdown, is handed out once more after done()."""
        queue.add("a")
        queue.get()
        queue.add("a")
        queue.shut_down()
        queue.add("a")
        with pytest.raises(ShutDown):
            queue.get()
        queue.done("a")
        assert take_all(queue) == ["a"]

    def test_waiting_workers_leave(self, queue: Queue[str], clock: VirtualClock, threads: Threads) -> None:
        """All of them, not one."""

        def leave() -> None:
            with pytest.raises(ShutDown):
                queue.get()

        for _ in range(3):
            threads.start(leave)
        clock.wait_for_waiters(3)
        queue.shut_down()
        threads.join()

    def test_twice_is_once(self, queue: Queue[str]) -> None:
        """A second shutdown of either kind changes nothing."""
        queue.shut_down()
        queue.shut_down()
        queue.shut_down_with_drain()


class TestDrain:
    def test_of_an_idle_queue_returns_at_once(self, queue: Queue[str]) -> None:
        """With nothing queued and nothing in work there is nothing to wait for."""
        queue.add("a")
        queue.done(queue.get())
        queue.shut_down_with_drain()
        assert queue.shutting_down is True

    def test_waits_for_keys_that_workers_have(self, queue: Queue[str], clock: VirtualClock, threads: Threads) -> None:
        """It returns with the last done()."""
        queue.add("a")
        queue.add("b")
        queue.get()
        queue.get()
        drain = threads.start(queue.shut_down_with_drain)
        clock.wait_for_waiters(1)
        queue.done("a")
        clock.wait_for_waiters(1)
        assert drain.is_alive()
        queue.done("b")
        threads.join()

    def test_waits_for_queued_keys(self, queue: Queue[str], clock: VirtualClock, threads: Threads) -> None:
        """Also if no worker has any at the moment: what was accepted gets done."""
        queue.add("a")
        drain = threads.start(queue.shut_down_with_drain)
        clock.wait_for_waiters(1)
        assert queue.get() == "a"
        assert drain.is_alive()
        queue.done("a")
        threads.join()

    def test_waits_for_keys_added_while_processing(
        self, queue: Queue[str], clock: VirtualClock, threads: Threads
    ) -> None:
        """Their second round is part of the work."""
        queue.add("a")
        queue.get()
        queue.add("a")
        drain = threads.start(queue.shut_down_with_drain)
        clock.wait_for_waiters(1)
        queue.done("a")
        queue.get()
        assert drain.is_alive()
        queue.done("a")
        threads.join()

    def test_later_adds_are_ignored(self, queue: Queue[str], clock: VirtualClock, threads: Threads) -> None:
        """From its start on, not only from its end."""
        queue.add("a")
        queue.get()
        threads.start(queue.shut_down_with_drain)
        clock.wait_for_waiters(1)
        queue.add("a")
        queue.add("b")
        queue.done("a")
        threads.join()
        assert len(queue) == 0

    def test_shut_down_ends_the_wait(self, queue: Queue[str], clock: VirtualClock, threads: Threads) -> None:
        """A worker that never gives its key back cannot hold up a process that must go; all drainers are let go."""
        queue.add("a")
        queue.get()
        for _ in range(2):
            threads.start(queue.shut_down_with_drain)
        clock.wait_for_waiters(2)
        queue.shut_down()
        threads.join()

    def test_all_drainers_return(self, queue: Queue[str], clock: VirtualClock, threads: Threads) -> None:
        """The last done() releases each thread that drains."""
        queue.add("a")
        queue.get()
        for _ in range(2):
            threads.start(queue.shut_down_with_drain)
        clock.wait_for_waiters(2)
        queue.done("a")
        threads.join()


def test_bad_key_names_itself(queue: Queue[str]) -> None:
    """A key that is not hashable is refused and leaves the queue as it was."""
    with pytest.raises(TypeError, match="unhashable"):
        queue.add(["a"])  # type: ignore[arg-type]
    queue.add("a")
    assert take_all(queue) == ["a"]


def test_incomparable_keys_are_fine(clock: VirtualClock) -> None:
    """Keys need a hash, not an order."""
    queue: Queue[object] = Queue(clock=clock)
    keys = [object(), 1, "a", None, threading.Lock()]
    for key in keys:
        queue.add(key)
    assert [queue.get() for _ in keys] == keys


def test_a_key_that_is_done_is_not_kept(clock: VirtualClock) -> None:
    """A queue that lives for months must not hold what went through it."""

    class Key:
        """Something that can be watched going away."""

    queue: RateLimitingQueue[Key] = RateLimitingQueue(ItemExponentialFailureRateLimiter(), clock=clock)
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
