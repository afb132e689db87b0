"""A small HTTP server that stays available with many or slow clients.

Each connection has its own thread, so a client that hangs does not block others. The number of connections is limited:
a new one replaces the connection without progress for the longest time. So thousands of clients that send nothing, or
do not read the answer, do not prevent answers to the probes.
"""

import logging
import posixpath
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

log = logging.getLogger(__name__)

# A kubelet and some scrapers need a handful.
MAX_CONNECTIONS = 64
# A client that sends or reads nothing for this time loses its connection.
_IDLE_SECONDS = 10.0
# Sent at once. A client that needs more than the idle time for it is too slow.
_PART_BYTES = 65536
# When this number of clients wait to be accepted, further ones have to retry after a second.
_BACKLOG = 1024
# Interval in which the server checks the stop event.
_STOP_POLL_SECONDS = 0.1


class ServerBindError(OSError):
    """A server cannot listen on its address. The text names both, `__cause__` is the system's error."""


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

NOT_FOUND = Response(404, b"404 page not found\n")


class HTTPServer:
    """Serves handlers, each on its path and everything below.

    address: "host:port"; an empty host listens on all addresses of both IP versions, port 0 selects a free one.
    """

    def __init__(self, name: str, address: str, handlers: Mapping[str, Handler]) -> None:
        self.name = name
        self._address = address
        self._handlers = dict(handlers)
        self._server: _Server | None = None

    @property
    def enabled(self) -> bool:
        """Whether there is a handler, and an address to serve it on ("" and "0" are none)."""
        return self._address not in ("", "0") and bool(self._handlers)

    @property
    def port(self) -> int:
        """The port on which it listens. Raises RuntimeError before bind."""
        if self._server is None:
            raise RuntimeError(f"{self.name} server: it does not listen yet")
        port: int = self._server.server_address[1]
        return port

    def bind(self) -> None:
        """Listen: clients can connect, and get answers when `run` is called. Raises ServerBindError."""
        try:
            host, port = parse_address(self._address)
            self._server = _Server(host, port, self._route)
        except (OSError, OverflowError, ValueError) as error:
            raise ServerBindError(f"{self.name} server: cannot listen on {self._address!r}: {error}") from error

    def run(self, stop: threading.Event) -> None:
        """Serve until stop is set. Raises RuntimeError before bind. Open connections are closed with the process."""
        server = self._server
        if server is None:
            raise RuntimeError(f"{self.name} server: it does not listen yet")
        log.info("Server started", extra={"server": self.name, "port": self.port})
        try:
            while not stop.is_set():
                server.handle_request()
        finally:
            server.server_close()

    def _route(self, request: Request) -> Response:
        for path, handler in self._handlers.items():
            if request.path == path or request.path.startswith(path + "/"):
                return handler(request)
        return NOT_FOUND


def parse_address(address: str) -> tuple[str, int]:
    """Split "host:port", "[host]:port" or ":port". Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("want host:port with a port of at most 65535")
    return host.removeprefix("[").removesuffix("]"), int(port)


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


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Open connections are not waited for: a scraper that hangs must not delay the end of the process.
    block_on_close = False
    request_queue_size = _BACKLOG
    timeout = _STOP_POLL_SECONDS

    def __init__(self, host: str, port: int, route: Handler) -> None:
        self.route = route
        self.connections = _Connections()
        both = not host and socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if both or ":" in host else socket.AF_INET
        self._both = both
        super().__init__((host, port), _RequestHandler)

    def server_bind(self) -> None:
        if self._both:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Not the method of HTTPServer: it looks up the host name, which can hang without DNS.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.remove(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: aborted connections are not errors of this process, and the route logs its own errors."""


class _RequestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    server: _Server

    def _serve(self) -> None:
        self.server.connections.progressed(self.connection)
        if self.command not in ("GET", "HEAD"):
            # The request may have a body, which must not be read as the next request.
            self.close_connection = True
        url = urlsplit(self.path)
        request = Request(
            path=posixpath.normpath("/" + url.path.lstrip("/")),
            query=parse_qs(url.query, keep_blank_values=True),
            accept=self.headers.get("Accept", ""),
        )
        try:
            response = self.server.route(request)
        except Exception:
            log.exception("Request failed", extra={"path": request.path})
            response = Response(500, b"internal server error\n")
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

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815 - names of http.server

    def version_string(self) -> str:
        """Do not disclose the Python version."""
        return "controller"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's signature
        """Requests are not logged, because kubelets and scrapers send them all the time."""
