"""An informer against a server that misbehaves on real sockets: it always ends equal to the server."""

import os
import threading
import time

import pytest

from informers import SharedInformer, client, object_key
from informers.transport import Stop
from tests.fake_api_server.server import (
    Answer,
    CloseWithoutAnswer,
    CutMidLine,
    EndMidLine,
    FakeAPIServer,
    Fault,
    NoAnswer,
    Raw,
    Silent,
)
from tests.fake_api_server.waiting import FastClock, eventually
from tests.unit.informers.conftest import Start, informer_of
from workqueue.clock import REAL_CLOCK


def equal(informer: SharedInformer, server: FakeAPIServer) -> bool:
    cached = {object_key(obj): obj for obj in informer.indexer.list()}
    return cached == server.cluster.objects


# What only bytes can show. The other faults: test_reflector_protocol.py.
FAULTS: dict[str, tuple[str, list[Fault], list[str]]] = {
    "503 with Retry-After on a list": ("list", [Answer(503, retry_after="2")], ["list", "list", "watch"]),
    "a proxy's page on a list": ("list", [Answer(502, body=b"<html>")], ["list", "list", "watch"]),
    "200 with no JSON on a list": ("list", [Answer(200, body=b"<html>")], ["list", "list", "watch"]),
    "200 with another kind of answer on a list": ("list", [Answer(200, body=b'{"a": 1}')], ["list", "list", "watch"]),
    "no answer to a list": ("list", [CloseWithoutAnswer()], ["list", "list", "watch"]),
    "429 with Retry-After on a watch": ("watch", [Answer(429, retry_after="1")], ["list", "watch", "watch"]),
    "no answer to a watch on the connection of the list": ("watch", [CloseWithoutAnswer()], ["list", "watch", "watch"]),
    "blank lines in a watch": ("watch", [Raw(b"\n  \n\r\n")], ["list", "watch"]),
    "a line that is no JSON in a watch": ("watch", [Raw(b'{"type": "ADD\n')], ["list", "watch", "list", "watch"]),
}


@pytest.mark.parametrize(("verb", "faults", "verbs"), FAULTS.values(), ids=FAULTS.keys())
def test_faults(server: FakeAPIServer, start: Start, verb: str, faults: list[Fault], verbs: list[str]) -> None:
    """After each fault the cache equals the server again, by these requests and no others."""
    server.cluster.put("a")
    server.inject(verb, *faults)
    informer = informer_of(server)
    start(informer)
    eventually(lambda: server.verbs() == verbs)
    server.cluster.put("b")
    server.cluster.delete("a")
    eventually(lambda: equal(informer, server))
    assert server.verbs() == verbs
    assert informer.last_error is None


@pytest.mark.parametrize("fault", [CutMidLine(after=1), EndMidLine(after=1)])
def test_cut_line(server: FakeAPIServer, start: Start, fault: Fault) -> None:
    """A line that the end cut off is dropped: the watch resumes after the last whole event, with no list."""
    server.inject("watch", fault)
    informer = informer_of(server)
    start(informer)
    server.wait_for_request("watch")
    whole = server.cluster.put("a")
    server.cluster.put("b")
    eventually(lambda: equal(informer, server))
    assert server.verbs() == ["list", "watch", "watch"]
    assert server.requests[-1].query["resourceVersion"] == whole["metadata"]["resourceVersion"]


@pytest.mark.parametrize(
    ("held", "told"),
    [(Silent(), "watches are silent"), (NoAnswer(), "no complete answer")],
    ids=["body", "headers and body"],
)
def test_a_proxy_that_holds_back_watches(
    server: FakeAPIServer, start: Start, monkeypatch: pytest.MonkeyPatch, held: Fault, told: str
) -> None:
    """Changes come by lists, within minutes, and last_error says why they are late."""
    monkeypatch.setattr(client, "CONNECT_TIMEOUT", 0.1)
    server.choose = lambda verb: held if verb == "watch" else None
    informer = informer_of(server, clock=FastClock(100), watch_read_timeout=0.7)
    start(informer)
    for name in "ab":
        eventually(lambda: informer.has_synced)
        server.cluster.put(name)
        eventually(lambda: equal(informer, server))
    eventually(lambda: told in str(informer.last_error))


PHASES: dict[str, tuple[str, list[Fault]]] = {
    "in an idle watch": ("watch", []),
    "in a silent watch": ("watch", [Silent()]),
    "while a watch is not answered": ("watch", [NoAnswer()]),
    "while a list is not answered": ("list", [NoAnswer()]),
    "in the wait after an error": ("list", [Answer(403, "Forbidden")]),
    "in the wait that the server asked for": ("list", [Answer(429, retry_after="60")]),
    "in the wait before a watch that the server asked for": ("watch", [Answer(429, retry_after="60")]),
}


@pytest.mark.parametrize(("verb", "faults"), PHASES.values(), ids=PHASES.keys())
def test_stop(server: FakeAPIServer, verb: str, faults: list[Fault]) -> None:
    """A stop takes effect within a second, whatever the informer waits for, and leaves no thread."""
    before = set(threading.enumerate())
    server.inject(verb, *faults)
    informer = informer_of(server, clock=REAL_CLOCK)
    stop = Stop()
    thread = threading.Thread(target=informer.run, args=(stop,))
    thread.start()
    server.wait_for_request(verb)
    begun = time.monotonic()
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    # A second of a core that is not shared; what a stop could hang on lasts 70 s and more.
    cores = os.cpu_count() or 1
    assert time.monotonic() - begun < max(1.0, os.getloadavg()[0] / cores)
    names = {each.name for each in set(threading.enumerate()) - before}
    assert not [name for name in names if name.startswith("widgets") or name == "connect"]
