"""An informer against a server that misbehaves on real sockets: it always ends equal to the server."""

import os
import threading
import time
from collections.abc import Callable

import pytest

from informers import (
    ConnectionFailed,
    EventHandlers,
    Forbidden,
    ResourceListerWatcher,
    ServerError,
    SharedInformer,
    object_key,
    wait_for_sync,
)
from informers.transport import Stop
from tests.fake_api_server.objects import WIDGETS, status
from tests.fake_api_server.server import (
    Answer,
    CloseAtOnce,
    CloseWithoutAnswer,
    CutMidLine,
    EndMidLine,
    ErrorEvent,
    FakeAPIServer,
    Fault,
    NoAnswer,
    Raw,
    Silent,
)
from tests.fake_api_server.waiting import HastyClock, eventually
from workqueue.clock import REAL_CLOCK, Clock

Start = Callable[[SharedInformer], threading.Event]
PAGE_502 = b"<html><body>Bad Gateway from a proxy</body></html>"


def informer_for(
    server: FakeAPIServer, *, clock: Clock | None = None, watch_read_timeout: float = 70.0
) -> SharedInformer:
    clock = clock or HastyClock()
    client = server.client(clock=clock, watch_read_timeout=watch_read_timeout)
    return SharedInformer(ResourceListerWatcher(client, WIDGETS), name="widgets", clock=clock, watch_list=False)


def equal(informer: SharedInformer, server: FakeAPIServer) -> bool:
    cached = {object_key(obj): obj for obj in informer.indexer.list()}
    return cached == server.cluster.objects


# What only bytes can show. The other faults: test_reflector_protocol.py.
FAULTS: dict[str, tuple[str, list[Fault], list[str]]] = {
    "503 with Retry-After on a list": ("list", [Answer(503, retry_after="2")], ["list", "list", "watch"]),
    "a proxy's page on a list": ("list", [Answer(502, body=PAGE_502)], ["list", "list", "watch"]),
    "200 with no JSON on a list": ("list", [Answer(200, body=b"<html>")], ["list", "list", "watch"]),
    "200 with another kind of answer on a list": ("list", [Answer(200, body=b'{"a": 1}')], ["list", "list", "watch"]),
    "no answer to a list": ("list", [CloseWithoutAnswer()], ["list", "list", "watch"]),
    "410 on a watch": ("watch", [Answer(410, "Expired")], ["list", "watch", "list", "watch"]),
    "429 with Retry-After on a watch": ("watch", [Answer(429, retry_after="1")], ["list", "watch", "watch"]),
    "no answer to a watch on the connection of the list": ("watch", [CloseWithoutAnswer()], ["list", "watch", "watch"]),
    "no answer to a watch on a new one": (
        "watch",
        [CloseWithoutAnswer()] * 2,
        ["list", "watch", "watch", "list", "watch"],
    ),
    "a watch closed at once": ("watch", [CloseAtOnce()], ["list", "watch", "list", "watch"]),
    "410 in a watch": ("watch", [ErrorEvent(status(410, "Expired"))], ["list", "watch", "list", "watch"]),
    "blank lines in a watch": ("watch", [Raw(b"\n  \n\r\n")], ["list", "watch"]),
    "a line that is no JSON in a watch": ("watch", [Raw(b'{"type": "ADD\n')], ["list", "watch", "list", "watch"]),
}


@pytest.mark.parametrize(("verb", "faults", "verbs"), FAULTS.values(), ids=FAULTS.keys())
def test_faults(server: FakeAPIServer, start: Start, verb: str, faults: list[Fault], verbs: list[str]) -> None:
    """After each fault the cache equals the server again, by these requests and no others."""
    server.cluster.put("a")
    server.inject(verb, *faults)
    informer = informer_for(server)
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
    informer = informer_for(server)
    start(informer)
    server.wait_for_request("watch")
    whole = server.cluster.put("a")
    server.cluster.put("b")
    eventually(lambda: equal(informer, server))
    assert server.verbs() == ["list", "watch", "watch"]
    assert server.requests[-1].query["resourceVersion"] == whole["metadata"]["resourceVersion"]


def test_half_open(server: FakeAPIServer, start: Start) -> None:
    """A silent connection is given up after the read timeout and resumed from the last version, with no list."""
    server.cluster.put("a")
    server.inject("watch", Silent())
    # Longer than the second under which a watch without events counts as refused.
    informer = informer_for(server, watch_read_timeout=1.1)
    start(informer)
    server.wait_for_request("watch")
    server.cluster.put("b")
    eventually(lambda: equal(informer, server))
    assert server.verbs() == ["list", "watch", "watch"]
    assert server.requests[1].query["resourceVersion"] == server.requests[2].query["resourceVersion"]


def test_server_away(server: FakeAPIServer, start: Start) -> None:
    """While the server is away the informer says so and keeps its cache; afterwards it lists."""
    server.cluster.put("a")
    informer = informer_for(server)
    start(informer)
    server.wait_for_request("watch")
    server.cluster.put("b")
    eventually(lambda: equal(informer, server))
    server.refuse()
    eventually(lambda: isinstance(informer.last_error, ConnectionFailed))
    assert informer.last_error is not None
    assert informer.last_error.reason == ConnectionFailed.REFUSED  # type: ignore[attr-defined]
    assert len(informer.indexer) == 2
    server.cluster.put("c")
    server.listen()
    eventually(lambda: equal(informer, server))
    assert server.verbs().count("list") == 2
    assert informer.last_error is None


def test_history_lost_while_away(server: FakeAPIServer, start: Start) -> None:
    """What vanished while the history was lost is told to the handlers as a tombstone."""
    server.cluster.put("a")
    server.cluster.put("b")
    informer = informer_for(server)
    deleted: list[object] = []
    informer.add_event_handler(EventHandlers(on_delete=deleted.append))
    start(informer)
    server.wait_for_request("watch")
    server.refuse()
    server.cluster.delete("a")
    server.cluster.compact()
    server.listen()
    eventually(lambda: deleted)
    assert equal(informer, server)
    assert [getattr(one, "key", None) for one in deleted] == ["default/a"]


def test_pages(server: FakeAPIServer, start: Start) -> None:
    """All pages make one list."""
    for number in range(1100):
        server.cluster.put(f"w{number}")
    informer = informer_for(server)
    start(informer)
    eventually(lambda: informer.has_synced)
    assert equal(informer, server)
    lists = [request.query for request in server.requests if request.verb == "list"]
    assert [("limit" in query, "continue" in query, "resourceVersion" in query) for query in lists] == [
        (True, False, False),
        (True, True, False),
        (True, True, False),
    ]


LIST_THREAD = "widgets-list"
PHASES: dict[str, tuple[str, list[Fault]]] = {
    "in an idle watch": ("watch", []),
    "in a silent watch": ("watch", [Silent()]),
    "while a watch is not answered": ("watch", [NoAnswer()]),
    "while a list is not answered": ("list", [NoAnswer()]),
    "in the wait after an error": ("list", [Answer(403, "Forbidden")]),
    "in the wait that the server asked for": ("list", [Answer(429, retry_after="60")]),
}


@pytest.mark.parametrize(("verb", "faults"), PHASES.values(), ids=PHASES.keys())
def test_stop(server: FakeAPIServer, verb: str, faults: list[Fault]) -> None:
    """A stop takes effect within a second, whatever the informer waits for, and leaves no thread."""
    before = set(threading.enumerate())
    server.inject(verb, *faults)
    informer = informer_for(server, clock=REAL_CLOCK)
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


@pytest.mark.parametrize(
    ("answer", "error_type", "text"),
    [
        (Answer(403, "Forbidden"), Forbidden, "Forbidden it is"),
        (Answer(502, body=PAGE_502, content_type="text/html"), ServerError, "status 502"),
    ],
)
def test_last_error_tells_the_operator(
    server: FakeAPIServer, start: Start, answer: Answer, error_type: type[Exception], text: str
) -> None:
    """While nothing can be listed last_error says why, in words; pages of proxies are left out."""
    server.inject("list", *[answer] * 1000)
    informer = informer_for(server, clock=REAL_CLOCK)
    start(informer)
    eventually(lambda: informer.last_error)
    assert isinstance(informer.last_error, error_type)
    assert text in str(informer.last_error)
    assert "<html" not in str(informer.last_error)
    assert not informer.has_synced


def test_wait_for_sync_ends_with_the_stop(server: FakeAPIServer) -> None:
    """False when the stop came before the first list."""
    informer = informer_for(server)
    stop = Stop()
    stop.set()
    assert not wait_for_sync([informer], stop, HastyClock())
