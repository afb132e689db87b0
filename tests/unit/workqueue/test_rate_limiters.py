"""Formulas of the rate limiters."""

import sys

import pytest

from tests.clock import VirtualClock
from tests.unit.workqueue.conftest import Threads
from workqueue import ControllerRateLimiter, ItemExponentialFailureRateLimiter, RateLimiter


def delays(limiter: RateLimiter[str], count: int, key: str = "a") -> list[float]:
    return [limiter.when(key) for _ in range(count)]


def test_exponential_doubles_up_to_the_cap() -> None:
    """5, 10, 20, 40, 80 ms and so on; 1000 s from the 19th failure on."""
    got = delays(ItemExponentialFailureRateLimiter(), 20)
    assert got[:5] == pytest.approx([0.005, 0.01, 0.02, 0.04, 0.08])
    assert got[17] == pytest.approx(655.36)
    assert got[18:] == [1000.0, 1000.0]


def test_exponential_survives_any_number_of_failures() -> None:
    """The cap is applied before a float overflows, also for a base and cap at the ends of the range."""
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
    assert (limiter.when("a"), limiter.when("b")) == (1, 4)


def test_controller_limiter(clock: VirtualClock) -> None:
    """Back-off per key, and for all keys 100 at once, then one each tenth of a second: each reserves its own."""
    limiter: RateLimiter[str] = ControllerRateLimiter(clock=clock)
    assert [limiter.when(f"key-{i}") for i in range(100)] == [0.005] * 100
    assert [limiter.when(f"key-{i}") for i in range(100, 103)] == pytest.approx([0.1, 0.2, 0.3])
    clock.advance(0.4)
    assert limiter.when("later") == 0.005
    clock.advance(3600)
    assert [limiter.when(f"another-{i}") for i in range(101)][99:] == pytest.approx([0.005, 0.1])
    assert delays(ControllerRateLimiter(clock=clock), 19)[-1] == 1000


def test_counts_are_exact_with_many_threads(clock: VirtualClock, threads: Threads, eager_switching: None) -> None:
    """No failure is lost, no token is given twice."""
    limiter: RateLimiter[int] = ControllerRateLimiter(clock=clock)
    waits: list[float] = []

    def fail(own: int) -> None:
        for number in range(500):
            limiter.when(-1)
            waits.append(limiter.when(own + number))

    for own in range(4):
        threads.start(fail, 500 * own)
    threads.join()
    assert limiter.num_requeues(-1) == 2000
    assert len(set(waits)) > 1900
