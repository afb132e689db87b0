"""When something that failed may be tried again."""

import pytest

from controller.connection.backoff import Backoff
from tests.clock import VirtualClock


def delays(count: int, *, random: float = 0.0, cap: float = 180.0, at_least: float | None = None) -> list[float]:
    backoff = Backoff(cap=cap, clock=VirtualClock(), random=lambda: random)
    return [backoff.failed("the same", at_least=at_least) for _ in range(count)]


def test_delays_double_up_to_the_cap() -> None:
    assert delays(10) == [1, 2, 4, 8, 16, 32, 64, 128, 180, 180]


def test_every_delay_has_jitter_also_one_that_a_server_asked_for() -> None:
    """A server tells all its clients the same number; they must not all come back in the same moment."""
    assert delays(1, random=1.0) == [pytest.approx(1.2)]
    assert delays(1, at_least=30.0) == [30]
    assert delays(1, at_least=30.0, random=1.0) == [pytest.approx(36)]


def test_a_server_may_ask_for_more_than_the_cap_up_to_five_minutes() -> None:
    """The gateway of Compass has room again after 30 s, which may be longer than the period."""
    assert delays(1, cap=20.0, at_least=30.0) == [30]
    assert delays(1, cap=20.0, at_least=86_400.0) == [300]


def test_a_longer_delay_of_our_own_stays() -> None:
    assert delays(7, at_least=30.0)[-1] == 64


def test_something_else_may_be_tried_at_once_and_a_success_starts_anew() -> None:
    clock = VirtualClock()
    backoff = Backoff(cap=180.0, clock=clock, random=lambda: 0.0)
    backoff.failed("a token")
    assert backoff.failed("a token") == 2
    assert backoff.wait("a token") == 2
    assert backoff.wait("another token") == 0
    clock.advance(1.5)
    assert backoff.wait("a token") == 0.5
    backoff.succeeded()
    assert backoff.wait("a token") == 0
    assert backoff.failed("a token") == 1
