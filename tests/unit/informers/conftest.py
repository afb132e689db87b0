"""Fixtures of the informers' tests."""

import threading
from collections.abc import Callable, Iterator

import pytest

from informers import ListerWatcher, Resource, SharedInformer
from informers.mutation_detector import ENVIRONMENT_VARIABLE
from informers.transport import Stop
from tests.clock import VirtualClock
from tests.fake_api_server.objects import WIDGETS
from tests.fake_api_server.server import FakeAPIServer
from tests.fake_api_server.waiting import HastyClock
from workqueue import Clock

Start = Callable[[SharedInformer], threading.Event]


def informer_of(
    server: FakeAPIServer,
    resource: Resource = WIDGETS,
    *,
    watch_list: bool = False,
    clock: Clock | None = None,
    **client: float,
) -> SharedInformer:
    """An informer of this server, whose waits take no time unless it is given another clock."""
    clock = clock or HastyClock()
    lister_watcher = ListerWatcher(server.client(clock=clock, **client), resource)
    return SharedInformer(lister_watcher, name="widgets", clock=clock, watch_list=watch_list)


@pytest.fixture(autouse=True)
def _mutation_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "true")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def server() -> Iterator[FakeAPIServer]:
    """An API server on the loopback that can be told to misbehave."""
    with FakeAPIServer() as running:
        yield running


@pytest.fixture
def start() -> Iterator[Start]:
    """Runs an informer in a thread until the end of the test; returns its stop event. Its failure fails the test."""
    running: list[tuple[threading.Thread, threading.Event]] = []
    failures: list[BaseException] = []

    def begin(informer: SharedInformer) -> threading.Event:
        stop = Stop()

        def run() -> None:
            try:
                informer.run(stop)
            except BaseException as error:  # noqa: BLE001 - raised below
                failures.append(error)

        thread = threading.Thread(target=run, name="informer")
        thread.start()
        running.append((thread, stop))
        return stop

    yield begin
    for _, stop in running:
        stop.set()
    for thread, _ in running:
        thread.join(60)
        assert not thread.is_alive(), "an informer did not stop"
    if failures:
        raise failures[0]
