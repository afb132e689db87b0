"""Back-offs end when the API server is back, and not before; what goes on by itself is left alone."""

from typing import Any, cast

import pytest

from controller.runtime.recovery import Recovery
from informers import ApiError, Client, ConnectionFailed, Forbidden, ServerError
from tests.clock import VirtualClock
from tests.unit.runtime.conftest import Threads

Object = dict[str, Any]

REFUSED = ConnectionFailed("refused", reason=ConnectionFailed.REFUSED)
FORBIDDEN = Forbidden("forbidden", status=403, reason="Forbidden")
NOT_JSON = ApiError("GET /readyz: the answer is not JSON", status=200, reason="UnexpectedServerResponse")


class Bench:
    """A recovery, and what /readyz answers: None for an answer in JSON."""

    def __init__(self, clock: VirtualClock, threads: Threads) -> None:
        self._clock = clock
        self.answer: ApiError | None = REFUSED
        self.requests: list[float] = []
        self.returns: list[tuple[float, float]] = []  # when it was reported, and the last moment of the outage
        self.is_failing = True
        recovery = Recovery(
            cast("Client", self),
            is_failing=lambda: self.is_failing,
            on_return=lambda away_at: self.returns.append((clock.monotonic(), away_at)),
            clock=clock,
            random=lambda: 0.0,
        )
        threads.start(recovery.run)
        clock.wait_for_waiters(1)

    def request(self, method: str, path: str, *, timeout: float | None = None) -> Object:
        assert (method, path) == ("GET", "/readyz")
        assert timeout is not None
        self.requests.append(self._clock.monotonic())
        if self.answer is not None:
            raise self.answer
        return {}

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self._clock.advance(1)
            self._clock.wait_for_waiters(1)


@pytest.fixture
def bench(clock: VirtualClock, threads: Threads) -> Bench:
    return Bench(clock, threads)


def test_without_a_failure_nothing_is_requested(bench: Bench) -> None:
    """The requests of informers and election are enough to find out."""
    bench.is_failing = False
    bench.run(60)
    assert bench.requests == []


@pytest.mark.parametrize("answer", [NOT_JSON, FORBIDDEN, None], ids=["ok", "not allowed", "json"])
def test_a_return_is_reported_once_within_a_second(bench: Bench, answer: ApiError | None) -> None:
    """However long the outage was, and however long what failed takes to work again."""
    bench.run(300)
    assert len(bench.requests) == 300
    assert bench.returns == []
    bench.answer = answer
    bench.run(60)
    assert bench.returns == [(301, 300)]


def test_a_server_that_starts_is_not_back_yet(bench: Bench) -> None:
    """It answers, but would refuse: its /readyz says so."""
    bench.run(3)
    bench.answer = ServerError("readyz check failed", status=500)
    bench.run(5)
    assert bench.returns == []
    bench.answer = NOT_JSON
    bench.run(1)
    assert bench.returns == [(9, 8)]


def test_an_outage_counts_also_if_its_sign_goes_first(bench: Bench) -> None:
    """The request for the Lease works again, but not yet all of the server."""
    bench.run(3)
    bench.is_failing = False
    bench.run(2)
    bench.answer = NOT_JSON
    bench.run(1)
    assert bench.returns == [(6, 5)]


def test_a_failure_without_an_outage_is_no_return(bench: Bench) -> None:
    """A connection broke, or a webhook of the Lease hangs: back-offs are short then, and all else works."""
    bench.answer = NOT_JSON
    bench.run(60)
    assert bench.returns == []


def test_repeated_returns_are_reported_at_growing_intervals(bench: Bench) -> None:
    """Each costs a list of everything. The last one is never left out."""
    for _ in range(30):
        bench.answer = REFUSED
        bench.run(1)
        bench.answer = NOT_JSON
        bench.run(1)
    assert [at for at, _ in bench.returns] == [2, 4, 6, 10, 18, 32, 58]
    bench.run(60)
    assert bench.returns[-1] == (88, 59)
