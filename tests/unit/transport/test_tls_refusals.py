"""Which servers are trusted, and a server that turns our client certificate down, however the connection ends.

In TLS 1.3 the alert comes after the client's handshake, while it is sending already. So the server may be gone before
the request is out, and sending fails, although the alert that says why lies in the socket.
"""

import contextlib
import datetime
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from informers.transport import Kind, Pool, Response, Stop, TLSMaterial, TransportError
from informers.transport.tls import client_context
from tests.unit.compass.https_server import Authority, Server, http, pem, server_context

# The end of the connection and the alert race.
TRIES = 3

#: Bytes of the request. The last one does not fit into the buffers of sockets that nobody reads: sending it fails.
SIZES = (2, 2_000, 200_000, 4_000_000)


def close_at_once(connection: socket.socket) -> None:
    """What is unread makes the kernel reset the connection."""


def reset(connection: socket.socket) -> None:
    """A reset even when all was read."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def end_orderly(connection: socket.socket) -> None:
    """As a server does that wants its alert to arrive: no more is sent, and what comes is read for a while."""
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(5)
    while connection.recv(1 << 20):
        pass


@dataclass
class RefusingServer:
    """Shakes hands, and ends each connection in the given way."""

    context: ssl.SSLContext
    end: Callable[[socket.socket], None]

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://localhost:{self._listener.getsockname()[1]}/graphql"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            with raw, contextlib.suppress(OSError):
                # Detached: a TLS object over the same socket, whose failure does not close it.
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                tls = self.context.wrap_bio(incoming, outgoing, server_side=True)
                self._shake_hands(raw, tls, incoming, outgoing)
                self.end(raw)

    def _shake_hands(
        self, raw: socket.socket, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
    ) -> None:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                incoming.write(raw.recv(4096))
            except ssl.SSLError:
                break
            else:
                break
        raw.sendall(outgoing.read())  # the alert, if the certificate was not accepted

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@dataclass
class Case:
    """A certificate, and the server that does not accept it."""

    leaf: x509.Certificate
    revoked: bool = False


@pytest.fixture(scope="module")
def client_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def send(pool: Pool, url: str, body: bytes) -> Response:
    return pool.send("POST", url, headers={}, body=body, stop=Stop(), timeout=20)


@pytest.fixture(scope="module")
def cases(authority: Authority, client_key: ec.EllipticCurvePrivateKey) -> dict[str, Case]:
    public = client_key.public_key()
    return {
        "certificate expired": Case(authority.issue("client", public, days=0)),
        "unknown CA": Case(Authority("Stranger").issue("client", public)),
        "decrypt error": Case(Authority("Test CA").issue("client", public)),  # a foreign CA of the same name
        "": Case(authority.issue("client", public)),
        "certificate revoked": Case(authority.issue("client", public), revoked=True),
    }


def demanding_context(authority: Authority, case: Case, crl_file: Path) -> ssl.SSLContext:
    context = server_context(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    if case.revoked:
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        entry = x509.RevokedCertificateBuilder().serial_number(case.leaf.serial_number).revocation_date(now).build()
        revoked = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.certificate.subject)
            .last_update(now - day)
            .next_update(now + day)
            .add_revoked_certificate(entry)
            .sign(authority.key, hashes.SHA256())
        )
        crl_file.write_bytes(revoked.public_bytes(serialization.Encoding.PEM))
        context.load_verify_locations(crl_file)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


@pytest.fixture
def refused(
    authority: Authority, client_key: ec.EllipticCurvePrivateKey, cases: dict[str, Case], tmp_path: Path
) -> Iterator[Callable[..., tuple[Pool, str]]]:
    """A pool whose certificate is not accepted, and the URL of the server that does not accept it."""
    key = client_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    closing = contextlib.ExitStack()

    def opened(
        alert: str, end: Callable[[socket.socket], None], version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> tuple[Pool, str]:
        context = demanding_context(authority, cases[alert], tmp_path / "crl.pem")
        context.maximum_version = version
        server = RefusingServer(context, end)
        material = TLSMaterial(ca=pem(authority.certificate), certificate=pem(cases[alert].leaf) + key)
        pool = Pool(client_context(material))
        closing.callback(server.close)
        closing.callback(pool.close)
        return pool, server.url

    with closing:
        yield opened


ALERTS = ["certificate expired", "unknown CA", "decrypt error", "certificate revoked"]


@pytest.mark.parametrize("end", [close_at_once, reset, end_orderly], ids=lambda end: end.__name__)
@pytest.mark.parametrize("alert", ALERTS)
def test_a_certificate_that_is_turned_down_is_refused_every_time(
    refused: Callable[..., tuple[Pool, str]], alert: str, end: Callable[[socket.socket], None]
) -> None:
    """The alert is read at once, or sending fails first, or the connection is reset: always a refusal that names it."""
    pool, url = refused(alert, end)
    for size in SIZES:
        for _ in range(TRIES):
            with pytest.raises(TransportError) as caught:
                send(pool, url, b"x" * size)
            assert caught.value.kind is Kind.CERTIFICATE_REFUSED
            assert str(caught.value) == f"the server does not accept the client certificate (TLS alert: {alert})"


@pytest.mark.parametrize("alert", ALERTS)
def test_so_it_is_in_tls_1_2(refused: Callable[..., tuple[Pool, str]], alert: str) -> None:
    """There the alert comes within the handshake."""
    pool, url = refused(alert, close_at_once, ssl.TLSVersion.TLSv1_2)
    with pytest.raises(TransportError, match=f"TLS alert: {alert}") as caught:
        send(pool, url, b"{}")
    assert caught.value.kind is Kind.CERTIFICATE_REFUSED


@pytest.mark.parametrize("end", [close_at_once, reset, end_orderly], ids=lambda end: end.__name__)
def test_a_connection_that_ends_without_an_alert_is_broken(
    refused: Callable[..., tuple[Pool, str]], end: Callable[[socket.socket], None]
) -> None:
    """Only the alert says something about the certificate."""
    pool, url = refused("", end)
    for size in SIZES:
        with pytest.raises(TransportError) as caught:
            send(pool, url, b"x" * size)
        assert caught.value.kind is Kind.BROKEN


def test_an_answer_that_comes_before_all_is_sent_is_read(pool: Pool, serving: ssl.SSLContext) -> None:
    """A gateway answers 413 and closes while we are sending still."""
    server = Server(serving, answer_early=http("Payload Too Large", 413, Content_Type="text/plain"))
    with contextlib.closing(server):
        for _ in range(TRIES):
            answer = send(pool, server.url, b"x" * SIZES[-1])
            assert (answer.status, answer.body) == (413, b"Payload Too Large")


TRUST: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown authority": ({"ca": pem(Authority("another").certificate)}, "localhost"),
    "the authorities of the system": ({}, "localhost"),
    "another host": ({"ca": None}, "127.0.0.1"),
}


@pytest.mark.parametrize(("material", "host"), TRUST.values(), ids=TRUST)
def test_a_server_that_is_not_trusted_gets_nothing(
    authority: Authority, serving: ssl.SSLContext, material: dict[str, Any], host: str
) -> None:
    if "ca" in material and material["ca"] is None:
        material = {"ca": pem(authority.certificate)}
    with (
        contextlib.closing(Server(serving)) as server,
        contextlib.closing(Pool(client_context(TLSMaterial(**material)))) as pool,
    ):
        with pytest.raises(TransportError, match="the certificate of the server is not trusted") as caught:
            send(pool, f"https://{host}:{server.port}/", b"{}")
        assert caught.value.kind is Kind.UNTRUSTED
        assert not caught.value.is_sent
        assert server.requests == []


def test_an_authority_needs_no_key_identifiers(pool: Pool, authority: Authority, serving: ssl.SSLContext) -> None:
    """As with Go, and on each Python: 3.13 refuses such certificates unless it is told not to."""
    with pytest.raises(x509.ExtensionNotFound):
        authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    with contextlib.closing(Server(serving)) as server:
        assert send(pool, server.url, b"{}").status == 200


def test_roots_of_the_environment_and_no_verification(
    authority: Authority, serving: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL's default paths, SSL_CERT_FILE included; and none at all, on demand."""
    (tmp_path / "roots.pem").write_bytes(pem(authority.certificate))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    trusting = client_context(TLSMaterial())
    monkeypatch.delenv("SSL_CERT_FILE")
    with contextlib.closing(Server(serving)) as server:
        for context in (trusting, client_context(TLSMaterial(verify=False))):
            with contextlib.closing(Pool(context)) as pool:
                assert send(pool, server.url, b"{}").status == 200
