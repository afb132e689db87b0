"""A server that asks to wait does not hold up the stop of who waits."""

import threading
from collections.abc import Callable, Iterator

import pytest

from controller.runtime import Controller, Result
from controller.runtime.group import Group
from informers import Client
from informers.testing.server import Answer, FakeAPIServer
from workqueue.clock import REAL_CLOCK

TEST_TIMEOUT = 20.0  # seconds; less than the server asks to wait, more than any machine needs to stop


class Waiting:
    """Metrics that tell when a wait for Retry-After begins."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    def request(self, *, verb: str, code: str, host: str, seconds: float) -> None:
        pass

    def retry(self, *, verb: str, code: str, host: str) -> None:
        self.begun.set()


@pytest.fixture
def busy() -> Iterator[tuple[Client, Waiting, FakeAPIServer]]:
    waiting = Waiting()
    with FakeAPIServer() as server:
        server.inject("other", *[Answer(429, "TooManyRequests", retry_after="25")] * 5)
        yield server.client(metrics=waiting), waiting, server


def in_controller(work: Callable[[], object], stop: threading.Event) -> None:
    def reconcile(_: str) -> Result:
        work()
        return Result()

    controller: Controller[str] = Controller("busy", reconcile)
    controller.enqueue("key")
    controller.run(stop)


def in_group(work: Callable[[], object], stop: threading.Event) -> None:
    group = Group(REAL_CLOCK, on_failure=lambda _: None)
    group.start("busy", lambda _: work(), until_stop=False)  # type: ignore[arg-type]
    stop.wait()
    assert group.stop(REAL_CLOCK.monotonic() + TEST_TIMEOUT) == []


@pytest.mark.parametrize("run", [in_controller, in_group])
def test_stop(busy: tuple[Client, Waiting, FakeAPIServer], run: Callable[..., None]) -> None:
    """The wait ends, and the request is not sent again."""
    client, waiting, server = busy
    stop, ended = threading.Event(), threading.Event()

    def work() -> None:
        client.request("POST", "/x", body={})

    threading.Thread(target=lambda: (run(work, stop), ended.set()), daemon=True).start()  # type: ignore[func-returns-value]
    assert waiting.begun.wait(60)
    stop.set()
    assert ended.wait(TEST_TIMEOUT)
    assert len(server.requests) == 1
