"""Small HTTP servers that stay available with many or slow clients.

Each connection has its own thread. Their number is limited: a new one replaces the connection without progress for the
longest time. So thousands of clients that send nothing, or do not read the answer, do not prevent answers to probes.
"""

import logging
import posixpath
import selectors
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from urllib.parse import parse_qs, urlsplit

from informers import Stop

log = logging.getLogger(__name__)

# A kubelet and some scrapers need a handful.
MAX_CONNECTIONS = 64
# A client that sends or reads nothing for this time loses its connection.
_IDLE_SECONDS = 10.0
# Sent at once. A client that needs more than the idle time for it is too slow.
_PART_BYTES = 65536
# When this number of clients wait to be accepted, further ones have to retry after a second.
_BACKLOG = 1024


class ServerBindError(OSError):
    """A server cannot listen on its port. The text names both, `__cause__` is the system's error."""


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    query: Mapping[str, list[str]]
    accept: str


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Handler = Callable[[Request], Response]

BAD_REQUEST = Response(400, b"400 bad request\n")
NOT_FOUND = Response(404, b"404 page not found\n")


class _Connections:
    """The open connections, ordered by progress: the one without progress for the longest time is first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[socket.socket, None] = OrderedDict()

    def add(self, connection: socket.socket) -> None:
        """Add a connection; the first one is closed when there are too many."""
        with self._lock:
            self._open[connection] = None
            if len(self._open) > MAX_CONNECTIONS:
                oldest, _ = self._open.popitem(last=False)
                # Its thread wakes up and closes it. close() here would not wake it up.
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)

    def progressed(self, connection: socket.socket) -> None:
        with self._lock:
            if connection in self._open:
                self._open.move_to_end(connection)

    def remove(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.pop(connection, None)


class HTTPServer(ThreadingMixIn, TCPServer):
    """Serves handlers, each on its path and everything below.

    It listens on all addresses of both IP versions when it is created; port 0 selects a free one. Clients get answers
    when `serve` runs. Raises ServerBindError.
    """

    allow_reuse_address = True
    daemon_threads = True
    # Open connections are not waited for: a scraper that hangs must not delay the end of the process.
    block_on_close = False
    request_queue_size = _BACKLOG
    timeout = 0  # `serve` waits for connections

    def __init__(self, name: str, port: int, handlers: Mapping[str, Handler]) -> None:
        self.name = name
        self.connections = _Connections()
        self._handlers = dict(handlers)
        self.address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        try:
            super().__init__(("", port), _RequestHandler)
        except OSError as error:
            raise ServerBindError(f"{name} server: cannot listen on port {port}: {error}") from error
        self.port: int = self.server_address[1]

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def answer(self, request: Request) -> Response:
        for path, handler in self._handlers.items():
            if request.path == path or request.path.startswith(path + "/"):
                return handler(request)
        return NOT_FOUND

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.remove(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: aborted connections are not errors of this process, and failed handlers are logged elsewhere."""


def serve(servers: Sequence[HTTPServer], stop: Stop) -> None:
    """Accept connections until stop is set; frees the ports then. Open connections are closed with the process."""
    stopped, end = socket.socketpair()  # `stopped` becomes readable when `end` is closed
    with selectors.DefaultSelector() as selector, stopped, end:
        selector.register(stopped, selectors.EVENT_READ)
        for server in servers:
            selector.register(server, selectors.EVENT_READ, server)
            log.info("Server started", extra={"server": server.name, "port": server.port})
        try:
            stop.add(end.close)
            while not stop.is_set():
                for key, _ in selector.select():
                    if key.data is not None:
                        key.data.handle_request()
        finally:
            for server in servers:
                server.server_close()


class _RequestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    server: HTTPServer

    def _serve(self) -> None:
        self.server.connections.progressed(self.connection)
        if self.command not in ("GET", "HEAD"):
            # The request may have a body, which must not be read as the next request.
            self.close_connection = True
        response = self._response()
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            # In parts, because the timeout limits a whole call of sendall: a client that reads slowly makes progress.
            for start in range(0, len(response.body), _PART_BYTES):
                self.wfile.write(response.body[start : start + _PART_BYTES])
                self.server.connections.progressed(self.connection)

    def _response(self) -> Response:
        try:
            url = urlsplit(self.path)
            query = parse_qs(url.query, keep_blank_values=True)
        except ValueError:
            return BAD_REQUEST
        path = posixpath.normpath("/" + url.path.lstrip("/"))
        try:
            return self.server.answer(Request(path, query, accept=self.headers.get("Accept", "")))
        except Exception:
            log.exception("Request failed", extra={"path": path})
            return Response(500, b"internal server error\n")

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815 - names of http.server

    def version_string(self) -> str:
        """Do not disclose the Python version."""
        return "controller"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's signature
        """Requests are not logged, because kubelets and scrapers send them all the time."""
