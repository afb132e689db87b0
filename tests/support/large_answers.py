"""A Director with answers of any size, which are made while they are sent: only the one who reads them needs memory."""

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

MIB = 2**20

_CHUNK = 256 * 1024


def page(items: list[Any], total: int | None = None, end: str = "") -> dict[str, Any]:
    info = {"endCursor": end, "hasNextPage": bool(end)}
    return {"data": items, "pageInfo": info, "totalCount": len(items) if total is None else total}


def uuid(*parts: int) -> str:
    return f"{parts[0]:08x}-9425-40de-944b-{sum(part << 16 * n for n, part in enumerate(parts[1:])):012x}"


def application(number: int, *, bundles: int = 2, apis: int = 2, events: int = 1, text: int = 60) -> dict[str, Any]:
    """An application of the usual kind: 1.9 KB of JSON as it is."""
    return {
        "id": uuid(number),
        "name": f"application-{number}",
        "description": "d" * text,
        "auths": [{"id": uuid(number, 1)}],
        "bundles": page([bundle(number, n, apis, events, text) for n in range(bundles)]),
    }


def bundle(number: int, n: int, apis: int, events: int, text: int) -> dict[str, Any]:
    credential = {"__typename": "BasicCredentialData", "username": f"user-{number}", "password": f"password-{number}"}
    return {
        "id": uuid(number, 2, n),
        "name": f"Bundle {n}",
        "description": "b" * text,
        "instanceAuthRequestInputSchema": None,
        "defaultInstanceAuth": {
            "credential": credential,
            "additionalHeaders": None,
            "additionalQueryParams": None,
            "requestAuth": None,
        },
        "apiDefinitions": page(
            [
                {"id": uuid(number, 3, n, a), "name": f"API {a}", "targetURL": f"https://shop.example.com/{number}/{a}"}
                for a in range(apis)
            ]
        ),
        "eventDefinitions": page([{"id": uuid(number, 4, n, e), "name": f"Event {e}"} for e in range(events)]),
    }


def dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


#: What a test or a benchmark has answered: gets the query's name and variables, gives the body in pieces.
Answering = Callable[[str, dict[str, Any]], Iterable[bytes]]


@dataclass
class Tenant:
    """A Runtime with so many applications, which are given in pages as they are asked for."""

    count: int
    make: Callable[[int], dict[str, Any]] = application

    @classmethod
    def of_size(cls, size: int, make: Callable[[int], dict[str, Any]] = application) -> "Tenant":
        """One whose applications are so many bytes of JSON in all."""
        return cls(max(1, size // len(dumps(make(1)))), make)

    def __call__(self, name: str, variables: dict[str, Any]) -> Iterator[bytes]:
        start = int(variables.get("after") or 0)
        end = min(self.count, start + variables["first"]) if "first" in variables else 0
        cursor = str(end) if end < self.count else ""
        yield b'{"data":{"runtime":{"labels":{"isNormalized":"true"}},"applicationsForRuntime":{"data":['
        for number in range(start, end):
            item = self.make(number)
            if name in ("Outline", "AssignedIds"):
                item = {"id": item["id"], "name": item["name"]}
            yield (b"," if number > start else b"") + dumps(item)
        rest = page([], self.count, cursor)
        yield b'],"pageInfo":' + dumps(rest["pageInfo"]) + b',"totalCount":%d}}}' % self.count


@dataclass
class WithSurprise:
    """A Tenant whose last page holds, in a field of an application, as much as an answer may of what takes most to
    decode.
    """

    tenant: Tenant
    body: bytes
    field: bytes = b"surprise"

    def __call__(self, name: str, variables: dict[str, Any]) -> Iterator[bytes]:
        last, start = self.tenant.count - 1, int(variables.get("after") or 0)
        if name != "Page":
            yield from self.tenant(name, variables)
            return
        if start < last:
            yield from self.tenant(name, variables | {"first": min(variables["first"], last - start)})
            return
        item = dumps(self.tenant.make(last))[:-1] + b',"%s":' % self.field + self.body + b"}"
        rest = dumps(page([], self.tenant.count))
        rest = rest.replace(b'"data":[]', b'"data":[' + item + b"]")
        yield b'{"data":{"runtime":{},"applicationsForRuntime":' + rest + b"}}"


#: JSON that takes very much to parse for its size: a piece of it, and what makes a document of many.
HOSTILE: dict[str, tuple[bytes, bytes, bytes]] = {
    "nested lists": (b"[" * 900 + b"]" * 900 + b",", b"[", b"0]"),
    "objects of one": (b'{"":0},', b"[", b"0]"),
    "different keys": (b"", b"{", b"}"),
    "client ids": (b'{"id":"aaaaaa"},', b"[", b'{"id":"a"}]'),
}


def hostile(kind: str, size: int) -> bytes:
    """A document of a kind with so many bytes."""
    piece, before, after = HOSTILE[kind]
    count = size // len(piece or b'"%x":0,' % 0x100000)
    body = piece * count if piece else b",".join(b'"%x":0' % (n + 0x100000) for n in range(count))
    return before + body + after


def repeated(size: int, piece: bytes, before: bytes = b"[", after: bytes = b"1]") -> Answering:
    """The same answer to everything, of so many bytes: a piece over and over."""

    def answer(_name: str, _variables: dict[str, Any]) -> Iterator[bytes]:
        yield before
        block = piece * max(1, _CHUNK // len(piece))
        yield from repeat(block, size // len(block))
        yield piece * (size % len(block) // len(piece))
        yield after

    return answer


def large_application(number: int) -> dict[str, Any]:
    """28 KB of JSON."""
    return application(number, bundles=10, apis=10, events=10, text=500)


def one_answer(size: int) -> Answering:
    """A valid answer of applications, as large as that whatever is asked."""
    before = b'{"data":{"runtime":{"labels":{}},"applicationsForRuntime":{"totalCount":1,"data":['
    return repeated(size, dumps(application(1)) + b",", before, b"{}]}}}")


class LargeDirector:
    """An HTTPS server that answers in chunks, compressed on demand; `context` is its side of TLS."""

    def __init__(self, context: ssl.SSLContext, answer: Answering, *, compressed: bool = False) -> None:
        self._context = context
        self._answer = answer
        self._compressed = compressed
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://localhost:{self._listener.getsockname()[1]}/graphql"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> "LargeDirector":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            # A client that has had enough closes the connection.
            with contextlib.suppress(OSError), self._context.wrap_socket(raw, server_side=True) as connection:
                self._serve(connection)

    def _serve(self, connection: ssl.SSLSocket) -> None:
        with connection.makefile("rb") as stream:
            while stream.readline():
                length = 0
                while line := stream.readline().strip():
                    name, _, value = line.partition(b": ")
                    length = int(value) if name.lower() == b"content-length" else length
                asked = json.loads(stream.read(length))
                self._send(connection, asked["query"].split()[1].split("(")[0], asked["variables"])

    def _send(self, connection: ssl.SSLSocket, name: str, variables: dict[str, Any]) -> None:
        encoding = b"Content-Encoding: gzip\r\n" if self._compressed else b""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        connection.sendall(head + encoding + b"\r\n")
        for chunk in self._chunks(name, variables):
            connection.sendall(b"%x\r\n" % len(chunk) + chunk + b"\r\n")
        connection.sendall(b"0\r\n\r\n")

    def _chunks(self, name: str, variables: dict[str, Any]) -> Iterator[bytes]:
        pieces = self._answer(name, variables)
        if not self._compressed:
            yield from _gathered(pieces)
            return
        zipped = zlib.compressobj(1, wbits=31)
        yield from filter(None, map(zipped.compress, _gathered(pieces)))
        yield zipped.flush()


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        if len(gathered) >= _CHUNK:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


def fetched(url: str, ca_file: Path, *, memory_limit: int | None = None) -> dict[str, Any]:
    """What a process that fetches from there says: "applied" and "problems", or "error"; and its "peak" in MiB."""
    command = [sys.executable, "-m", "tests.support.fetch_process", url, str(ca_file)]
    if memory_limit is not None:
        command.append(str(memory_limit))
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result
