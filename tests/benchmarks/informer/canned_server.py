"""An API server whose answers are bytes made beforehand: what a client costs is then its own.

A GET of /send-events waits for the watch and lets it send its changes. One client at a time.
"""

import contextlib
import copy
import json
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from tests.benchmarks.informer.objects import application, pod

_CHUNK_EVENTS = 50
_LIST_VERSION = 1_000_000
_MOST_PODS = 10_000  # no benchmark lists more of them


class Canned(NamedTuple):
    answer: bytes  # to a LIST
    initial: list[bytes]  # chunks of a streamed list
    changes: list[bytes]


def canned(make: Callable[[int], dict[str, Any]], objects: int, events: int) -> Canned:
    items = [make(number) for number in range(objects)]
    for number, item in enumerate(items):
        item["metadata"]["resourceVersion"] = str(number + 1)
    about = {"apiVersion": items[0]["apiVersion"], "kind": items[0]["kind"]}
    version = {"resourceVersion": str(_LIST_VERSION)}
    answer = {**about, "kind": f"{about['kind']}List", "metadata": version, "items": items}
    end = {**about, "metadata": {**version, "annotations": {"k8s.io/initial-events-end": "true"}}}
    changed = []
    for number in range(events):
        item = copy.deepcopy(items[number % objects])
        item["metadata"]["resourceVersion"] = str(_LIST_VERSION + 1 + number)
        item["metadata"]["labels"]["team"] = "changed"
        changed.append(("MODIFIED", item))
    return Canned(_json(answer), _chunks([*(("ADDED", item) for item in items), ("BOOKMARK", end)]), _chunks(changed))


class Server(ThreadingHTTPServer):
    """Lists and streams so many Applications, or Pods, of 3 to 4 KiB, from the beginning of the block to its end."""

    daemon_threads = True

    def __init__(self, objects: int, events: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.applications = canned(application, objects, events)
        self.pods = canned(pod, objects, events) if objects <= _MOST_PODS else self.applications
        self.watches = threading.Semaphore(0)  # released by each watch that waits for its changes
        self.go = threading.Semaphore(0)

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A peer that has its figures ends at once, with its connections as they are."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        data = self.server.pods if "/pods" in self.path else self.server.applications
        if self.path == "/send-events":
            self.server.watches.acquire()
            self.server.go.release()
            self._send(b"{}")
        elif "watch=" not in self.path:
            self._send(data.answer)
        else:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if "sendInitialEvents=true" in self.path:
                self._write(data.initial)
            self.server.watches.release()
            self.server.go.acquire()
            self._write(data.changes)
            with contextlib.suppress(ConnectionError):
                self.connection.recv(1)  # the client ends, not the watch
            self.close_connection = True

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _write(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self.wfile.write(chunk)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Silent."""


def _chunks(events: list[tuple[str, dict[str, Any]]]) -> list[bytes]:
    lines = [_json({"type": kind, "object": obj}) + b"\n" for kind, obj in events]
    bodies = [b"".join(lines[i : i + _CHUNK_EVENTS]) for i in range(0, len(lines), _CHUNK_EVENTS)]
    return [b"%x\r\n%s\r\n" % (len(body), body) for body in bodies]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
