"""An API server of one kind for random histories: everything that can go wrong goes wrong, the rest is right.

It speaks HTTP/1.1 on a real socket. It imports nothing of the product: what a server does is written here from the
documentation of the Kubernetes API, so an error of the informers cannot hide in an equal error of their test.

All times are seconds of a fast clock: SCALE of them pass in a second.
"""

import json
import socket
import struct
import threading
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from random import Random
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

SCALE = 100.0
GROUP, VERSION, KIND, PLURAL = "histories.example", "v1", "Gadget", "gadgets"
BOOKMARK_PERIOD = 60.0
# Writes of other kinds advance the versions too. A restore goes back by more than is written after it; otherwise
# nothing that a server says would tell the two timelines apart (etcdutl: --bump-revision).
BACKUP_GAP = 5000
PAGE = 3

LIST_FAULTS = {
    "list: 500": "the server fails",
    "list: 429": "the server is busy, with Retry-After",
    "list: 403": "the permission is missing for a while",
    "list: reset": "the connection is reset instead of an answer",
    "list: cut": "the body ends in its middle",
    "list: no answer": "the connection is half-open",
    "list: slow": "the answer takes 14 s",
    "list: 410": "the version is too old",
    "list: 410 on a later page": "the continue token is too old",
    "list: version too large": "the server has not caught up with the version",
    "list: page of a proxy": "HTML with status 200",
    "list: Table": "another kind of answer",
    "list: foreign item": "an object of another kind among the items",
}
WATCH_FAULTS = {
    "watch: 500": "the server fails",
    "watch: 429": "the server is busy",
    "watch: 410": "the version is too old",
    "watch: closed at once": "a watch without an event ends at once",
    "watch: reset": "the connection is reset in the stream",
    "watch: cut in a line": "the stream ends in the middle of an event",
    "watch: Expired": "an ERROR event, and an event after it that must not be used",
    "watch: InternalError": "an ERROR event with code 500",
    "watch: undecodable": "an event is replaced by a line that is not JSON",
    "watch: repeated events": "the last events come once more",
    "watch: foreign event": "an event of another kind with a later version",
    "watch: silent": "the stream stays open and nothing comes",
    "watch: buffered": "a proxy passes the body on only at its end",
    "watch: no bookmarks": "the server does not send them",
    "watch: end with an event": "an event, for the second time, and the end come in one packet",
    "watch: list not streamed": "sendInitialEvents is ignored",
    "watch: streamed list cut": "the stream ends before the initial events are complete",
}
SERVER_FAULTS = {
    "server: restart": "all connections end, the history is lost",
    "server: outage": "connections are refused for a while",
    "server: compaction": "the history is lost",
    "server: restore": "an older state after a restart",
    "server: restore unnoticed": "an older state; watches just end, and later ones are silent until their version",
    "server: restore told": "the same, and watches get the older versions",
}
FAULTS = LIST_FAULTS | WATCH_FAULTS | SERVER_FAULTS

Object = dict[str, Any]


class _Change(NamedTuple):
    version: int
    type: str
    obj: Object


class _Refusal(Exception):
    def __init__(self, code: int, reason: str, *, cause: str = "", retry_after: int = 0) -> None:
        super().__init__(reason)
        self.code, self.reason, self.retry_after = code, reason, retry_after
        details = {"causes": [{"reason": cause, "message": "Too large resource version"}]} if cause else {}
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": f"{reason}, says the history",
            "details": details,
        }


class World:
    """The stored objects and their history. All fields are guarded by `changed`."""

    def __init__(self, rng: Random) -> None:
        self.changed = threading.Condition()
        self._rng = rng
        self._uids = 0
        self.version = 100
        self.objects: dict[str, Object] = {}
        self.history: list[_Change] = []
        self.oldest = self.version  # no watch can begin before it
        self.timeline = 0
        self.tells_older_versions = False
        self._backup: tuple[int, dict[str, Object]] | None = None

    def put(self, name: str) -> None:
        with self.changed:
            self._advance_locked()
            known = self.objects.get(name)
            if known is None:
                self._uids += 1
            uid = known["metadata"]["uid"] if known else f"uid-{self.timeline}-{self._uids}"
            obj = {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KIND,
                "metadata": {"name": name, "uid": uid, "resourceVersion": str(self.version)},
                "spec": {"value": self._rng.randrange(1 << 30)},
            }
            self.objects[name] = obj
            self._record_locked(_Change(self.version, "MODIFIED" if known else "ADDED", obj))

    def delete(self, name: str) -> None:
        with self.changed:
            known = self.objects.pop(name, None)
            if known is None:
                return
            self._advance_locked()
            last = {**known, "metadata": {**known["metadata"], "resourceVersion": str(self.version)}}
            self._record_locked(_Change(self.version, "DELETED", last))

    def compact(self) -> None:
        with self.changed:
            self._forget_history_locked()

    def back_up(self) -> None:
        """Once. Later versions are much higher, so that a restore is far behind them."""
        with self.changed:
            if self._backup is None:
                self._backup = (self.version, dict(self.objects))
                self.version += BACKUP_GAP

    def restore(self, *, tells_older_versions: bool) -> bool:
        """Go back to the backup, once. False if there is none."""
        with self.changed:
            if self._backup is None or self.timeline:
                return False
            self.version, objects = self._backup
            self.objects = dict(objects)
            self.timeline += 1
            self.tells_older_versions = tells_older_versions
            self._forget_history_locked()
            self.changed.notify_all()
            return True

    def names(self) -> list[str]:
        with self.changed:
            return [*self.objects]

    def _advance_locked(self) -> None:
        self.version += self._rng.randint(1, 9)

    def _record_locked(self, change: _Change) -> None:
        self.history.append(change)
        self.changed.notify_all()

    def _forget_history_locked(self) -> None:
        self.history.clear()
        self.oldest = self.version


class HistoryServer:
    """Serves a World. Each request meets one of `faults` with the given probability, until calm()."""

    def __init__(self, world: World, *, seed: int, faults: list[str], probability: float) -> None:
        self.world = world
        self.met: Counter[str] = Counter()
        self._seed = seed
        self._list_faults = [fault for fault in faults if fault in LIST_FAULTS]
        self._watch_faults = [fault for fault in faults if fault in WATCH_FAULTS]
        self._probability = probability
        self._requests = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()  # guarded by _lock
        self._tokens: dict[str, tuple[list[Object], int, int]] = {}  # guarded by _lock: rest, version, timeline
        self._run = 0  # number of the current process of the server; connections belong to one
        # Keeps the port while the server is away. It does not listen, so connects are refused then.
        self._port_holder = socket.socket()
        self._port_holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._port_holder.bind(("127.0.0.1", 0))
        self.port = self._port_holder.getsockname()[1]
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._port_holder.close()

    def calm(self) -> None:
        """From now on everything is right."""
        self._probability = 0.0

    def meet(self, fault: str, rng: Random) -> None:
        """A fault of the server as a whole."""
        match fault:
            case "server: restart":
                self.stop()
                self.world.compact()
                self.start()
            case "server: outage":
                self.stop()
                time.sleep(rng.uniform(1, 60) / SCALE)
                self.start()
            case "server: compaction":
                self.world.compact()
            case "server: restore":
                self.stop()
                done = self.world.restore(tells_older_versions=False)
                self.start()
                if not done:
                    return
            case _:
                if not self.world.restore(tells_older_versions=fault == "server: restore told"):
                    return
        self.met[fault] += 1

    def stop(self) -> None:
        """The process of the server ends."""
        with self._lock:
            self._run += 1
            connections = [*self._open]
            self._tokens.clear()
        with suppress(OSError):  # closed by the acceptor, which accepted a connection after the run had ended
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        with self.world.changed:
            self.world.changed.notify_all()

    def start(self) -> None:
        """It starts, again on its port."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64, reuse_port=True)
        accept = partial(self._accept, self._listener, self._run)
        self._acceptor = threading.Thread(target=accept, name="history-server", daemon=True)
        self._acceptor.start()

    def _accept(self, listener: socket.socket, run: int) -> None:
        with listener, suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with self._lock:
                    if self._run != run:
                        connection.close()
                        return
                    self._open.add(connection)
                serve = _Connection(self, connection, run).serve
                threading.Thread(target=serve, name="history-connection", daemon=True).start()

    # ---- for connections

    def is_current(self, run: int) -> bool:
        return self._run == run

    def forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def draw(self, *, watch: bool) -> tuple[str, Random]:
        """The fault of the next request, "" for none, and its source of randomness."""
        with self._lock:
            self._requests += 1
            rng = Random(f"{self._seed}-{self._requests}")
            faults = self._watch_faults if watch else self._list_faults
            fault = rng.choice(faults) if faults and rng.random() < self._probability else ""
            return fault, rng

    def count(self, fault: str) -> None:
        with self._lock:
            self.met[fault] += 1

    def keep(self, rest: list[Object], version: int, timeline: int) -> str:
        with self._lock:
            token = f"page-{len(self._tokens)}-{self._run}"
            self._tokens[token] = (rest, version, timeline)
            return token

    def kept(self, token: str) -> tuple[list[Object], int, int] | None:
        with self._lock:
            return self._tokens.get(token)


class _End(Exception):
    """The connection ends here."""


class _Connection:
    def __init__(self, server: HistoryServer, connection: socket.socket, run: int) -> None:
        self._server = server
        self._world = server.world
        self._socket = connection
        self._run = run

    def serve(self) -> None:
        try:
            with suppress(OSError, _End), self._socket.makefile("rb") as requests:
                while (line := requests.readline()) and self._server.is_current(self._run):
                    while requests.readline() not in (b"\r\n", b""):
                        pass
                    self._answer(line.split()[1].decode())
        finally:
            self._server.forget(self._socket)
            self._socket.close()

    def _answer(self, target: str) -> None:
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        assert parts.path == f"/apis/{GROUP}/{VERSION}/{PLURAL}", target
        watch = query.get("watch") == "true"
        fault, rng = self._server.draw(watch=watch)
        try:
            if watch:
                _Watch(self, query, fault, rng).serve()
            else:
                self._list(query, fault, rng)
        except _Refusal as refusal:
            header = f"Retry-After: {refusal.retry_after}\r\n" if refusal.retry_after else ""
            self._send_body(refusal.code, json.dumps(refusal.status).encode(), header=header)

    def met(self, fault: str) -> None:
        self._server.count(fault)

    @property
    def is_current(self) -> bool:
        return self._server.is_current(self._run)

    @property
    def world(self) -> World:
        return self._world

    # ---- list

    def _list(self, query: dict[str, str], fault: str, rng: Random) -> None:
        wanted, token = query.get("resourceVersion", ""), query.get("continue", "")
        limit = int(query.get("limit", "0"))
        if fault not in ("", "list: foreign item", "list: cut", "list: 410 on a later page"):
            self._fail_list(fault, rng)
        if fault == "list: 410 on a later page" and token:
            self.met(fault)
            raise _Refusal(410, "Expired")
        items, version, timeline = self._state(wanted, token)
        rest: list[Object] = []
        if limit and (token or wanted != "0" or rng.random() < 0.5):
            items, rest = items[:PAGE], items[PAGE:]
        metadata = {"resourceVersion": str(version)}
        if rest:
            metadata["continue"] = self._server.keep(rest, version, timeline)
        if fault == "list: foreign item":
            self.met(fault)
            items = [*items, {"apiVersion": "v1", "kind": "Other", "metadata": {"name": "foreign"}}]
        body = json.dumps(
            {"apiVersion": f"{GROUP}/{VERSION}", "kind": f"{KIND}List", "metadata": metadata, "items": items}
        ).encode()
        if fault == "list: cut":
            self.met(fault)
            self._send(_head(200, len(body)) + body[: len(body) // 2])
            raise _End
        self._send_body(200, body)

    def _state(self, wanted: str, token: str) -> tuple[list[Object], int, int]:
        with self._world.changed:
            timeline = self._world.timeline
            if token:
                kept = self._server.kept(token)
                if kept is None or kept[2] != timeline:
                    raise _Refusal(410, "Expired")
                return kept
            if wanted.isdigit() and int(wanted) > self._world.version:
                raise _Refusal(504, "Timeout", cause="ResourceVersionTooLarge")
            return [*self._world.objects.values()], self._world.version, timeline

    def _fail_list(self, fault: str, rng: Random) -> None:
        self.met(fault)
        match fault:
            case "list: 500":
                raise _Refusal(500, "InternalError")
            case "list: 429":
                raise _Refusal(429, "TooManyRequests", retry_after=1)
            case "list: 403":
                raise _Refusal(403, "Forbidden")
            case "list: 410":
                raise _Refusal(410, rng.choice(("Expired", "Gone")))
            case "list: version too large":
                raise _Refusal(504, "Timeout", cause="ResourceVersionTooLarge")
            case "list: reset":
                self.reset()
            case "list: no answer":
                self.wait(400)
                raise _End
            case "list: slow":
                self.wait(14)
            case "list: page of a proxy":
                self._send_body(200, b"<html><body>Please log in</body></html>", content_type="text/html")
                raise _End
            case "list: Table":
                table = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": "9"}}
                self._send_body(200, json.dumps(table | {"rows": []}).encode())
                raise _End

    # ---- helpers

    def wait(self, seconds: float) -> None:
        """Until the connection or the process of the server ends, or the time has passed."""
        ends = time.monotonic() + seconds / SCALE
        while self.is_current and (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, 0.02))
            if self.peer_has_gone():
                raise _End

    def peer_has_gone(self) -> bool:
        try:
            self._socket.setblocking(False)
            return self._socket.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        finally:
            self._socket.setblocking(True)

    def reset(self) -> None:
        """End the connection with RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _End

    def send(self, data: bytes) -> None:
        self._send(data)

    def _send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def _send_body(self, code: int, body: bytes, *, header: str = "", content_type: str = "application/json") -> None:
        self._send(_head(code, len(body), header=header, content_type=content_type) + body)


def _head(code: int, length: int | None, *, header: str = "", content_type: str = "application/json") -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"HTTP/1.1 {code} Some\r\nContent-Type: {content_type}\r\n{framing}\r\n{header}\r\n".encode()


class _Watch:
    """One watch request."""

    def __init__(self, connection: _Connection, query: dict[str, str], fault: str, rng: Random) -> None:
        self._connection = connection
        self._world = connection.world
        self._fault = fault
        self._rng = rng
        self._version = query.get("resourceVersion", "")
        self._streams_list = query.get("sendInitialEvents") == "true"
        self._seconds = float(query.get("timeoutSeconds", "1800"))
        self._held: list[bytes] | None = [] if fault == "watch: buffered" else None
        self._last: list[bytes] = []  # lines of the last events

    def serve(self) -> None:
        self._refuse_by_fault()
        with self._world.changed:
            initial, position = self._begin_locked()
            self._timeline = self._world.timeline
        self._after = self._rng.randint(0, 3)  # events before the fault
        self._due = time.monotonic() + self._rng.uniform(0, 120) / SCALE  # or the time
        self._send_raw(_head(200, None))
        if self._fault in ("watch: buffered", "watch: silent", "watch: no bookmarks"):
            self._connection.met(self._fault)
        if self._fault == "watch: silent":
            self._connection.wait(self._seconds)
            raise _End
        for index, obj in enumerate(initial):
            if self._fault == "watch: streamed list cut" and self._streams_list and index == len(initial) // 2:
                self._connection.met(self._fault)
                self._end()
            self._send_event("ADDED", obj)
        if self._streams_list:
            self._send_bookmark(position, ends_initial_events=True)
        self._follow(position)

    def _refuse_by_fault(self) -> None:
        refusals = {
            "watch: 500": (500, "InternalError"),
            "watch: 429": (429, "TooManyRequests"),
            "watch: 410": (410, "Expired"),
        }
        if self._fault in refusals:
            self._connection.met(self._fault)
            raise _Refusal(*refusals[self._fault])
        if self._fault == "watch: closed at once":
            self._connection.met(self._fault)
            self._connection.send(_head(200, None))
            self._end()
        if self._fault == "watch: list not streamed" and self._streams_list:
            self._connection.met(self._fault)
            self._streams_list = False

    def _begin_locked(self) -> tuple[list[Object], int]:
        """The objects to send first, and the version after which the events begin."""
        world = self._world
        if self._version in ("", "0"):
            return self._shuffled(world.objects), world.version
        version = int(self._version)
        if version > world.version:
            if self._streams_list:
                raise _Refusal(504, "Timeout", cause="ResourceVersionTooLarge")
            return [], world.version if world.tells_older_versions else version
        if self._streams_list:
            return self._shuffled(world.objects), world.version
        if version < world.oldest:
            raise _Refusal(410, "Expired")
        return [], version

    def _shuffled(self, objects: dict[str, Object]) -> list[Object]:
        return self._rng.sample([*objects.values()], len(objects))

    def _follow(self, position: int) -> None:
        ends = time.monotonic() + self._seconds / SCALE
        bookmark_at = time.monotonic() + BOOKMARK_PERIOD / SCALE
        while self._connection.is_current:
            now = time.monotonic()
            with self._world.changed:
                if self._world.timeline != self._timeline:
                    break
                if position < self._world.oldest:  # compacted before this thread has sent the rest
                    break
                changes = [change for change in self._world.history if change.version > position]
                version = self._world.version
                if not changes and now < min(ends, bookmark_at, self._due):
                    self._world.changed.wait(min(ends, bookmark_at, self._due) - now)
                    continue
            for change in changes:
                self._fault_before_event()
                self._send_event(change.type, change.obj)
                position = change.version
            if now >= self._due:
                self._fault_in_time()
            if now >= bookmark_at or now >= ends:
                if self._connection.peer_has_gone():
                    raise _End
                bookmark_at = now + BOOKMARK_PERIOD / SCALE
                # A watch from a later version than the server has gets nothing before that version.
                if version >= position and self._fault != "watch: no bookmarks":
                    self._send_bookmark(version)
                    position = version
            if now >= ends:
                break
        self._end()

    def _fault_before_event(self) -> None:
        self._after -= 1
        if self._after >= 0:
            return
        match self._fault:
            case "watch: cut in a line":
                self._connection.met(self._fault)
                self._send_raw(_chunk(b'{"type": "MODIFIED", "object": {"kind": "Gad'))
                if self._rng.random() < 0.5:
                    self._connection.reset()
                self._end()
            case "watch: undecodable":
                self._connection.met(self._fault)
                self._send_line(b'{"type": "MODIFIED", "object": {"kind": ')
                self._connection.wait(30)
                self._end()

    def _fault_in_time(self) -> None:
        self._due = float("inf")
        if self._fault in ("watch: repeated events", "watch: end with an event") and not self._last:
            self._due = time.monotonic() + 10 / SCALE
            return
        match self._fault:
            case "watch: reset":
                self._connection.met(self._fault)
                self._connection.reset()
            case "watch: Expired":
                self._connection.met(self._fault)
                self._send_line(_line("ERROR", _Refusal(410, "Expired").status))
                self._send_line(_line("ADDED", self._ghost(KIND, f"{GROUP}/{VERSION}")))
                self._end()
            case "watch: InternalError":
                self._connection.met(self._fault)
                self._send_line(_line("ERROR", _Refusal(500, "InternalError").status))
                self._end()
            case "watch: repeated events":
                self._connection.met(self._fault)
                for line in [*self._last[-2:]]:
                    self._send_line(line)
            case "watch: foreign event":
                self._connection.met(self._fault)
                self._send_line(_line("ADDED", self._ghost("Other", "v1")))
            case "watch: end with an event":
                self._connection.met(self._fault)
                self._send_raw(_chunk(self._last[-1] + b"\n") + b"0\r\n\r\n")
                raise _End

    def _ghost(self, kind: str, api_version: str) -> Object:
        metadata = {"name": "ghost", "uid": "ghost", "resourceVersion": "99999999"}
        return {"kind": kind, "apiVersion": api_version, "metadata": metadata, "spec": {}}

    def _send_event(self, event_type: str, obj: Object) -> None:
        line = _line(event_type, obj)
        self._last.append(line)
        self._send_line(line)

    def _send_bookmark(self, version: int, *, ends_initial_events: bool = False) -> None:
        metadata: Object = {"resourceVersion": str(version)}
        if ends_initial_events:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        self._send_line(
            _line("BOOKMARK", {"kind": KIND, "apiVersion": f"{GROUP}/{VERSION}", "metadata": metadata, "spec": {}})
        )

    def _send_line(self, line: bytes) -> None:
        self._send_raw(_chunk(line + b"\n"))

    def _send_raw(self, data: bytes) -> None:
        if self._held is None:
            self._connection.send(data)
        else:
            self._held.append(data)

    def _end(self) -> None:
        """End the stream correctly."""
        if not self._connection.is_current:
            raise _End
        self._connection.send(b"".join(self._held or []) + b"0\r\n\r\n")
        raise _End


def _line(event_type: str, obj: Object) -> bytes:
    return json.dumps({"type": event_type, "object": obj}).encode()


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
