"""What a queue tells its metrics, with client-go's meaning of each."""

import pytest

from tests.unit.workqueue.metrics_recorder import Recorder
from workqueue import (
    DelayingQueue,
    ItemExponentialFailureRateLimiter,
    Queue,
    QueueGauges,
    RateLimitingQueue,
)
from workqueue.testing import VirtualClock


@pytest.fixture
def metrics() -> Recorder:
    return Recorder()


@pytest.fixture
def queue(clock: VirtualClock, metrics: Recorder) -> DelayingQueue[str]:
    return DelayingQueue("test", clock=clock, metrics=metrics)


def test_each_kind_of_named_queue_asks_for_metrics_once(metrics: Recorder) -> None:
    """By its name."""
    Queue("plain", metrics=metrics)
    DelayingQueue("delaying", metrics=metrics)
    RateLimitingQueue(ItemExponentialFailureRateLimiter(), name="rate limiting", metrics=metrics)
    assert metrics.names == ["plain", "delaying", "rate limiting"]


def test_unnamed_queue_has_none(metrics: Recorder) -> None:
    """Series without a name could not be told apart."""
    Queue[str](metrics=metrics).add("a")
    assert (metrics.names, metrics.adds) == ([], 0)


def test_adds_and_depth_rise_when_a_key_becomes_dirty(queue: DelayingQueue[str], metrics: Recorder) -> None:
    """Once per key until it is handed out, also while a worker has it."""
    queue.add("a")
    queue.add("a")
    queue.add("a", priority=5)
    assert (metrics.adds, metrics.gauges().depth) == (1, 1)
    queue.get()
    assert (metrics.adds, metrics.gauges().depth) == (1, 0)
    queue.add("a")
    queue.add("a")
    assert (metrics.adds, metrics.gauges().depth) == (2, 1)
    queue.done("a")
    assert (metrics.adds, metrics.gauges().depth) == (2, 1)
    queue.get()
    assert metrics.gauges().depth == 0


def test_ignored_adds_are_not_counted(queue: DelayingQueue[str], metrics: Recorder) -> None:
    """After a shutdown neither adds nor retries."""
    queue.shut_down()
    queue.add("a")
    queue.add_after("a", 0)
    queue.add_after("a", 1)
    assert (metrics.adds, metrics.retries, metrics.gauges().depth) == (0, 0, 0)


def test_queue_duration_starts_at_the_first_add(
    queue: DelayingQueue[str], metrics: Recorder, clock: VirtualClock
) -> None:
    """Later adds, higher priorities and the done() of the worker before do not restart it."""
    queue.add("a")
    clock.advance(1)
    queue.add("a")
    clock.advance(1)
    queue.add("a", priority=5)
    clock.advance(1)
    queue.get()
    queue.add("a")
    clock.advance(2)
    queue.add("a")
    queue.done("a")
    clock.advance(2)
    queue.get()
    assert metrics.queued == [3, 4]


def test_queue_duration_of_a_delayed_key_starts_when_the_delay_ends(
    queue: DelayingQueue[str], metrics: Recorder, clock: VirtualClock
) -> None:
    """Exactly then, however late somebody looks; depth and adds count it from then on too."""
    queue.add_after("a", 5)
    assert (metrics.adds, metrics.gauges().depth) == (0, 0)
    clock.advance(7)
    assert (metrics.gauges().depth, metrics.adds) == (1, 1)
    clock.advance(1)
    queue.get()
    assert metrics.queued == [3]


def test_work_duration_is_from_get_to_done(queue: DelayingQueue[str], metrics: Recorder, clock: VirtualClock) -> None:
    """A done() without get() is no work."""
    queue.add("a")
    clock.advance(1)
    queue.get()
    clock.advance(2)
    queue.done("a")
    queue.done("a")
    queue.done("b")
    assert metrics.worked == [2]


def test_gauges_of_work_in_progress(queue: DelayingQueue[str], metrics: Recorder, clock: VirtualClock) -> None:
    """The sum of the ages of what workers have, and the oldest age; zero when they have nothing."""
    assert metrics.gauges() == QueueGauges(0, 0, 0)
    queue.add("a")
    queue.add("b")
    queue.get()
    clock.advance(2)
    queue.get()
    clock.advance(0.5)
    assert metrics.gauges() == QueueGauges(0, 3.0, 2.5)
    queue.done("a")
    assert metrics.gauges() == QueueGauges(0, 0.5, 0.5)
    queue.done("b")
    assert metrics.gauges() == QueueGauges(0, 0, 0)


def test_retries_count_each_add_after(clock: VirtualClock, metrics: Recorder) -> None:
    """A delay of zero included, a plain add() not."""
    queue: RateLimitingQueue[str] = RateLimitingQueue(
        ItemExponentialFailureRateLimiter(), name="test", clock=clock, metrics=metrics
    )
    queue.add("a")
    queue.add_after("a", 0)
    queue.add_after("a", 1)
    queue.add_after("a", 2)
    queue.add_rate_limited("a")
    assert metrics.retries == 4
