"""A TLS server at the socket border, whose every byte a test decides, and a certificate authority of its own."""

import contextlib
import datetime
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SECRET_TOKEN = "s3cr3t-t0ken-Aa_9"

#: The largest body that a client of a test takes.
MAX_BYTES = 100_000


class Authority:
    """Issues certificates, all with serial number 2 as the Connector does."""

    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(name, name, self.key.public_key(), ca=True)

    def issue(self, name: str, public_key: Any, *, days: int = 90) -> x509.Certificate:
        issuer = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        return self._sign(name, str(issuer), public_key, days=days)

    def _sign(self, name: str, issuer: str, public_key: Any, *, ca: bool = False, days: int = 90) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(public_key)
            .serial_number(2)
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@dataclass
class Request:
    headers: dict[str, str]
    body: bytes
    peer: str
    connection: int

    @property
    def variables(self) -> dict[str, Any]:
        return dict(json.loads(self.body)["variables"])

    @property
    def query(self) -> str:
        return str(json.loads(self.body)["query"])


def http(body: bytes | str | dict[str, Any], status: int = 200, **headers: str) -> bytes:
    """A whole HTTP answer."""
    raw = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(raw)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


@dataclass
class Server:
    """Answers each request with what `answer` gives: bytes, or a function that talks on the socket itself."""

    context: ssl.SSLContext
    answer: Callable[[Request], bytes | Callable[[ssl.SSLSocket], None]] = lambda _: http("{}")
    requests: list[Request] = field(default_factory=list, repr=False)
    connections: int = 0
    #: Sent as soon as a request begins, instead of what `answer` gives; then the connection is closed.
    answer_early: bytes = b""

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/graphql"

    def wait_closed(self, seconds: float) -> bool:
        """For answers that go on until the test ends: True when it has ended."""
        return self._closed.wait(seconds)

    def close(self) -> None:
        self._closed.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            # As proxies have it. Without, an answer may still wait for an acknowledgement when the connection is reset.
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(raw, self.connections), daemon=True).start()

    def _serve(self, raw: socket.socket, number: int) -> None:
        # Kept open past a failed handshake: closing with unread bytes would reset the connection before the alert
        # has been read.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(raw.fileno())) as spare:
            try:
                with (
                    self.context.wrap_socket(raw, server_side=True) as connection,
                    connection.makefile("rb") as stream,
                ):
                    self._talk(connection, stream, number)
            except ssl.SSLError:
                spare.settimeout(5)
                while spare.recv(65536):
                    pass

    def _talk(self, connection: ssl.SSLSocket, stream: BinaryIO, number: int) -> None:
        while stream.readline():
            if self.answer_early:
                connection.sendall(self.answer_early)
                return
            headers = {}
            while line := stream.readline().strip():
                name, _, value = line.decode("latin-1").partition(": ")
                headers[name.lower()] = value
            body = stream.read(int(headers.get("content-length", 0)))
            certificate: Any = connection.getpeercert() or {}
            peer = next((value for ((_, value),) in certificate.get("subject", ())), "")
            request = Request(headers, body, peer, number)
            self.requests.append(request)
            answer = self.answer(request)
            if isinstance(answer, bytes):
                connection.sendall(answer)
            else:
                answer(connection)
                return


def server_context(authority: Authority) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = authority.issue("localhost", key.public_key())
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    descriptor = os.memfd_create("server")
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    os.write(descriptor, pem(leaf) + private)
    server.load_cert_chain(f"/proc/self/fd/{descriptor}")
    os.close(descriptor)
    server.load_verify_locations(cadata=pem(authority.certificate).decode())
    server.verify_mode = ssl.CERT_OPTIONAL
    return server
