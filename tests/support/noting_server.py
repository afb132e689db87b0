"""A server on the loopback that notes how it is asked: with TLS or without, as an API server or as a proxy."""

import socket
import ssl
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from e2e.pki import Authority, KeyPair

_TLS_HANDSHAKE = b"\x16"
_BODY = b'{"gitVersion": "v1.36.3"}'
_LIMIT = 60.0  # seconds; a peer that sends nothing ends no later


@dataclass(frozen=True)
class Note:
    """A request. certificate: the common name of the client. proxied: the proxy's part of it, None without."""

    scheme: str
    path: str
    host: str
    authorization: str | None
    certificate: str | None
    server_name: str | None
    impersonation: tuple[tuple[str, str], ...]
    proxied: tuple[str, str | None] | None


class NotingServer:
    """Answers each request with 200. Its certificate is for localhost, 127.0.0.1 and api.example.com."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority("noting")
        pair = self.authority.serving(
            "server", dns_names=["localhost", "api.example.com"], addresses=["127.0.0.1", "::1"]
        )
        (folder / "server.pem").write_bytes(pair.certificate_pem + pair.key_pem)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "server.pem")
        self._context.load_verify_locations(cadata=self.authority.certificate_pem.decode())
        self._context.verify_mode = ssl.CERT_OPTIONAL
        self._context.sni_callback = self._note_server_name
        self._names: dict[ssl.SSLSocket | ssl.SSLObject, str | None] = {}
        self._lock = threading.Lock()
        self._notes: list[Note] = []  # guarded by _lock
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="noting server", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def taken(self) -> list[Note]:
        """The notes since the last call."""
        with self._lock:
            notes, self._notes = self._notes, []
        return notes

    def client(self, name: str) -> KeyPair:
        return self.authority.client(name, ())

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            connection.settimeout(_LIMIT)
            threading.Thread(target=self._serve, args=(connection,), name="noting", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                self._answer(connection, None)
            except (OSError, EOFError):  # closed or refused by the client, which is noted nowhere
                return

    def _answer(self, connection: socket.socket, proxied: tuple[str, str | None] | None) -> None:
        if connection.recv(1, socket.MSG_PEEK) == _TLS_HANDSHAKE:
            with self._context.wrap_socket(connection, server_side=True) as tls:
                subject = dict(pair[0] for pair in (tls.getpeercert() or {}).get("subject", ()))  # type: ignore[misc]
                note = Note("https", "", "", None, subject.get("commonName"), self._names.pop(tls, None), (), proxied)
                while True:
                    _, target, headers = _head(tls)
                    self._finish(tls, replace(note, path=target), headers)
        while True:
            method, target, headers = _head(connection)
            authorization = dict(headers).get("proxy-authorization")
            if method == "CONNECT":
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                self._answer(connection, (target, authorization))
            if target.startswith("http://"):
                proxied = (target, authorization)
                target = "/" + target.removeprefix("http://").partition("/")[2]
            self._finish(connection, Note("http", target, "", None, None, None, (), proxied), headers)

    def _finish(self, connection: socket.socket, note: Note, headers: list[tuple[str, str]]) -> None:
        named = dict(headers)
        note = replace(
            note,
            host=named.get("host", ""),
            authorization=named.get("authorization"),
            impersonation=tuple(sorted((n, v) for n, v in headers if n.startswith("impersonate-"))),
        )
        with self._lock:
            self._notes.append(note)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(_BODY)}"
        connection.sendall(f"{head}\r\n\r\n".encode() + _BODY)

    def _note_server_name(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        self._names[connection] = name


def _head(connection: socket.socket) -> tuple[str, str, list[tuple[str, str]]]:
    """Method, target and headers, whose names are in lower case. No more than the head is read."""
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            raise EOFError
        received += byte
    first, *lines = received.decode().strip().split("\r\n")
    method, target, _ = first.split(" ")
    pairs = (line.partition(":") for line in lines)
    return method, target, [(name.lower(), value.strip()) for name, _, value in pairs]
