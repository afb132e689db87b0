"""Any sequence of calls: the queue behaves as a slow and obvious model of it."""

import threading
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.clock import VirtualClock
from workqueue import QueueGauges, QueueMetrics, RateLimitingQueue, ShutDown

KEYS = st.sampled_from("abcde")
PRIORITIES = st.integers(-1, 2)
DELAYS = st.integers(-1, 6)


class Recorder(QueueMetrics):
    """Those of one queue."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.adds = 0
        self.retries = 0
        self.queued: list[float] = []
        self.worked: list[float] = []

    def queue(self, name: str, gauges: Callable[[], QueueGauges]) -> None:
        self.names.append(name)
        self.gauges = gauges

    def key_added(self, name: str) -> None:
        assert [name] == self.names
        self.adds += 1

    def key_taken(self, name: str, *, queued_seconds: float) -> None:
        assert [name] == self.names
        self.queued.append(queued_seconds)

    def key_done(self, name: str, *, work_seconds: float) -> None:
        assert [name] == self.names
        self.worked.append(work_seconds)

    def key_delayed(self, name: str) -> None:
        assert [name] == self.names
        self.retries += 1


class NeverWaits(VirtualClock):
    """The machine calls get() only when there is a key: a queue that would block lost it."""

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        raise AssertionError("the queue would block although there is work")


class QueueMachine(RuleBasedStateMachine):
    """The model queues a delayed key at the very moment its delay ends; the queue only seems to."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = NeverWaits()
        self.metrics = Recorder()
        self.queue: RateLimitingQueue[str] = RateLimitingQueue(name="test", clock=self.clock, metrics=self.metrics)
        self.now = 0
        self.waiting: list[str] = []  # queued keys by arrival
        self.dirty: dict[str, tuple[int, int]] = {}  # priority, since when
        self.processing: dict[str, int] = {}  # since when
        self.delayed: dict[str, tuple[int, int]] = {}  # ready at, priority; by arrival
        self.shut = False
        self.adds = 0
        self.retries = 0

    def model_add(self, key: str, priority: int) -> None:
        if self.shut:
            return
        if key in self.dirty:
            highest, since = self.dirty[key]
            self.dirty[key] = max(priority, highest), since
            return
        self.adds += 1
        self.dirty[key] = priority, self.now
        if key not in self.processing:
            self.waiting.append(key)

    @rule(key=KEYS, priority=PRIORITIES)
    def add(self, key: str, priority: int) -> None:
        self.queue.add(key, priority=priority)
        self.model_add(key, priority)

    @rule(key=KEYS, delay=DELAYS, priority=PRIORITIES)
    def add_after(self, key: str, delay: int, priority: int) -> None:
        self.queue.add_after(key, delay, priority=priority)
        if self.shut:
            return
        self.retries += 1
        if delay <= 0:
            self.model_add(key, priority)
            return
        ready_at, highest = self.delayed.get(key, (self.now + delay, priority))
        self.delayed[key] = min(ready_at, self.now + delay), max(highest, priority)

    @rule(seconds=st.integers(0, 5))
    def advance(self, seconds: int) -> None:
        self.clock.advance(seconds)
        for _ in range(seconds):
            self.now += 1
            for key in [key for key, (ready_at, _) in self.delayed.items() if ready_at == self.now]:
                self.model_add(key, self.delayed.pop(key)[1])

    @precondition(lambda self: self.waiting)
    @rule()
    def get(self) -> None:
        expected = max(self.waiting, key=lambda key: self.dirty[key][0])
        got, priority = self.queue.get_with_priority()
        assert got not in self.processing, "one key at two workers"
        assert got == expected
        self.waiting.remove(got)
        highest, since = self.dirty.pop(got)
        assert priority == highest
        assert self.metrics.queued[-1] == self.now - since
        self.processing[got] = self.now

    @rule(key=KEYS)
    def done(self, key: str) -> None:
        self.queue.done(key)
        started = self.processing.pop(key, None)
        if started is None:
            return
        assert self.metrics.worked[-1] == self.now - started
        if key in self.dirty:
            self.waiting.append(key)

    @rule()
    def shut_down(self) -> None:
        self.queue.shut_down()
        self.shut = True
        self.delayed.clear()

    @precondition(lambda self: self.shut and not self.waiting)
    @rule()
    def get_after_the_end(self) -> None:
        with pytest.raises(ShutDown):
            self.queue.get()

    @rule()
    def look(self) -> None:
        """Seldom, because what a look does, each other call must do itself."""
        ages = [self.now - started for started in self.processing.values()]
        assert self.metrics.gauges() == QueueGauges(len(self.dirty), sum(ages), max(ages, default=0))
        assert (self.metrics.adds, self.metrics.retries) == (self.adds, self.retries)
        assert len(self.queue) == len(self.waiting)
        assert self.queue.shutting_down is self.shut

    def teardown(self) -> None:
        """Nothing is lost: whatever the model still owes is handed out."""
        for key in list(self.processing):
            self.done(key)
        if self.delayed:
            self.advance(100)
        while self.waiting:
            self.get()
            self.done(next(iter(self.processing)))
        assert len(self.queue) == 0


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)


def test_a_queue_has_metrics_by_its_name() -> None:
    """Series without a name could not be told apart."""
    metrics = Recorder()
    for queue in (RateLimitingQueue[str](name="test", metrics=metrics), RateLimitingQueue[str](metrics=metrics)):
        queue.add("a")
    assert (metrics.names, metrics.adds) == (["test"], 1)
