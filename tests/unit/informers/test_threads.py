"""A request runs in the thread of its caller."""

import threading

import pytest

from tests.fake_api_server.server import Answer, FakeAPIServer


def test_requests_start_no_thread_but_for_connects(server: FakeAPIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 requests of 8 threads: each thread may have to open one connection."""
    server.inject("other", *[Answer(200, body=b"{}")] * 1000)
    client = server.client()
    started: list[str] = []
    start = threading.Thread.start

    def counting(thread: threading.Thread) -> None:
        if threading.current_thread().name.startswith("caller"):
            started.append(thread.name)
        start(thread)

    def call() -> None:
        for _ in range(125):
            assert client.request("GET", "/x") == {}

    callers = [threading.Thread(target=call, name=f"caller-{number}") for number in range(8)]
    monkeypatch.setattr(threading.Thread, "start", counting)
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert len(server.requests) == 1000
    assert set(started) == {"connect"}
    assert len(started) <= 8
    client.close()
