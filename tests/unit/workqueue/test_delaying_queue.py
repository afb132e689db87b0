"""Rules of add_after(), on virtual time."""

import math
import threading

import pytest

from tests.unit.workqueue.conftest import Threads
from workqueue import DelayingQueue, ShutDown
from workqueue.testing import VirtualClock


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
def waits(clock: RecordingClock) -> list[float | None]:
    return clock.waits


@pytest.fixture
def queue(clock: VirtualClock) -> DelayingQueue[str]:
    return DelayingQueue(clock=clock)


@pytest.mark.parametrize(
    ("adds", "schedule"),
    [
        pytest.param([(0, "a", 5)], {5: ["a"]}, id="comes when its delay has passed"),
        pytest.param([(0, "a", 0), (0, "b", -1)], {0: ["a", "b"]}, id="zero or less means now"),
        pytest.param([(0, "a", 3), (0, "b", 1), (0, "c", 2)], {1: ["b"], 2: ["c"], 3: ["a"]}, id="in order of time"),
        pytest.param([(0, "a", 5), (0, "a", 2)], {2: ["a"]}, id="an earlier time wins"),
        pytest.param([(0, "a", 2), (0, "a", 5)], {2: ["a"]}, id="a later time does not postpone"),
        pytest.param([(0, "a", 5), (3, "a", 1)], {4: ["a"]}, id="what counts is the end, not the length"),
        pytest.param([(0, "a", 2), (3, "a", 2)], {2: ["a"], 5: ["a"]}, id="free to wait again once it was queued"),
        pytest.param([(0, "a", 4), (1, "a", 0)], {1: ["a"], 4: ["a"]}, id="an add now leaves the delay in force"),
        pytest.param([(0, "b", 2), (0, "a", 2), (0, "c", 2)], {2: ["b", "a", "c"]}, id="FIFO at the same moment"),
        pytest.param([(0, "a", 86_400)], {86_400: ["a"]}, id="a day"),
    ],
)
def test_schedule(
    queue: DelayingQueue[str],
    clock: VirtualClock,
    adds: list[tuple[int, str, float]],
    schedule: dict[int, list[str]],
) -> None:
    """(when, key, delay) of adds, and what comes when, to the second; nothing else ever comes."""
    came: dict[int, list[str]] = {}
    for second in sorted({when for when, _, _ in adds} | set(schedule) | {s - 1 for s in schedule if s} | {100_000}):
        clock.advance(second - clock.monotonic())
        for key, delay in [(key, delay) for when, key, delay in adds if when == second]:
            queue.add_after(key, delay)
        while len(queue):
            came.setdefault(second, []).append(queue.get())
            queue.done(came[second][-1])
    assert came == schedule


def test_keys_due_in_one_jump_come_in_order_of_time(queue: DelayingQueue[str], clock: VirtualClock) -> None:
    """Whoever looks late finds the queue as if he had looked all the time, adds in between included."""
    queue.add_after("third", 3)
    queue.add_after("first", 1)
    clock.advance(2)
    queue.add("second")
    clock.advance(2)
    queue.add("fourth")
    assert [queue.get() for _ in range(4)] == ["first", "second", "third", "fourth"]


def test_priority_of_a_delayed_key(queue: DelayingQueue[str], clock: VirtualClock) -> None:
    """It counts from the moment the delay has passed; of several the highest counts, whichever delay wins."""
    queue.add_after("a", 1, priority=-5)
    queue.add_after("b", 2, priority=5)
    queue.add_after("b", 1, priority=1)
    queue.add("c", priority=3)
    queue.add_after("d", 0, priority=9)
    assert len(queue) == 2
    clock.advance(1)
    assert [queue.get() for _ in range(4)] == ["d", "b", "c", "a"]


def test_priority_of_an_earlier_wait_is_forgotten(queue: DelayingQueue[str], clock: VirtualClock) -> None:
    """A key that waits again starts with the priority it is given then."""
    queue.add_after("a", 1, priority=9)
    clock.advance(1)
    queue.done(queue.get())
    queue.add_after("a", 1, priority=0)
    queue.add_after("b", 1, priority=1)
    clock.advance(1)
    assert [queue.get(), queue.get()] == ["b", "a"]


def test_delay_that_ends_while_processing_waits_for_done(queue: DelayingQueue[str], clock: VirtualClock) -> None:
    """Also then one key is with one worker only."""
    queue.add("a")
    queue.get()
    queue.add_after("a", 1)
    clock.advance(1)
    assert len(queue) == 0
    queue.done("a")
    assert queue.get() == "a"


def test_delay_that_ends_before_done_keeps_its_place(queue: DelayingQueue[str], clock: VirtualClock) -> None:
    """A key whose delay ended first comes before one that done() queues again later."""
    queue.add("a")
    queue.get()
    queue.add("a")
    queue.add_after("b", 1)
    clock.advance(2)
    queue.done("a")
    assert [queue.get(), queue.get()] == ["b", "a"]


def test_waiting_worker_wakes_at_the_deadline(queue: DelayingQueue[str], clock: VirtualClock, threads: Threads) -> None:
    """No add is needed to wake it, and it does not wake earlier."""
    got: list[str] = []
    queue.add_after("a", 5)
    threads.start(lambda: got.append(queue.get()))
    clock.wait_for_waiters(1)
    clock.advance(4.999)
    clock.wait_for_waiters(1)
    assert got == []
    clock.advance(0.001)
    threads.join()
    assert got == ["a"]


def test_waiting_worker_learns_of_an_earlier_deadline(
    queue: DelayingQueue[str], clock: VirtualClock, threads: Threads
) -> None:
    """One that sleeps without a deadline, or until a later one, wakes in time for a new key."""
    got: list[str] = []
    threads.start(lambda: got.append(queue.get()))
    clock.wait_for_waiters(1)
    queue.add_after("late", 8)
    clock.wait_for_waiters(1)
    queue.add_after("early", 2)
    clock.wait_for_waiters(1)
    clock.advance(2)
    threads.join()
    assert got == ["early"]


def test_each_waiting_worker_watches_the_deadlines(
    queue: DelayingQueue[str], clock: VirtualClock, threads: Threads, waits: list[float | None]
) -> None:
    """All of them know the first one: were it one only, and that one busy later, the next key would be late."""
    got: list[str] = []
    for _ in range(2):
        threads.start(lambda: got.append(queue.get()))
    clock.wait_for_waiters(2)
    queue.add_after("a", 5)
    clock.wait_for_waiters(2)
    assert waits == [None, None, 5, 5]
    queue.add_after("b", 8)
    clock.wait_for_waiters(2)
    clock.advance(5)
    clock.wait_for_waiters(1)
    assert waits == [None, None, 5, 5, 3]
    clock.advance(3)
    threads.join()
    assert sorted(got) == ["a", "b"]


def test_workers_wake_for_all_keys_of_one_moment(
    queue: DelayingQueue[str], clock: VirtualClock, threads: Threads
) -> None:
    """Two keys due together go to two waiting workers."""
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


def test_waiting_worker_looks_again_each_ten_seconds(
    queue: DelayingQueue[str], clock: VirtualClock, threads: Threads, waits: list[float | None]
) -> None:
    """Insurance: a deadline a day away is not slept for in one go."""
    queue.add_after("a", 86_400)
    got: list[str] = []
    threads.start(lambda: got.append(queue.get()))
    clock.wait_for_waiters(1)
    clock.advance(10)
    clock.wait_for_waiters(1)
    clock.advance(86_390)
    threads.join()
    assert waits == [10.0, 10.0]
    assert got == ["a"]


def test_worker_of_a_queue_without_delays_sleeps_for_good(
    queue: DelayingQueue[str], clock: VirtualClock, threads: Threads, waits: list[float | None]
) -> None:
    """Nothing delayed, no wake-ups: an idle queue costs nothing."""
    threads.start(queue.get)
    clock.wait_for_waiters(1)
    clock.advance(3600)
    queue.add("a")
    threads.join()
    assert waits == [None]


def test_delays_end_on_the_machines_clock(threads: Threads) -> None:
    """With the real clock a sleeping worker gets the key too, and an endless delay disturbs nobody."""
    queue: DelayingQueue[str] = DelayingQueue()
    queue.add_after("never", math.inf)
    queue.add_after("a", 0.01)
    assert queue.get() == "a"


@pytest.mark.parametrize("drain", [False, True])
def test_shutdown_drops_what_waits(queue: DelayingQueue[str], clock: VirtualClock, drain: bool) -> None:
    """Delays that have not passed end with either shutdown, and new ones are ignored."""
    queue.add_after("a", 1)
    if drain:
        queue.shut_down_with_drain()
    else:
        queue.shut_down()
    queue.add_after("b", 0)
    queue.add_after("c", 1)
    clock.advance(10)
    with pytest.raises(ShutDown):
        queue.get()


def test_shutdown_keeps_what_is_due(queue: DelayingQueue[str], clock: VirtualClock) -> None:
    """A delay that has passed before the shutdown counts as an add before the shutdown."""
    queue.add_after("a", 1)
    clock.advance(1)
    queue.shut_down()
    assert queue.get() == "a"


def test_shutdown_wakes_a_worker_that_waits_for_a_deadline(
    queue: DelayingQueue[str], clock: VirtualClock, threads: Threads
) -> None:
    """It leaves at once, not at the deadline."""

    def leave() -> None:
        with pytest.raises(ShutDown):
            queue.get()

    queue.add_after("a", 3600)
    threads.start(leave)
    clock.wait_for_waiters(1)
    queue.shut_down()
    threads.join()


def test_delay_must_be_a_number(queue: DelayingQueue[str], clock: VirtualClock) -> None:
    """NaN, which has no place in any order, is refused and leaves the queue as it was."""
    with pytest.raises(ValueError, match="not a number"):
        queue.add_after("a", math.nan)
    queue.add_after("b", 1)
    clock.advance(1)
    assert queue.get() == "b"
    assert len(queue) == 0
