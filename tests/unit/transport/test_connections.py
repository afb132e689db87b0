"""Which connection a request takes, and what becomes of it afterwards."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable

import pytest

from informers.transport import Kind, Pool, Response, Stop, TransportError
from informers.transport.connections import Call
from tests.support.lossy_network import LossyNetwork
from tests.unit.transport.peer import Peer, always, http, request_of

Start = Callable[..., Peer]

SHORT = 0.3
LONG = 20.0


def send(
    pool: Pool, url: str, method: str = "POST", *, timeout: float = LONG, max_bytes: int | None = None
) -> Response:
    return pool.send(method, url, headers={}, body=b"{}", stop=Stop(), timeout=timeout, max_bytes=max_bytes)


class Clock:
    """Moves only when a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_requests_share_a_connection(pool: Pool, start: Start, *, tls: bool) -> None:
    """Whatever the status is, and also after a stream that was refused."""
    for status in (200, 404, 503):
        peer = start(always(http(b"{}", status)), tls=tls)
        for _ in range(3):
            assert send(pool, peer.url).status == status
        if status != 200:
            assert isinstance(pool.open(peer.url, headers={}, stop=Stop(), timeout=LONG, read_timeout=LONG), Response)
        assert peer.connections == 1


def test_an_idle_connection_is_used_again_for_half_a_minute_only(start: Start) -> None:
    """After that, a load balancer may have dropped it without a word."""
    clock, peer = Clock(), start(always(http(b"{}")))
    with contextlib.closing(Pool(monotonic=clock)) as pool:
        connections = []
        for idle in (0, 29, 29, 31, 29):
            clock.now += idle
            send(pool, peer.url)
            connections.append(peer.connections)
    assert connections == [1, 1, 1, 2, 2]


def test_a_connection_that_was_lost_while_it_was_idle_fails_no_request(start: Start) -> None:
    """Nothing tells the client, and the server would never get what is sent over it."""
    clock, peer = Clock(), start(always(http(b"{}")))
    with (
        LossyNetwork(f"127.0.0.1:{peer.port}") as network,
        contextlib.closing(Pool(monotonic=clock)) as pool,
    ):
        url = f"http://{network.address}/"
        send(pool, url)
        network.lose()
        network.restore()
        clock.now += 180
        assert send(pool, url, timeout=60).status == 200


def test_idle_connections_that_were_closed_fail_no_read(pool: Pool, start: Start) -> None:
    """Also when many threads find out at once, and while others connect. A server that restarts leaves such ones."""

    def answer_once(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(http(b"{}"))
        request_of(connection)

    peer = start(answer_once)
    failures: list[Exception] = []
    together = threading.Barrier(8)

    def read() -> None:
        for _ in range(30):
            together.wait(60)
            try:
                send(pool, peer.url, "GET")
            except TransportError as error:
                failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert not failures


def test_a_write_is_not_repeated(pool: Pool, start: Start) -> None:
    """The server may have acted on it before it closed the connection."""
    heads: list[bytes] = []

    def answer_once(connection: socket.socket) -> None:
        heads.append(request_of(connection))
        connection.sendall(http(b"{}"))
        heads.append(request_of(connection))

    peer = start(answer_once)
    send(pool, peer.url)
    with pytest.raises(TransportError, match="the connection was") as caught:
        send(pool, peer.url)
    assert caught.value.may_repeat
    assert len(heads) == 2


class Many:
    """A server that has three open connections, all idle, when idle() returns."""

    def __init__(self, pool: Pool, start: Start) -> None:
        self.pool = pool
        self.is_dead = threading.Event()  # those of now get no answer any more
        self.answer = http(b"{}")
        self._together: threading.Barrier | None = threading.Barrier(3)
        self.peer = start(self._serve)

    def _serve(self, connection: socket.socket) -> None:
        is_new = self.is_dead.is_set()
        while request_of(connection):
            if self._together is not None:
                self._together.wait(LONG)
            if not self.is_dead.is_set() or is_new:
                connection.sendall(self.answer)

    def idle(self) -> None:
        threads = [threading.Thread(target=send, args=(self.pool, self.peer.url)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        self._together = None
        assert self.peer.connections == 3


def test_idle_connections_that_died_in_silence_are_met_once(pool: Pool, start: Start) -> None:
    """A route that goes away kills all of them, and tells nobody. One request hangs, the next is on a new connection.

    Leader election has time for two tries: were each dead connection met in turn, the lease would be lost.
    """
    many = Many(pool, start)
    many.idle()
    many.is_dead.set()
    with pytest.raises(TransportError, match="within"):
        send(pool, many.peer.url, timeout=SHORT)
    assert send(pool, many.peer.url).status == 200


def test_an_answer_that_is_too_large_leaves_the_others(pool: Pool, start: Start) -> None:
    """It says nothing about the network. Of its own connection the rest would have to be read."""
    many = Many(pool, start)
    many.idle()
    usual, many.answer = many.answer, http(b" " * 1000)
    with pytest.raises(TransportError) as caught:
        send(pool, many.peer.url, max_bytes=10)
    assert caught.value.kind is Kind.TOO_LARGE
    many.answer = usual
    for _ in range(3):
        assert send(pool, many.peer.url).status == 200
    assert many.peer.connections == 3


def test_new_credentials_mean_new_connections(pool: Pool, start: Start, trusting: ssl.SSLContext) -> None:
    """The server knows a connection by the certificate with which it was opened."""
    peer = start(always(http(b"{}")), tls=True)
    send(pool, peer.url)
    pool.use(trusting)
    send(pool, peer.url)
    assert peer.connections == 2


def test_a_connection_that_gets_a_401_is_closed(pool: Pool, start: Start) -> None:
    """Its client certificate may be what was refused."""
    peer = start(always(http(b"{}", 401)), tls=True)
    for _ in range(2):
        assert send(pool, peer.url).status == 401
    assert peer.connections == 2


def test_dead_peers_are_noticed_by_the_system(pool: Pool, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are probed, and given up when nothing is acknowledged."""
    sockets: list[socket.socket] = []
    attach = Call.attach

    def attaching(call: Call, sock: socket.socket, *, is_new: bool) -> None:
        sockets.append(sock)
        attach(call, sock, is_new=is_new)

    monkeypatch.setattr(Call, "attach", attaching)
    send(pool, start(always(http(b"{}"))).url)
    (sock,) = sockets
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 45_000


def test_requests_start_no_thread_but_for_connects(pool: Pool, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 requests of 8 threads: each thread may have to open one connection."""
    peer = start(always(http(b"{}")))
    started: list[str] = []
    original = threading.Thread.start

    def counting(thread: threading.Thread) -> None:
        if threading.current_thread().name.startswith("caller"):
            started.append(thread.name)
        original(thread)

    def call() -> None:
        for _ in range(125):
            assert send(pool, peer.url).status == 200

    callers = [threading.Thread(target=call, name=f"caller-{number}") for number in range(8)]
    monkeypatch.setattr(threading.Thread, "start", counting)
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert set(started) == {"connect"}
    assert len(started) <= 8


def test_nobody_there(pool: Pool) -> None:
    """The text names host and port, or the name that is unknown; it says nothing of what was sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for url, kind, text in (
        (f"http://localhost:{port}/s3cret", Kind.REFUSED, f"the connection to localhost:{port} was refused"),
        (f"http://user:s3cret@localhost:{port}/", Kind.REFUSED, f"the connection to localhost:{port} was refused"),
        ("https://nobody.invalid/s3cret", Kind.DNS, "the host name nobody.invalid cannot be resolved"),
    ):
        with pytest.raises(TransportError) as caught:
            send(pool, url)
        assert (caught.value.kind, str(caught.value)) == (kind, text)
        assert not caught.value.is_sent
