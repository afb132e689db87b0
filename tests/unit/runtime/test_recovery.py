"""Back-offs end when the API server is back, and not before."""

from typing import Any

import pytest

from controller.runtime.recovery import Recovery
from informers import ApiError, ConnectionFailed, Forbidden, ServerError
from informers.errors import KubernetesError
from tests.unit.runtime.conftest import Threads
from workqueue.testing import VirtualClock

REFUSED = ConnectionFailed("refused", reason=ConnectionFailed.REFUSED)
FORBIDDEN = Forbidden("forbidden", status=403, reason="Forbidden")
NOT_JSON = ApiError("GET /readyz: the answer is not JSON", status=200, reason="UnexpectedServerResponse")


class FakeInformer:
    """Fails until it is told to try again and the server lets it."""

    def __init__(self, clock: VirtualClock, error: KubernetesError | None) -> None:
        self._clock = clock
        self.last_error = error
        self.fails_with: KubernetesError | None = error
        self.retries: list[float] = []
        self.relists: list[tuple[float, float | None]] = []  # when, and since when a list is new enough
        self.expired = False

    @property
    def is_watching(self) -> bool:
        return self.last_error is None and not self.expired

    def retry_now(self) -> None:
        self.expired = False
        self.retries.append(self._clock.monotonic())
        self.last_error = self.fails_with

    def relist(self, *, since: float | None) -> None:
        self.relists.append((self._clock.monotonic(), since))


class Server:
    """What /readyz answers, and when it was asked."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.answer: ApiError | None = REFUSED
        self.asked: list[float] = []

    def request(self, method: str, path: str, *, timeout: float | None = None) -> dict[str, Any]:
        assert (method, path) == ("GET", "/readyz")
        assert timeout is not None
        self.asked.append(self._clock.monotonic())
        if self.answer is not None:
            raise self.answer
        return {}


class Bench:
    def __init__(self, clock: VirtualClock, threads: Any, *errors: KubernetesError | None) -> None:
        self._clock = clock
        self.server = Server(clock)
        self.informers = [FakeInformer(clock, error) for error in errors]
        self.returns: list[float] = []
        self.lease_fails = False
        recovery = Recovery(
            self.server,
            self.informers,
            lease_fails=lambda: self.lease_fails,
            on_return=lambda: self.returns.append(clock.monotonic()),
            clock=clock,
        )
        threads.start(recovery.run)
        clock.wait_for_waiters(1)

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self._clock.advance(1)
            self._clock.wait_for_waiters(1)


@pytest.mark.parametrize("error", [None, FORBIDDEN, ServerError("slow", status=503)], ids=str)
def test_without_an_outage_nothing_is_asked(error: Exception, clock: VirtualClock, threads: Threads) -> None:
    """An informer that is refused or meets an overloaded server keeps its back-off."""
    bench = Bench(clock, threads, error)  # type: ignore[arg-type]
    bench.run(60)
    assert bench.server.asked == []
    assert bench.informers[0].retries == []


@pytest.mark.parametrize("answer", [NOT_JSON, FORBIDDEN, None], ids=["ok", "not allowed to ask", "json"])
def test_within_a_second_of_the_return_what_failed_is_tried_again(
    answer: Any, clock: VirtualClock, threads: Threads
) -> None:
    """However long the outage was; those that did not fail are left alone."""
    bench = Bench(clock, threads, REFUSED, REFUSED, None)
    bench.run(1800)
    assert len(bench.server.asked) == 1800
    assert bench.informers[0].retries == []
    bench.server.answer = answer
    for informer in bench.informers:
        informer.fails_with = None
    bench.run(10)
    assert [informer.retries for informer in bench.informers] == [[1801], [1801], []]
    assert bench.returns == [1801]
    assert len(bench.server.asked) == 1801


def test_a_watch_that_expired_in_the_outage_is_listed_anew_at_once(clock: VirtualClock, threads: Threads) -> None:
    """A server that was restarted does not know old versions any more. That is no error, and waits all the same."""
    bench = Bench(clock, threads, REFUSED, None)
    bench.run(3)
    bench.informers[1].expired = True
    bench.server.answer, bench.informers[0].fails_with = NOT_JSON, None
    bench.run(3)
    assert bench.informers[1].retries == [4]


def test_a_server_that_starts_is_not_back_yet(clock: VirtualClock, threads: Threads) -> None:
    """It answers, but would refuse: its /readyz says so."""
    bench = Bench(clock, threads, REFUSED)
    bench.run(3)
    bench.server.answer = ServerError("readyz check failed", status=500)
    bench.run(5)
    assert bench.informers[0].retries == []
    bench.server.answer = NOT_JSON
    bench.run(1)
    assert bench.informers[0].retries == [9]


def test_what_fails_after_the_return_is_tried_for_ten_seconds(clock: VirtualClock, threads: Threads) -> None:
    """Rights, say, come a moment after the server; what is refused for longer than that goes back to its back-off."""
    bench = Bench(clock, threads, REFUSED, REFUSED)
    bench.run(2)
    bench.server.answer = NOT_JSON
    late, broken = bench.informers
    late.fails_with = broken.fails_with = FORBIDDEN
    bench.run(4)
    late.fails_with = None
    bench.run(60)
    assert late.retries == [3, 4, 5, 6, 7]
    assert broken.retries == [*range(3, 14)]
    assert bench.returns == [3]


def test_after_an_outage_all_informers_list_again(clock: VirtualClock, threads: Threads) -> None:
    """Also those that seem to work: their events may be late, or never come."""
    bench = Bench(clock, threads, REFUSED, None)
    bench.run(3)
    bench.server.answer, bench.informers[0].fails_with = NOT_JSON, None
    bench.run(10)
    assert [informer.relists for informer in bench.informers] == [[(4, 3)], [(4, 3)]]


def test_after_a_failure_without_an_outage_only_those_that_failed_list_again(
    clock: VirtualClock, threads: Threads
) -> None:
    """One connection broke, say, and the server is there."""
    bench = Bench(clock, threads, REFUSED, None)
    bench.server.answer, bench.informers[0].fails_with = NOT_JSON, None
    bench.run(10)
    assert [informer.retries for informer in bench.informers] == [[1], []]
    assert [informer.relists for informer in bench.informers] == [[(1, None)], []]


def test_an_outage_that_only_the_lease_shows(clock: VirtualClock, threads: Threads) -> None:
    """Packets are lost: watches stay open, and nothing comes."""
    bench = Bench(clock, threads, None)
    bench.run(5)
    bench.lease_fails = True
    bench.run(30)
    assert bench.returns == []
    bench.server.answer, bench.lease_fails = NOT_JSON, False
    bench.run(10)
    assert bench.returns == [36]
    assert bench.informers[0].relists == [(36, 35)]


def test_a_lease_that_fails_alone_is_no_outage(clock: VirtualClock, threads: Threads) -> None:
    """A webhook that hangs, say. The election tries again by itself, and all else works."""
    bench = Bench(clock, threads, None)
    bench.server.answer, bench.lease_fails = NOT_JSON, True
    bench.run(60)
    assert bench.returns == []
    assert bench.informers[0].relists == []


def test_each_outage_is_noticed(clock: VirtualClock, threads: Threads) -> None:
    """The second one as the first."""
    bench = Bench(clock, threads, REFUSED)
    (informer,) = bench.informers
    for _ in range(2):
        bench.run(5)
        bench.server.answer, informer.fails_with = NOT_JSON, None
        bench.run(5)
        bench.server.answer, informer.fails_with, informer.last_error = REFUSED, REFUSED, REFUSED
    assert len(bench.returns) == 2


def test_it_stops_in_every_phase(clock: VirtualClock, threads: Threads) -> None:
    """Also while the server is away."""
    bench = Bench(clock, threads, REFUSED)
    bench.run(3)
    threads.end()
