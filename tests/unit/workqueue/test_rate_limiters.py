"""Formulas of the rate limiters, and the queue that asks one."""

import sys

import pytest

from tests.unit.workqueue.conftest import Threads
from workqueue import (
    BucketRateLimiter,
    ItemExponentialFailureRateLimiter,
    ItemFastSlowRateLimiter,
    MaxOfRateLimiter,
    RateLimiter,
    RateLimitingQueue,
    WithMaxWaitRateLimiter,
    default_controller_rate_limiter,
    default_item_based_rate_limiter,
)
from workqueue.testing import VirtualClock


def delays(limiter: RateLimiter[str], count: int, key: str = "a") -> list[float]:
    return [limiter.when(key) for _ in range(count)]


def test_exponential_doubles_up_to_the_cap() -> None:
    """5, 10, 20, 40, 80 ms and so on; 1000 s from the 19th failure on."""
    limiter = ItemExponentialFailureRateLimiter[str]()
    got = delays(limiter, 20)
    assert got[:5] == pytest.approx([0.005, 0.01, 0.02, 0.04, 0.08])
    assert got[17] == pytest.approx(655.36)
    assert got[18:] == [1000.0, 1000.0]


def test_exponential_survives_any_number_of_failures() -> None:
    """The cap is applied before a float overflows, also for a base and cap at the ends of the range."""
    limiter = ItemExponentialFailureRateLimiter[str]()
    assert delays(limiter, 3000)[-1] == 1000.0
    limiter = ItemExponentialFailureRateLimiter[str](base=1e300, cap=sys.float_info.max)
    assert delays(limiter, 3000)[-1] == sys.float_info.max


def test_exponential_tells_keys_apart() -> None:
    """Each key has its own count, and forget() starts that one anew."""
    limiter = ItemExponentialFailureRateLimiter[str](base=1, cap=100)
    assert delays(limiter, 3, "a") == [1, 2, 4]
    assert delays(limiter, 2, "b") == [1, 2]
    assert (limiter.num_requeues("a"), limiter.num_requeues("b"), limiter.num_requeues("c")) == (3, 2, 0)
    limiter.forget("a")
    limiter.forget("never seen")
    assert (limiter.num_requeues("a"), limiter.num_requeues("b")) == (0, 2)
    assert limiter.when("a") == 1
    assert limiter.when("b") == 4


def test_fast_slow_changes_after_the_fast_attempts() -> None:
    """The first attempts are fast, all later ones slow, until forget()."""
    limiter = ItemFastSlowRateLimiter[str](0.005, 10, max_fast_attempts=3)
    assert delays(limiter, 5) == [0.005, 0.005, 0.005, 10, 10]
    assert limiter.when("b") == 0.005
    assert limiter.num_requeues("a") == 5
    limiter.forget("a")
    assert limiter.num_requeues("a") == 0
    assert limiter.when("a") == 0.005


class TestBucket:
    def test_burst_then_one_token_each_tenth(self, clock: VirtualClock) -> None:
        """100 at once, then 100, 200, 300 ms: each reserves its own token."""
        limiter = BucketRateLimiter[str](clock=clock)
        assert delays(limiter, 100) == [0.0] * 100
        assert delays(limiter, 3) == pytest.approx([0.1, 0.2, 0.3])

    def test_refills_with_time(self, clock: VirtualClock) -> None:
        """Tokens come at the rate, reservations are paid first, and no more than the burst is kept."""
        limiter = BucketRateLimiter[str](qps=2, burst=2, clock=clock)
        assert delays(limiter, 4) == [0, 0, 0.5, 1.0]
        clock.advance(1.5)
        assert delays(limiter, 2) == [0, 0.5]
        clock.advance(3600)
        assert delays(limiter, 3) == [0, 0, 0.5]

    def test_has_no_counts(self, clock: VirtualClock) -> None:
        """It knows no keys: nothing to count, and forget() gives no token back."""
        limiter = BucketRateLimiter[str](qps=1, burst=1, clock=clock)
        limiter.when("a")
        limiter.forget("a")
        assert limiter.num_requeues("a") == 0
        assert limiter.when("a") == 1

    @pytest.mark.parametrize(
        ("qps", "burst", "named"), [(0, 1, "qps"), (-1, 1, "qps"), (float("nan"), 1, "qps"), (1, 0, "burst")]
    )
    def test_refuses_what_would_never_give_a_token(self, qps: float, burst: int, named: str) -> None:
        """The error names the argument."""
        with pytest.raises(ValueError, match=named):
            BucketRateLimiter(qps, burst)


def test_max_of_takes_the_longest_and_asks_all(clock: VirtualClock) -> None:
    """The longest delay counts, and the others count the failure (spend the token) too."""
    limiter = MaxOfRateLimiter[str](
        ItemFastSlowRateLimiter(0, 60, max_fast_attempts=2), BucketRateLimiter(1, 1, clock=clock)
    )
    assert delays(limiter, 4) == [0, 1, 60, 60]
    assert limiter.when("b") == 4
    assert limiter.num_requeues("a") == 4
    limiter.forget("a")
    assert limiter.num_requeues("a") == 0


def test_max_of_nothing_is_refused() -> None:
    """Without limiters there is no longest delay."""
    with pytest.raises(ValueError, match="at least one"):
        MaxOfRateLimiter()


def test_with_max_wait_caps_and_passes_on() -> None:
    """Delays are cut, counts are the inner limiter's."""
    limiter = WithMaxWaitRateLimiter[str](ItemExponentialFailureRateLimiter(1, 1000), 3)
    assert delays(limiter, 4) == [1, 2, 3, 3]
    assert limiter.num_requeues("a") == 4
    limiter.forget("a")
    assert limiter.num_requeues("a") == 0
    assert limiter.when("a") == 1


def test_default_controller_limiter(clock: VirtualClock) -> None:
    """Back-off per key, and from the 101st distinct key on 100, 200, 300 ms by the bucket."""
    limiter = default_controller_rate_limiter(clock)
    assert [limiter.when(f"key-{i}") for i in range(100)] == [0.005] * 100
    assert [limiter.when(f"key-{i}") for i in range(100, 103)] == pytest.approx([0.1, 0.2, 0.3])
    clock.advance(3600)
    assert delays(default_controller_rate_limiter(clock), 19)[-1] == 1000


def test_default_item_based_limiter() -> None:
    """1 ms doubling to 1000 s, with no bucket over all keys."""
    limiter = default_item_based_rate_limiter()
    assert [limiter.when(f"key-{i}") for i in range(200)] == [0.001] * 200
    assert delays(limiter, 30)[:3] == pytest.approx([0.001, 0.002, 0.004])
    assert limiter.when("a") == 1000


def test_counts_are_exact_with_many_threads(threads: Threads, eager_switching: None) -> None:
    """No failure is lost, no token is given twice."""
    counter = ItemExponentialFailureRateLimiter[str]()
    bucket = BucketRateLimiter[str](qps=1, burst=1, clock=VirtualClock())
    waits: list[float] = []

    def fail() -> None:
        for _ in range(500):
            counter.when("a")
            waits.append(bucket.when("a"))

    for _ in range(4):
        threads.start(fail)
    threads.join()
    assert counter.num_requeues("a") == 2000
    assert sorted(waits) == list(range(2000))


class TestRateLimitingQueue:
    def test_waits_as_the_limiter_says(self, clock: VirtualClock) -> None:
        """Each failure doubles the wait; after forget() it starts anew."""
        queue: RateLimitingQueue[str] = RateLimitingQueue(ItemExponentialFailureRateLimiter(1, 1000), clock=clock)
        for wait in (1, 2, 4):
            queue.add_rate_limited("a")
            clock.advance(wait - 0.5)
            assert len(queue) == 0
            clock.advance(0.5)
            assert queue.get() == "a"
            queue.done("a")
        assert queue.num_requeues("a") == 3
        queue.forget("a")
        assert queue.num_requeues("a") == 0
        queue.add_rate_limited("a")
        clock.advance(1)
        assert queue.get() == "a"

    def test_forget_is_not_done(self, clock: VirtualClock) -> None:
        """A forgotten key stays with its worker until done()."""
        queue: RateLimitingQueue[str] = RateLimitingQueue(ItemExponentialFailureRateLimiter(), clock=clock)
        queue.add("a")
        queue.get()
        queue.forget("a")
        queue.add("a")
        assert len(queue) == 0
        queue.done("a")
        assert len(queue) == 1

    def test_priority_is_passed_on(self, clock: VirtualClock) -> None:
        """A retried key keeps the priority it is given."""
        queue: RateLimitingQueue[str] = RateLimitingQueue(ItemExponentialFailureRateLimiter(), clock=clock)
        queue.add_rate_limited("a", priority=-100)
        queue.add_rate_limited("b")
        clock.advance(1)
        assert [queue.get(), queue.get()] == ["b", "a"]


def test_retry_now_ends_the_delays_of_failed_keys_only(clock: VirtualClock) -> None:
    """They keep their priority and their count of failures; a key that waits for another reason goes on waiting."""
    queue: RateLimitingQueue[str] = RateLimitingQueue(ItemExponentialFailureRateLimiter(base=100), clock=clock)
    queue.add_rate_limited("low", priority=-5)
    queue.add_rate_limited("high", priority=5)
    queue.add_after("later", 50)
    assert len(queue) == 0
    queue.retry_now()
    assert [queue.get_with_priority() for _ in range(len(queue))] == [("high", 5), ("low", -5)]
    queue.done("low")
    queue.add_rate_limited("low")
    clock.advance(199)
    assert queue.get() == "later"
    assert len(queue) == 0
    clock.advance(1)
    assert queue.get() == "low"


def test_retry_now_wakes_a_waiting_worker(clock: VirtualClock, threads: Threads) -> None:
    """Nobody has to add a key for that."""
    queue: RateLimitingQueue[str] = RateLimitingQueue(ItemExponentialFailureRateLimiter(base=100), clock=clock)
    queue.add_rate_limited("a")
    got: list[str] = []
    threads.start(lambda: got.append(queue.get()))
    clock.wait_for_waiters(1)
    queue.retry_now()
    threads.join()
    assert got == ["a"]
