"""Back-offs end when the API server is back, and not before; what goes on by itself is left alone."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from controller.runtime.recovery import Recovery
from informers import (
    ApiError,
    Client,
    ConnectionFailed,
    Forbidden,
    ListerWatcher,
    ServerError,
    SharedInformer,
    Stop,
    WatchEvent,
    WatchStream,
)
from informers.errors import KubernetesError
from tests.clock import VirtualClock
from tests.fake_api_server.objects import WIDGETS, bookmark, widget, widget_list
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
        self.returns: list[tuple[float, float]] = []  # when it was told, and the last moment of the outage
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
def test_a_return_is_told_within_a_second_and_once(bench: Bench, answer: ApiError | None) -> None:
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


def test_returns_of_a_server_that_fails_again_and_again_are_told_with_growing_intervals(bench: Bench) -> None:
    """Each costs a list of everything. The last one is never left out."""
    for _ in range(30):
        bench.answer = REFUSED
        bench.run(1)
        bench.answer = NOT_JSON
        bench.run(1)
    assert [told for told, _ in bench.returns] == [2, 4, 6, 10, 18, 32, 58]
    bench.run(60)
    assert bench.returns[-1] == (88, 59)


class Server(ListerWatcher):
    """Lists take `list_seconds`. Requests are refused while `is_away` says so, and only /readyz while `is_ill`."""

    resource = WIDGETS

    def __init__(
        self,
        clock: VirtualClock,
        *,
        list_seconds: float,
        is_away: Callable[[float], bool] = lambda _: False,
        is_ill: Callable[[float], bool] = lambda _: False,
    ) -> None:
        self._clock = clock
        self._list_seconds = list_seconds
        self._is_away, self._is_ill = is_away, is_ill
        self.lists: list[float] = []

    @property
    def is_ill(self) -> bool:
        return self._is_ill(self._clock.monotonic())

    def refuse_when_away(self) -> None:
        if self._is_away(self._clock.monotonic()):
            raise REFUSED

    def request(self, _method: str, _path: str, *, timeout: float | None = None) -> Object:
        self.refuse_when_away()
        if self.is_ill:
            raise ServerError("readyz check failed", status=500)
        return {}

    def list(self, *, limit: int | None, continue_: str, stop: Stop) -> Object:
        self.refuse_when_away()
        self.lists.append(self._clock.monotonic())
        self._clock.sleep(self._list_seconds, stop)
        return widget_list([widget("a", "10")], "10")

    def watch(self, **_: Any) -> "_Watch":
        return _Watch(self, self._clock)


class _Watch(WatchStream):
    """A watch with a bookmark a minute."""

    def __init__(self, server: Server, clock: VirtualClock) -> None:
        self._server, self._clock = server, clock
        self._stopped = threading.Event()

    def open(self) -> None:
        self._server.refuse_when_away()

    def __iter__(self) -> Iterator[WatchEvent]:
        while not self._clock.sleep(60, self._stopped):
            yield WatchEvent("BOOKMARK", bookmark("10"))

    def stop(self) -> None:
        self._stopped.set()

    close = stop


def run_informer(clock: VirtualClock, threads: Threads, server: Server, *, seconds: float) -> float:
    """An informer beside its recovery, as the manager wires them; returns when it had synced."""
    informer = SharedInformer(server, name="widgets", clock=clock, random=lambda: 0.0, watch_list=False)

    def is_failing() -> bool:
        error: KubernetesError | None = informer.last_error
        return isinstance(error, ConnectionFailed) or server.is_ill

    recovery = Recovery(
        cast("Client", server),
        is_failing=is_failing,
        on_return=lambda away_at: informer.relist(since=away_at),
        clock=clock,
        random=lambda: 0.0,
    )
    threads.start(informer.run)
    threads.start(recovery.run)
    synced = float("inf")
    while clock.monotonic() < seconds:
        clock.wait_for_waiters(2)
        if informer.has_synced:
            synced = min(synced, clock.monotonic())
        clock.advance(0.25)
    return synced


def test_a_list_that_takes_longer_than_the_outage_is_not_ended(clock: VirtualClock, threads: Threads) -> None:
    """A large cluster after a restart of its API server."""
    server = Server(clock, list_seconds=14, is_away=lambda now: now < 3)
    synced = run_informer(clock, threads, server, seconds=70)
    assert len(server.lists) == 1
    assert synced <= 19  # 3 s of outage, at most 1 s until the return is known, the list, and the steps of the test


def test_outages_of_readyz_and_lease_that_watches_survive_cost_few_lists(clock: VirtualClock, threads: Threads) -> None:
    """Events may be missing after each of them, but a server in trouble gets no list every four seconds."""
    server = Server(clock, list_seconds=0.25, is_ill=lambda now: now >= 4 and now % 4 < 1.5)
    run_informer(clock, threads, server, seconds=50)
    assert len(server.lists) <= 7
