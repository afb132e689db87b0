"""The HTTP servers of a controller process: health and readiness on one port, metrics on another.

Formats are controller-runtime's (pkg/healthz): 200 "ok", or 500 with a line a check; ``?verbose`` lists the checks of a
success too, ``?exclude=name`` leaves one out, ``/readyz/name`` asks a single one. Every HTTP method is answered alike.
The endpoints are open: the list names only the checks that failed, the reasons go to the log.
"""

import logging
import posixpath
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

log = logging.getLogger(__name__)

# A check raises when it fails; the text of the error says why.
Check = Callable[[], None]

# A client that sends nothing for so long loses its connection and frees its thread.
_IDLE_SECONDS = 30.0
# Scrapers and kubelets connect in bursts when a node comes back.
_BACKLOG = 64

# The server looks for the stop so often: with two servers the lease is released up to 0.2 s later.
_STOP_POLL_SECONDS = 0.1


class ServerBindError(OSError):
    """A server cannot listen on its address; the text names both, ``__cause__`` is the system's error."""


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

_NOT_FOUND = Response(404, b"404 page not found\n")


class HealthHandler:
    """Serves the checks below one path, ``/healthz`` or ``/readyz``. Checks may be added while it serves."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._checks: dict[str, Check] = {}
        self._reported: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, name: str, check: Check) -> None:
        """Add a check. Raises ValueError when the name is taken or cannot stand in a path."""
        if not name or "/" in name:
            raise ValueError(f"health check name {name!r} cannot stand in a path")
        with self._lock:
            if name in self._checks:
                raise ValueError(f"health check {name!r} exists already")
            self._checks = {**self._checks, name: check}

    def __call__(self, request: Request) -> Response:
        name = request.path.removeprefix(self.path).strip("/")
        checks = self._checks
        if not name:
            return self._aggregate(checks, request)
        if name not in checks:
            return _NOT_FOUND
        failure = self._failure(name, checks[name])
        if failure:
            return Response(500, f"internal server error: {failure}\n".encode())
        return Response(200, b"ok")

    def _aggregate(self, checks: Mapping[str, Check], request: Request) -> Response:
        excluded = dict.fromkeys(name for name in request.query.get("exclude", ()) if name)
        lines = []
        failed = False
        for name in sorted(checks):
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
            elif self._failure(name, checks[name]):
                failed = True
                lines.append(f"[-]{name} failed: reason withheld")
            else:
                lines.append(f"[+]{name} ok")
        if not failed and "verbose" not in request.query:
            return Response(200, b"ok")
        unknown = [name for name in excluded if name not in checks]
        if unknown:
            names = ",".join(f'"{name}"' for name in unknown)
            lines.append(f"warn: some health checks cannot be excluded: no matches for {names}")
        lines.append("healthz check failed" if failed else "healthz check passed")
        return Response(500 if failed else 200, "".join(f"{line}\n" for line in lines).encode())

    def _failure(self, name: str, check: Check) -> str:
        """Run a check; return why it failed, or "". Kubelets ask every few seconds, so only changes are logged."""
        try:
            check()
        except Exception as error:  # noqa: BLE001 - a check fails by raising whatever it likes
            failure = str(error) or type(error).__name__
        else:
            failure = ""
        with self._lock:
            before = self._reported.get(name, "")
            self._reported[name] = failure
        if failure and not before:
            log.warning("Health check failed", extra={"path": self.path, "check": name, "reason": failure})
        elif before and not failure:
            log.info("Health check passed again", extra={"path": self.path, "check": name})
        return failure


class MetricsHandler:
    """Serves a registry as Prometheus text or, to those who accept it, as OpenMetrics."""

    path = "/metrics"

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def __call__(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.accept)
        return Response(200, encode(self._registry), content_type)


class HTTPServer:
    """Serves handlers, each on its path and everything below, one thread a connection.

    address: "host:port"; an empty host listens on every address of both IP versions, port 0 takes a free one.
    """

    def __init__(self, name: str, address: str, handlers: Mapping[str, Handler]) -> None:
        self.name = name
        self._address = address
        self._handlers = dict(handlers)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def enabled(self) -> bool:
        """Whether there is anything to serve, and an address to serve it on ("" and "0" are none)."""
        return self._address not in ("", "0") and bool(self._handlers)

    @property
    def port(self) -> int:
        """The port it listens on. Raises RuntimeError before start."""
        if self._server is None:
            raise RuntimeError(f"{self.name} server: not started")
        port: int = self._server.server_address[1]
        return port

    def start(self) -> None:
        """Listen, and serve in the background. Raises ServerBindError."""
        try:
            host, port = parse_address(self._address)
            self._server = _Server(host, port, self._route)
        except (OSError, OverflowError, ValueError) as error:
            raise ServerBindError(f"{self.name} server: cannot listen on {self._address!r}: {error}") from error
        serve = partial(self._server.serve_forever, poll_interval=_STOP_POLL_SECONDS)
        self._thread = threading.Thread(target=serve, name=f"{self.name}-server", daemon=True)
        self._thread.start()
        log.info("Server started", extra={"server": self.name, "port": self.port})

    def stop(self) -> None:
        """Stop listening; connections under way are cut when the process ends."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def _route(self, request: Request) -> Response:
        for path, handler in self._handlers.items():
            if request.path == path or request.path.startswith(path + "/"):
                return handler(request)
        return _NOT_FOUND


def parse_address(address: str) -> tuple[str, int]:
    """Split "host:port", "[host]:port" or ":port". Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("want host:port with a port of at most 65535")
    return host.removeprefix("[").removesuffix("]"), int(port)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Connections under way are not waited for: a scraper that hangs must not hold up the end of the process.
    block_on_close = False
    request_queue_size = _BACKLOG

    def __init__(self, host: str, port: int, route: Handler) -> None:
        self.route = route
        both = not host and socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if both or ":" in host else socket.AF_INET
        self._both = both
        super().__init__((host, port), _RequestHandler)

    def server_bind(self) -> None:
        if self._both:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Not HTTPServer's: that looks up its own host name, which can hang where DNS does.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet: clients that break off are none of this process's troubles, and the route logs its own."""


class _RequestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    server: _Server

    def _serve(self) -> None:
        if self.command not in ("GET", "HEAD"):
            # A body may follow that nobody reads; it must not be taken for the next request.
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
            self.wfile.write(response.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815 - names of http.server

    def version_string(self) -> str:
        """Tell nobody which Python this is."""
        return "controller"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's signature
        """Requests are not logged: kubelets and scrapers ask all the time."""
