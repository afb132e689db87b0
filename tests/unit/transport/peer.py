"""A server at the socket border, whose every byte a test decides."""

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable

Behaviour = Callable[[socket.socket], None]


class Peer:
    """Accepts connections and treats each with `behaviour`, in a thread of its own, until the end of the test."""

    def __init__(self, behaviour: Behaviour, context: ssl.SSLContext | None = None) -> None:
        self._behaviour = behaviour
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._accepted: list[socket.socket] = []
        self.connections = 0
        self.over = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://localhost:{self.port}/"

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
            self.connections += 1
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._accepted.append(connection)
            if self.over.is_set():
                connection.close()
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
                self._accepted.append(connection)
            with connection:
                self._behaviour(connection)


def request_of(connection: socket.socket) -> bytes:
    """A whole request; b"" at the end of the connection. To close with unread bytes would reset the connection."""
    request = b""
    while True:
        head, end, body = request.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if end and len(body) >= (int(length[1]) if length else 0):
            return request
        data = connection.recv(65536)
        if not data:
            return b""
        request += data


def http(body: bytes, status: int = 200, **headers: str) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def always(answer: bytes) -> Behaviour:
    """This answer to each request."""

    def behaviour(connection: socket.socket) -> None:
        while request_of(connection):
            connection.sendall(answer)

    return behaviour


def once(answer: bytes) -> Behaviour:
    """These bytes, and the end of the connection."""

    def behaviour(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(answer)

    return behaviour
