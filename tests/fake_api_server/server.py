"""Serves a Cluster over real HTTP on the loopback, with faults on request.

Each request of a verb ("list", "watch", "other") gets the next fault of this verb; without one the answer is correct.
`requests` has all requests in order.
"""

import contextlib
import json
import re
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from kubernetes.client import Configuration

from informers.client import Client
from informers.credentials import Credentials
from tests.fake_api_server.cluster import Cluster, Event, Refused
from tests.fake_api_server.objects import WIDGETS, status

# All namespaces, or one.
_COLLECTION = rf"{WIDGETS.path().removesuffix('/widgets')}(/namespaces/[^/]+)?/widgets"


@dataclass(frozen=True)
class Answer:
    """The answer has this status code. Its body is a Status, or the given one."""

    code: int
    reason: str = ""
    retry_after: str = ""
    body: bytes | None = None


@dataclass(frozen=True)
class CloseWithoutAnswer:
    """The server closes the connection without an answer."""


@dataclass(frozen=True)
class NoAnswer:
    """The server reads the request and does not answer until it closes. If `until` is set before, it answers."""

    until: threading.Event | None = None


@dataclass(frozen=True)
class CutMidLine:
    """After this number of events, the connection ends in the middle of the next one, and the answer is incomplete."""

    after: int = 0


@dataclass(frozen=True)
class EndMidLine:
    """After this number of events, the answer ends in the middle of the next one, but correctly for HTTP."""

    after: int = 0


@dataclass(frozen=True)
class Silent:
    """A half-open connection: the watch begins, and then no byte arrives."""


@dataclass(frozen=True)
class Raw:
    """The watch begins with these bytes and then continues correctly."""

    data: bytes


@dataclass(frozen=True)
class End:
    """The answer ends correctly after this number of events, the last of which comes in one packet with the end."""

    after: int = 0


@dataclass(frozen=True)
class Twice:
    """Each event comes two times."""


Fault = Answer | CloseWithoutAnswer | NoAnswer | CutMidLine | EndMidLine | Silent | Raw | End | Twice


@dataclass(frozen=True)
class Request:
    verb: str
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    header_list: list[tuple[str, str]]  # the same, including repeated headers
    body: bytes


class FakeAPIServer:
    """Runs inside `with`. refuse() closes its port, and accept() opens it again.

    choose: returns the fault of a request of this verb for which none was injected.
    """

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.requests: list[Request] = []
        self.choose: Callable[[str], Fault | None] = lambda _verb: None
        self._arrived = threading.Condition()
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._connections: set[socket.socket] = set()
        self._clients: list[Client] = []
        # Keeps the port while the server is away. It does not listen, so connects are refused then.
        self._port_holder = socket.socket()
        self._port_holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._port_holder.bind(("127.0.0.1", 0))
        self._port = self._port_holder.getsockname()[1]
        self.accept()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.refuse()
        self._port_holder.close()
        for client in self._clients:
            client.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def client(self, **arguments: Any) -> Client:
        """A client of this server, which is closed with it."""
        configuration = Configuration(host=self.url)
        client = Client(configuration, Credentials(configuration), **arguments)
        self._clients.append(client)
        return client

    def inject(self, verb: str, *faults: Fault) -> None:
        """Add faults for the next requests of this verb, in order."""
        self._faults[verb].extend(faults)

    def accept(self) -> None:
        """Listen on the port."""
        self.closing = threading.Event()
        handler = type("Handler", (_Handler,), {"owner": self, "closing": self.closing})
        self._http: ThreadingHTTPServer | None = _Server(("127.0.0.1", self._port), handler)
        threading.Thread(target=self._http.serve_forever, args=(0.01,), name="apiserver", daemon=True).start()

    def refuse(self) -> None:
        """Reset all connections and refuse new ones."""
        if self._http is None:
            return
        http, self._http = self._http, None
        http.shutdown()
        # Before a stream ends: a client that reconnects at once must be refused, not accepted and then reset.
        http.socket.close()
        self.closing.set()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        with self.cluster.changed:
            self.cluster.changed.notify_all()
        http.server_close()

    def verbs(self) -> list[str]:
        """The verbs of the requests so far."""
        with self._arrived:
            return [request.verb for request in self.requests]

    def wait_for_request(self, verb: str, count: int = 1, timeout: float = 60.0) -> Request:
        """Wait for `count` requests of this verb and return the last one. Raises TimeoutError."""
        with self._arrived:

            def found() -> list[Request]:
                return [request for request in self.requests if request.verb == verb]

            if not self._arrived.wait_for(lambda: len(found()) >= count, timeout):
                raise TimeoutError(f"{len(found())} instead of {count} requests {verb} in {timeout} s: {self.requests}")
            return found()[-1]

    def arrived(self, request: Request) -> Fault | None:
        """Record the request and return its fault."""
        with self._arrived:
            self.requests.append(request)
            faults = self._faults[request.verb]
            fault = faults.popleft() if faults else self.choose(request.verb)
            self._arrived.notify_all()
            return fault

    def connected(self, connection: socket.socket) -> None:
        """Called when a client has connected."""
        self._connections.add(connection)

    def disconnected(self, connection: socket.socket) -> None:
        """Called when a connection has ended."""
        self._connections.discard(connection)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True
    allow_reuse_port = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that disconnects during an answer is not an error of the test."""


class _Handler(BaseHTTPRequestHandler):
    owner: FakeAPIServer
    closing: threading.Event
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.owner.connected(self.connection)

    def finish(self) -> None:
        self.owner.disconnected(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Log nothing; `requests` has more."""

    def _handle(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_collection = self.command == "GET" and re.fullmatch(_COLLECTION, url.path)
        verb = "other" if not is_collection else "watch" if query.get("watch") == "true" else "list"
        fault = self.owner.arrived(
            Request(verb, self.command, url.path, query, dict(self.headers.items()), self.headers.items(), body)
        )
        try:
            if not self._misbehave(fault):
                self._answer(verb, query, fault)
        except Refused as refused:
            self._send(refused.body["code"], json.dumps(refused.body).encode())

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815 - names of the base class

    def _misbehave(self, fault: Fault | None) -> bool:
        """Whether the fault was the whole answer."""
        match fault:
            case Answer():
                default = json.dumps(status(fault.code, fault.reason)).encode()
                self._send(fault.code, default if fault.body is None else fault.body, fault)
                return True
            case CloseWithoutAnswer():
                self.close_connection = True
                return True
            case NoAnswer(until=None):
                self.closing.wait()
                self.close_connection = True
                return True
            case NoAnswer(until=event) if event is not None:
                event.wait()
        return False

    def _answer(self, verb: str, query: dict[str, str], fault: Fault | None) -> None:
        if verb == "list":
            limit = int(query.get("limit", 0)) or None
            page = self.owner.cluster.list(limit=limit, continue_=query.get("continue", ""))
            self._send(200, json.dumps(page).encode())
        elif verb == "watch":
            self._watch(query, fault)
        else:
            raise Refused(status(404, "NotFound"))

    def _send(self, code: int, body: bytes, answer: Answer | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        if answer and answer.retry_after:
            self.send_header("Retry-After", answer.retry_after)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _watch(self, query: dict[str, str], fault: Fault | None) -> None:
        cluster = self.owner.cluster
        version = query.get("resourceVersion", "")
        first, since = cluster.start_of_watch(version, query.get("sendInitialEvents") == "true")
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        match fault:
            case Silent():
                self.closing.wait()
                return
            case Raw(data):
                self.wfile.write(_chunk(data))
            case End(after=0):
                self.wfile.write(_END)
                return
        for number, event in enumerate(self._events(first, since)):
            line = json.dumps({"type": event.type, "object": event.object}).encode() + b"\n"
            if isinstance(fault, (CutMidLine, EndMidLine)) and number == fault.after:
                self.wfile.write(_chunk(line[: len(line) // 2]))
                if isinstance(fault, EndMidLine):
                    self.wfile.write(_END)
                return
            if isinstance(fault, End) and number + 1 == fault.after:
                self.wfile.write(_chunk(line) + _END)
                return
            self.wfile.write(_chunk(line) * (2 if isinstance(fault, Twice) else 1))
        self.wfile.write(_END)

    def _events(self, first: list[Event], since: int) -> Iterator[Event]:
        """Send all further events, until the server closes or the history is lost (an ERROR event with 410)."""
        cluster = self.owner.cluster
        yield from first
        while not self.closing.is_set():
            with cluster.changed:
                try:
                    events = cluster.events_after_locked(since)
                except Refused as refused:
                    events = [Event(0, "ERROR", refused.body)]
                if not events:
                    cluster.changed.wait(1.0)
                    continue
            yield from events
            if events[-1].type == "ERROR":
                return
            since = events[-1].version


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


_END = _chunk(b"")
