"""A request ends at its deadline and at its stop, in whichever phase it is. On real sockets.

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

from informers.transport import Kind, Pool, Response, Stop, Stopped, TransportError
from informers.transport.connections import Call
from tests.fake_api_server.waiting import eventually
from tests.support.lossy_network import LossyNetwork
from tests.unit.transport.peer import Behaviour, Peer, always, http, request_of

Start = Callable[..., Peer]

SHORT = 0.3  # a deadline
MOMENT = 0.05  # from the last that a peer does until the client waits for it
LONG = 20.0  # longer than any machine needs to notice a deadline, shorter than whatever a request may hang in

HEAD = b"HTTP/1.1 200 OK\r\n"
BODY = b"{}"


def send(pool: Pool, url: str, *, stop: Stop | None = None, body: bytes = BODY, **arguments: Any) -> Response:
    arguments = {"timeout": 2 * LONG} | arguments
    return pool.send("POST", url, headers={}, body=body, stop=stop or Stop(), **arguments)


Phase = Callable[[socket.socket, threading.Event], None]
"""The behaviour of a peer, which sets the event when the client is in this phase."""


def hold(connection: socket.socket, reached: threading.Event) -> None:
    """Read nothing, send nothing, until the test ends."""
    reached.set()
    while connection.getpeername():
        time.sleep(SHORT)


def drip(before: bytes, part: bytes = b" ") -> Phase:
    """A few bytes more each few milliseconds, without end: no single read ever times out."""

    def phase(connection: socket.socket, reached: threading.Event) -> None:
        request_of(connection)
        connection.sendall(before)
        while True:
            connection.sendall(part)
            reached.set()
            time.sleep(SHORT / 20)

    return phase


def answered_with(begun: bytes) -> Phase:
    def phase(connection: socket.socket, reached: threading.Event) -> None:
        request_of(connection)
        connection.sendall(begun)
        hold(connection, reached)

    return phase


def in_phase(phase: Phase, reached: threading.Event) -> Behaviour:
    return lambda connection: phase(connection, reached)


def stop_after(reached: threading.Event) -> Stop:
    """Is set when the phase is reached, in a thread."""
    stop = Stop()

    def work() -> None:
        assert reached.wait(LONG)
        time.sleep(MOMENT)
        stop.set()

    threading.Thread(target=work, daemon=True).start()
    return stop


class Names:
    """A name resolution that takes until let_go is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, reached: threading.Event) -> None:
        self.let_go, self.resolved = threading.Event(), threading.Event()
        resolve = socket.getaddrinfo

        def slow(*arguments: Any, **keywords: Any) -> Any:
            reached.set()
            self.let_go.wait(60)
            try:
                return resolve(*arguments, **keywords)
            finally:
                self.resolved.set()

        monkeypatch.setattr(socket, "getaddrinfo", slow)


PHASES: dict[str, tuple[Phase, bytes]] = {
    "a request that nobody reads": (hold, b"x" * 20_000_000),
    "no answer": (answered_with(b""), BODY),
    "a status line without end": (drip(b"HTTP/1.1 200 O"), BODY),
    "a header without end": (drip(HEAD + b"X:"), BODY),
    "headers without end": (drip(HEAD, b"X: 1\r\n"), BODY),
    "a body without end": (drip(HEAD + b"Content-Length: 1000000\r\n\r\n{"), BODY),
    "chunks without end": (drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), BODY),
    "half a body": (answered_with(HEAD + b"Content-Length: 100\r\n\r\n{"), BODY),
}


@pytest.fixture
def reached() -> threading.Event:
    """Set when the client is in the phase of the test."""
    return threading.Event()


@pytest.fixture(params=["name resolution", "connect", "TLS handshake"])
def unreachable(
    request: pytest.FixtureRequest, start: Start, monkeypatch: pytest.MonkeyPatch, reached: threading.Event
) -> Iterator[str]:
    """The URL of a server that no request ever reaches, because it hangs before."""
    peer = start(always(http(b"{}")))
    with contextlib.ExitStack() as stack:
        if request.param == "name resolution":
            stack.callback(Names(monkeypatch, reached).let_go.set)
            url = peer.url
        elif request.param == "connect":
            network = stack.enter_context(LossyNetwork(f"127.0.0.1:{peer.port}"))
            network.lose()
            reached.set()
            url = f"http://{network.address}/"
        else:
            url = start(in_phase(hold, reached)).url.replace("http:", "https:")
        yield url


class TestDeadline:
    """The timeout is for all phases together, and the error says that it was short."""

    def test_before_there_is_a_connection(self, pool: Pool, unreachable: str) -> None:
        begun = time.monotonic()
        with pytest.raises(TransportError, match=r"no connection within 0\.3 s") as caught:
            send(pool, unreachable, timeout=SHORT)
        assert caught.value.kind is Kind.TIMEOUT
        assert not caught.value.is_sent
        assert time.monotonic() - begun < LONG

    @pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
    @pytest.mark.parametrize(("phase", "body"), PHASES.values(), ids=PHASES)
    def test_in_each_phase(
        self, pool: Pool, start: Start, reached: threading.Event, *, phase: Phase, body: bytes, tls: bool
    ) -> None:
        """No phase starts it anew, and no byte of a server does."""
        peer = start(in_phase(phase, reached), tls=tls)
        begun = time.monotonic()
        with pytest.raises(TransportError, match=r"no complete answer within 0\.3 s") as caught:
            send(pool, peer.url, timeout=SHORT, body=body)
        assert caught.value.kind is Kind.TIMEOUT
        assert time.monotonic() - begun < LONG

    def test_of_a_stream_is_for_its_head_only(self, pool: Pool, start: Start, reached: threading.Event) -> None:
        """From then on each read has its own time."""
        peer = start(in_phase(answered_with(HEAD + b"\r\n{"), reached))
        stream = pool.open(peer.url, headers={}, stop=Stop(), timeout=LONG, read_timeout=SHORT)
        assert not isinstance(stream, Response)
        assert stream.read(1) == b"{"
        with pytest.raises(TransportError, match=r"within 0\.3 s") as caught:
            stream.read(1)
        assert caught.value.kind is Kind.TIMEOUT
        stream.close()

    def test_does_not_outlive_its_request(self, pool: Pool, start: Start) -> None:
        """A pooled connection is good for the next one, long after the first one's deadline."""
        peer = start(always(http(b"{}")))
        send(pool, peer.url, timeout=2 * SHORT)
        time.sleep(2 * SHORT)  # the deadline lies in real time: nothing to wait for but the clock
        assert send(pool, peer.url).status == 200
        assert peer.connections == 1

    def test_what_was_not_sent_in_time_is_never_sent(
        self, pool: Pool, start: Start, monkeypatch: pytest.MonkeyPatch, reached: threading.Event
    ) -> None:
        """A write that the name resolution held up for too long does not happen later, when nobody expects it."""
        heads: list[bytes] = []
        peer = start(lambda connection: heads.append(request_of(connection)))
        names = Names(monkeypatch, reached)
        before = set(threading.enumerate())
        with pytest.raises(TransportError, match="no connection within"):
            send(pool, peer.url, timeout=SHORT)
        names.let_go.set()
        assert names.resolved.wait(60)
        eventually(lambda: not [t for t in set(threading.enumerate()) - before if t.name == "connect"])
        assert [head for head in heads if head] == []


class TestStop:
    """It ends a request at once. One that was sent may be left to finish, because its effect has to be known."""

    @pytest.mark.parametrize("finish", [False, True], ids=["any", "one to finish"])
    def test_before_there_is_a_connection(
        self, pool: Pool, unreachable: str, reached: threading.Event, *, finish: bool
    ) -> None:
        begun = time.monotonic()
        with pytest.raises(Stopped):
            send(pool, unreachable, stop=stop_after(reached), finish=finish)
        assert time.monotonic() - begun < LONG

    @pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
    @pytest.mark.parametrize(("phase", "body"), PHASES.values(), ids=PHASES)
    def test_in_each_phase(
        self, pool: Pool, start: Start, reached: threading.Event, *, phase: Phase, body: bytes, tls: bool
    ) -> None:
        peer = start(in_phase(phase, reached), tls=tls)
        begun = time.monotonic()
        with pytest.raises(Stopped):
            send(pool, peer.url, stop=stop_after(reached), body=body)
        assert time.monotonic() - begun < LONG

    def test_waits_for_the_answer_to_what_has_to_finish(self, pool: Pool, start: Start) -> None:
        """No other request begins."""
        stop = Stop()
        heads: list[bytes] = []

        def behaviour(connection: socket.socket) -> None:
            while head := request_of(connection):
                heads.append(head)
                stop.set()
                time.sleep(MOMENT)
                connection.sendall(http(b"{}"))

        peer = start(behaviour)
        assert send(pool, peer.url, stop=stop, finish=True).status == 200
        with pytest.raises(Stopped):
            send(pool, peer.url, stop=stop, finish=True)
        assert len(heads) == 1

    @pytest.mark.parametrize(
        "head",
        [HEAD + b"Connection: close\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n", HEAD + b"\r\n"],
        ids=["Connection: close", "HTTP/1.0", "no length"],
    )
    def test_wakes_the_reader_of_a_stream(
        self, pool: Pool, start: Start, reached: threading.Event, head: bytes
    ) -> None:
        """urllib3 gives a connection whose end is that of the answer out of its hands; the stop finds it."""
        stop = Stop()
        peer = start(in_phase(answered_with(head), reached))
        stream = pool.open(peer.url, headers={}, stop=stop, timeout=LONG, read_timeout=2 * LONG)
        assert not isinstance(stream, Response)
        threading.Timer(MOMENT, stop.set).start()
        with pytest.raises(Stopped):
            stream.read(1)
        stream.close()

    @pytest.mark.parametrize("is_connected", [False, True], ids=["new connection", "kept connection"])
    def test_right_before_the_bytes_go_out(
        self, pool: Pool, start: Start, monkeypatch: pytest.MonkeyPatch, *, is_connected: bool
    ) -> None:
        """Over by the clock, as a term of leadership is in a process that was frozen: nobody called set()."""

        class Frozen(Stop):
            is_over = False

            def is_set(self) -> bool:
                return self.is_over or super().is_set()

        heads: list[bytes] = []

        def behaviour(connection: socket.socket) -> None:
            while head := request_of(connection):
                heads.append(head)
                connection.sendall(http(b"{}"))

        peer, term = start(behaviour), Frozen()
        if is_connected:
            send(pool, peer.url)
        attach = Call.attach

        def freeze(call: Call, *arguments: Any, **keywords: Any) -> None:
            attach(call, *arguments, **keywords)
            term.is_over = True

        monkeypatch.setattr(Call, "attach", freeze)
        with pytest.raises(Stopped):
            send(pool, peer.url, stop=term)
        send(pool, peer.url)
        assert len(heads) == 1 + is_connected
