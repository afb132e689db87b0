"""A connection that breaks affects no other connection of its thread."""

import contextlib
import os
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from e2e.pki import Authority
from informers.transport import Stop, Stopped
from informers.transport.connections import Call, TLSSocket
from tests.unit.transport.openssl_errors import leave_errors


class Pair(NamedTuple):
    """Both ends of a connection over which data went in both directions."""

    client: TLSSocket
    server: ssl.SSLSocket


class Server:
    def __init__(self, directory: Path) -> None:
        authority = Authority("test-ca")
        serving = authority.serving("localhost", dns_names=["localhost"], addresses=["127.0.0.1"])
        (directory / "pair.pem").write_bytes(serving.certificate_pem + serving.key_pem)
        self._server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server_side.load_cert_chain(directory / "pair.pem")
        self._client_side = ssl.create_default_context(cadata=authority.certificate_pem.decode())
        self._client_side.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._client_side.sslsocket_class = TLSSocket
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]

    def connect(self) -> Pair:
        accepted: list[ssl.SSLSocket] = []

        def accept() -> None:
            accepted.append(self._server_side.wrap_socket(self._listener.accept()[0], server_side=True))

        thread = threading.Thread(target=accept)
        thread.start()
        client = self._client_side.wrap_socket(self._dial(), server_hostname="localhost")
        assert isinstance(client, TLSSocket)
        thread.join()
        pair = Pair(client, accepted[0])
        self._open += pair
        for one, other in (pair, reversed(pair)):
            one.sendall(b"x")
            assert other.recv(1) == b"x"
        client.settimeout(5)
        return pair

    def fail_to_connect(self) -> None:
        """The server ends the connection in the handshake."""

        def reset() -> None:
            accepted, _ = self._listener.accept()
            accepted.recv(1)
            _reset(accepted)

        thread = threading.Thread(target=reset)
        thread.start()
        dialed = self._dial()
        try:
            with pytest.raises(OSError):
                self._client_side.wrap_socket(dialed, server_hostname="localhost")
        finally:
            thread.join()

    def close(self) -> None:
        for one in self._open:
            one.close()

    def _dial(self) -> socket.socket:
        return socket.create_connection(self._listener.getsockname(), timeout=5)


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(sock.detach())


def shut_down(pair: Pair) -> None:
    """By another thread of the process."""
    with socket.socket(fileno=os.dup(pair.client.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


def reset(pair: Pair) -> None:
    _reset(pair.server)


def closed_when_idle(pair: Pair) -> None:
    """The client sends on it nevertheless, which is answered with a reset."""
    os.close(pair.server.detach())
    pair.client.sendall(b"x")
    time.sleep(0.05)  # the reset arrives


def ended(pair: Pair) -> None:
    os.close(pair.server.detach())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.close()


@pytest.fixture(params=["as this Python", "as Python 3.13"])
def python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a failure leaves a system error in OpenSSL's queue depends on the versions of both."""
    if request.param == "as Python 3.13":
        leave_errors(monkeypatch)


def in_thread(work: Callable[[], None]) -> None:
    """The queue belongs to the thread."""
    with ThreadPoolExecutor(1) as threads:
        threads.submit(work).result()


OPERATIONS: dict[str, Callable[[ssl.SSLSocket], object]] = {
    "recv": lambda sock: sock.recv(1),
    "recv_into": lambda sock: sock.recv_into(bytearray(1)),
    "send": lambda sock: sock.send(b"x"),
}


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize("is_stopped", [False, True], ids=["", "stopped"])
@pytest.mark.parametrize("failure", [shut_down, reset, closed_when_idle, ended])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_another_connection_goes_on(
    failure: Callable[[Pair], None],
    operation: Callable[[ssl.SSLSocket], object],
    server: Server,
    *,
    is_stopped: bool,
) -> None:
    """A read from it that has to wait does wait, and then gets its data."""

    def set_stop() -> float:
        stop.set()
        return 0.0

    stop = Stop()
    # It looks at its clock right before the operation.
    call = Call(stop, at=5.0, timeout=5.0, monotonic=set_stop)

    def work() -> None:
        broken, other = server.connect(), server.connect()
        failure(broken)
        if is_stopped:
            broken.client.call = call
        for _ in range(2):
            with contextlib.suppress(OSError, Stopped):
                operation(broken.client)
        other.client.settimeout(0.01)
        with pytest.raises(TimeoutError):
            other.client.recv(1)
        other.server.sendall(b"x")
        other.client.settimeout(5)
        assert other.client.recv(1) == b"x"

    in_thread(work)


@pytest.mark.usefixtures("python")
def test_the_next_connection_after_a_failed_handshake(server: Server) -> None:
    def work() -> None:
        server.fail_to_connect()
        pair = server.connect()
        pair.client.settimeout(0.01)
        with pytest.raises(TimeoutError):
            pair.client.recv(1)

    in_thread(work)


def test_a_connection_that_is_reset_before_its_handshake_is_closed() -> None:
    context = ssl.create_default_context()
    context.sslsocket_class = TLSSocket
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        descriptor = client.fileno()
        with listener.accept()[0] as accepted:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert select.select([client], [], [], 5.0)[0], "the reset has arrived"
        with pytest.raises(ConnectionResetError) as failure:
            context.wrap_socket(client, server_hostname="localhost")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
        del failure
