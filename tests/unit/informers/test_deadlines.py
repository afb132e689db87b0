"""Requests end in time, whatever the other side does or leaves undone. On real sockets.

No test measures how quick that is: what a request would hang in lasts far longer than LONG, and a deadline is far
shorter, so each of them can tell the two apart on a busy machine too.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes.client import Configuration

from informers import (
    ApiError,
    Client,
    ConnectionFailed,
    ResourceListerWatcher,
    Stop,
    Stopped,
    TooManyRequests,
    WatchStream,
)
from informers.credentials import Credentials
from informers.transport.connections import Call
from tests.fake_api_server.objects import WIDGETS, widget
from tests.fake_api_server.server import Answer, FakeAPIServer, NoAnswer
from tests.fake_api_server.waiting import HastyClock, eventually
from tests.support.lossy_network import LossyNetwork
from workqueue.clock import REAL_CLOCK

SHORT = 0.2  # a deadline
LONG = 20.0  # longer than any machine needs to notice a deadline, shorter than whatever a request may hang in

Behaviour = Callable[[socket.socket], None]


class Peer:
    """Accepts connections and treats each as told, in a thread of its own, until the end of the test."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._accepted: list[socket.socket] = []
        self.received: list[bytes] = []
        self.over = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self.over.set()
        for each in (self._listener, *self._accepted):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._accepted.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._behaviour(connection)


@pytest.fixture
def peer() -> Iterator[Callable[[Behaviour], Peer]]:
    peers: list[Peer] = []

    def start(behaviour: Behaviour) -> Peer:
        peers.append(Peer(behaviour))
        return peers[-1]

    yield start
    for each in peers:
        each.close()


def request_of(connection: socket.socket) -> bytes:
    """The head of a request."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(65536)
        if not data:
            break
        head += data
    return head


def hold(connection: socket.socket) -> None:
    """Read nothing, say nothing."""
    time.sleep(2 * LONG)


def say_nothing(connection: socket.socket) -> None:
    request_of(connection)
    hold(connection)


def drip(before: bytes) -> Behaviour:
    """One more byte each few milliseconds, without end: no single read ever times out."""

    def behaviour(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(before)
        while True:
            connection.sendall(b" ")
            time.sleep(SHORT / 20)

    return behaviour


def client_of(address: str, scheme: str = "http", **arguments: Any) -> Client:
    configuration = Configuration(host=f"{scheme}://{address}")
    return Client(configuration, Credentials(configuration), **arguments)


ANSWERS: dict[str, tuple[str, Behaviour, bytes | None]] = {
    "no TLS handshake": ("https", hold, None),
    "no answer": ("http", say_nothing, None),
    "a request that nobody reads": ("http", hold, b"x" * 50_000_000),
    "an answer whose head never ends": ("http", drip(b"HTTP/1.1 200 OK\r\nX:"), None),
    "an answer whose body never ends": ("http", drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{"), None),
    "an error whose body never ends": ("http", drip(b"HTTP/1.1 500 No\r\nContent-Length: 1000000\r\n\r\n{"), None),
}


@pytest.mark.parametrize(("scheme", "behaviour", "body"), ANSWERS.values(), ids=ANSWERS.keys())
def test_timeout_ends_each_phase(
    peer: Callable[[Behaviour], Peer], scheme: str, behaviour: Behaviour, body: bytes | None
) -> None:
    """After the timeout the request has failed, and says that time was short."""
    client = client_of(peer(behaviour).address, scheme)
    begun = time.monotonic()
    with pytest.raises(ConnectionFailed, match=r"within 0\.2 s") as caught:
        client.request("PUT" if body else "GET", "/x", body=body.decode() if body else None, timeout=SHORT)
    assert caught.value.reason == ConnectionFailed.TIMEOUT
    assert time.monotonic() - begun < LONG


def test_timeout_ends_a_connect_that_is_swallowed() -> None:
    """A network that drops what is sent to an address, as a firewall does: nothing refuses, nothing answers."""
    with LossyNetwork("127.0.0.1:1") as network:
        network.lose()
        begun = time.monotonic()
        with pytest.raises(ConnectionFailed, match=r"no connection within 0\.2 s"):
            client_of(network.address).get(WIDGETS, "a", namespace="default", timeout=SHORT)
        assert time.monotonic() - begun < LONG


def test_what_was_not_sent_in_time_is_never_sent(server: FakeAPIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that the name resolution held up for too long does not happen later, when nobody expects it."""
    resolve, let_go, resolved = socket.getaddrinfo, threading.Event(), threading.Event()

    def slow(host: Any, *arguments: Any, **keywords: Any) -> Any:
        let_go.wait(60)
        try:
            return resolve("127.0.0.1", *arguments, **keywords)
        finally:
            resolved.set()

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    client = client_of(server.url.removeprefix("http://").replace("127.0.0.1", "slow.test"))
    before = set(threading.enumerate())
    with pytest.raises(ConnectionFailed, match=r"no connection within 0\.2 s"):
        client.create(WIDGETS, widget("a", 1), timeout=SHORT)
    let_go.set()
    assert resolved.wait(60)
    eventually(lambda: not [t for t in set(threading.enumerate()) - before if t.name == "connect"])
    assert not server.requests


class _Frozen(Stop):
    """Over by the clock, as a term of leadership is, in a process that was frozen: nobody called set()."""

    def __init__(self) -> None:
        super().__init__()
        self.is_over = False

    def is_set(self) -> bool:
        return self.is_over or super().is_set()


@pytest.mark.parametrize("is_connected", [False, True], ids=["new connection", "connection kept"])
def test_nothing_is_sent_for_a_term_that_ended_meanwhile(
    server: FakeAPIServer, monkeypatch: pytest.MonkeyPatch, *, is_connected: bool
) -> None:
    """A process that wakes after its time, right before the bytes of a write would go out, keeps them."""
    term, kept = _Frozen(), server.client()
    client = kept.until(term, stop=Stop())
    if is_connected:
        client.list(WIDGETS)
    sent = len(server.requests)
    attach = Call.attach

    def freeze(exchange: Call, *arguments: Any, **keywords: Any) -> None:
        attach(exchange, *arguments, **keywords)
        term.is_over = True

    monkeypatch.setattr(Call, "attach", freeze)
    with pytest.raises(Stopped):
        client.create(WIDGETS, widget("a", 1))
    kept.list(WIDGETS)
    assert [each.method for each in server.requests[sent:]] == ["GET"]


TYPED_CALLS: dict[str, Callable[[Client], object]] = {
    "get": lambda client: client.get(WIDGETS, "a", namespace="default", timeout=SHORT),
    "list": lambda client: client.list(WIDGETS, timeout=SHORT),
    "create": lambda client: client.create(WIDGETS, widget("a", 1), timeout=SHORT),
    "update": lambda client: client.update(WIDGETS, widget("a", 1), timeout=SHORT),
    "patch": lambda client: client.patch(WIDGETS, "a", {}, namespace="default", timeout=SHORT),
    "delete": lambda client: client.delete(WIDGETS, "a", namespace="default", timeout=SHORT),
}


@pytest.mark.parametrize("call", TYPED_CALLS.values(), ids=TYPED_CALLS.keys())
def test_each_call_has_a_timeout(server: FakeAPIServer, call: Callable[[Client], object]) -> None:
    """Not only request()."""
    server.inject("other", NoAnswer())
    server.inject("list", NoAnswer())
    with pytest.raises(ConnectionFailed, match=r"within 0\.2 s"):
        call(server.client())


class TestListTimeout:
    """A list may take longer than other requests, and how long is the caller's to say."""

    def test_is_longer(self, server: FakeAPIServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its first byte may come when any other request would have been given up."""
        monkeypatch.setattr("informers.client.REQUEST_TIMEOUT", SHORT)
        server.cluster.put("a")
        client, answer = server.client(), threading.Event()
        server.inject("other", NoAnswer())
        server.inject("list", NoAnswer(until=answer))
        threading.Timer(4 * SHORT, answer.set).start()
        assert len(client.list(WIDGETS)["items"]) == 1
        with pytest.raises(ConnectionFailed):
            client.get(WIDGETS, "a", namespace="default")

    def test_of_an_informer(self, server: FakeAPIServer) -> None:
        """Is a setting of where it lists."""
        server.inject("list", NoAnswer())
        source = ResourceListerWatcher(server.client(), WIDGETS, list_timeout=SHORT)
        with pytest.raises(ConnectionFailed, match=r"within 0\.2 s"):
            source.list(limit=None, continue_="", stop=Stop())


class TestRetryAfter:
    """The waits between two tries count too."""

    def test_a_wait_that_does_not_fit_is_not_begun(self, server: FakeAPIServer) -> None:
        """The error tells how long the server asks to wait; the caller may know better what to do meanwhile."""
        server.inject("other", Answer(429, "TooManyRequests", retry_after="3"))
        clock = HastyClock()
        with pytest.raises(TooManyRequests) as caught:
            server.client(clock=clock).request("GET", "/x", timeout=2.5)
        assert caught.value.retry_after == 3.0
        assert clock.sleeps == []

    def test_waits_add_up(self, server: FakeAPIServer) -> None:
        """The third wait of 3 s would be over after 9 s."""
        server.inject("other", *[Answer(503, retry_after="3")] * 10)
        clock = HastyClock()
        with pytest.raises(ApiError):
            server.client(clock=clock).request("GET", "/x", timeout=8)
        assert clock.sleeps == [3.0, 3.0]
        assert len(server.requests) == 3

    def test_the_try_after_a_wait_has_what_is_left(self, server: FakeAPIServer) -> None:
        """Not the whole timeout once more."""
        server.inject("other", Answer(503, retry_after="50"), NoAnswer())
        begun = time.monotonic()
        with pytest.raises(ConnectionFailed, match=r"within 0\.\d s"):
            server.client(clock=HastyClock()).request("GET", "/x", timeout=50.5)
        assert time.monotonic() - begun < LONG

    def test_a_stop_ends_the_wait(self, server: FakeAPIServer) -> None:
        """Of the work, and then nothing is sent again; first tries still are."""
        server.inject("other", *[Answer(429, "TooManyRequests", retry_after="25")] * 2, Answer(200, body=b"{}"))
        metrics = Retries()
        stop = Stop()
        client = server.client(clock=REAL_CLOCK, metrics=metrics).until(None, stop=stop)
        errors: list[ApiError] = []

        def work() -> None:
            for _ in range(2):
                with contextlib.suppress(TooManyRequests):
                    client.request("POST", "/x", body={})
                errors.append(TooManyRequests(""))
            client.request("POST", "/last", body={})

        thread = threading.Thread(target=work)
        thread.start()
        assert metrics.seen.wait(60)
        assert not errors
        stop.set()
        thread.join(LONG)
        assert len(errors) == 2
        assert [request.path for request in server.requests] == ["/x", "/x", "/last"]


def test_idle_connections_that_died_fail_no_read(peer: Callable[[Behaviour], Peer]) -> None:
    """Also when many threads find out at once, and while others connect. A server that restarts leaves such ones."""

    def answer_once(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        request_of(connection)
        connection.close()

    client = client_of(peer(answer_once).address)
    failures: list[Exception] = []
    together = threading.Barrier(8)

    def read() -> None:
        for _ in range(30):
            together.wait(60)
            try:
                client.request("GET", "/x")
            except ApiError as error:
                failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert not failures


class Retries:
    def __init__(self) -> None:
        self.seen = threading.Event()

    def request(self, *, verb: str, code: str, host: str, seconds: float) -> None:
        pass

    def retry(self, *, verb: str, code: str, host: str) -> None:
        self.seen.set()


class TestStop:
    """A request can be told to end at once."""

    def test_ends_a_request(self, server: FakeAPIServer) -> None:
        """Also one that is not answered; what comes later is refused at once."""
        server.inject("list", NoAnswer())
        client, stop = server.client(), Stop()
        threading.Thread(target=lambda: (server.wait_for_request("list"), stop.set())).start()  # type: ignore[func-returns-value]
        for _ in range(2):
            with pytest.raises(Stopped):
                client.list(WIDGETS, stop=stop)
        assert len(server.requests) == 1

    def test_close_ends_all_requests(self, server: FakeAPIServer) -> None:
        """Of a client that is closed nobody waits for an answer."""
        server.inject("other", NoAnswer())
        client = server.client()
        threading.Thread(target=lambda: (server.wait_for_request("other"), client.close())).start()  # type: ignore[func-returns-value]
        with pytest.raises(ConnectionFailed, match="the client is closed"):
            client.request("GET", "/x")


def _silent_watch(head: bytes) -> Behaviour:
    def behaviour(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(head)
        hold(connection)

    return behaviour


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"],
    ids=["Connection: close", "HTTP/1.0", "no length"],
)
def test_stop_wakes_a_watch_whose_end_is_that_of_its_connection(peer: Callable[[Behaviour], Peer], head: bytes) -> None:
    """urllib3 gives such a connection out of its hands; the stop finds it all the same."""
    stream = client_of(peer(_silent_watch(head)).address).watch(WIDGETS)
    stream.open()
    reader = threading.Thread(target=list, args=(stream,), daemon=True)
    reader.start()
    stream.stop()
    reader.join(LONG)
    assert not reader.is_alive()
    stream.close()


def test_stop_of_a_watch_that_waits_for_its_second_try(server: FakeAPIServer) -> None:
    """It is not sent again."""
    server.inject("watch", Answer(429, "TooManyRequests", retry_after="60"))
    metrics = Retries()
    stream = server.client(metrics=metrics).watch(WIDGETS)
    ended = threading.Event()
    threading.Thread(target=lambda: (_opened(stream), ended.set()), daemon=True).start()  # type: ignore[func-returns-value]
    assert metrics.seen.wait(60)
    stream.stop()
    assert ended.wait(LONG)
    assert len(server.requests) == 1


def _opened(stream: WatchStream) -> None:
    with contextlib.suppress(ApiError):
        stream.open()
    stream.close()


def test_idle_connections_that_died_in_silence_are_met_once(peer: Callable[[Behaviour], Peer]) -> None:
    """A route that goes away kills all of them, and tells nobody. One request hangs, the next is on a new connection.

    Leader election has time for two tries: were each dead connection met in turn, the lease would be lost.
    """
    dead = threading.Event()
    together = threading.Barrier(3)

    def answer(connection: socket.socket) -> None:
        born_dead = dead.is_set()
        while connection.recv(10_000):
            if not born_dead and not dead.is_set():
                together.wait(LONG)  # so that three connections are open at once, and idle afterwards
            if dead.is_set() and not born_dead:
                continue
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")

    server = peer(answer)
    configuration = Configuration()
    configuration.host = f"http://{server.address}"
    client = Client(configuration, Credentials(configuration))
    threads = [threading.Thread(target=client.request, args=("GET", "/")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    dead.set()
    with pytest.raises(ConnectionFailed):
        client.request("PUT", "/", body={}, timeout=SHORT)
    assert client.request("PUT", "/", body={}, timeout=LONG) == {}
    client.close()
