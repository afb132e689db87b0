"""A server that turns our client certificate down by a TLS alert: recognised however the connection ends.

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

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from controller.compass.certificates import Credentials
from controller.compass.errors import Refused, Unavailable
from controller.compass.http import HttpClient
from controller.compass.tls import client_context
from informers.transport import Stop
from tests.unit.compass.https_server import MAX_BYTES, Authority, Server, http, server_context

TRIES = 25

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
def cases(authority: Authority, client_key: rsa.RSAPrivateKey) -> dict[str, Case]:
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
    authority: Authority, client_key: rsa.RSAPrivateKey, ca_file: Path, cases: dict[str, Case], tmp_path: Path
) -> Iterator[Callable[..., tuple[HttpClient, str]]]:
    """A client whose certificate is not accepted, and the URL of the server that does not accept it."""
    closing = contextlib.ExitStack()

    def opened(
        alert: str, end: Callable[[socket.socket], None], version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> tuple[HttpClient, str]:
        context = demanding_context(authority, cases[alert], tmp_path / "crl.pem")
        context.maximum_version = version
        server = RefusingServer(context, end)
        client = HttpClient(
            client_context(Credentials(client_key, (cases[alert].leaf,)), ca_file=ca_file),
            max_bytes=MAX_BYTES,
            stop=Stop(),
        )
        closing.callback(server.close)
        closing.callback(client.close)
        return client, server.url

    with closing:
        yield opened


ALERTS = ["certificate expired", "unknown CA", "decrypt error", "certificate revoked"]


@pytest.mark.parametrize("end", [close_at_once, reset, end_orderly], ids=lambda end: end.__name__)
@pytest.mark.parametrize("alert", ALERTS)
def test_a_certificate_that_is_turned_down_is_refused_every_time(
    refused: Callable[..., tuple[HttpClient, str]], alert: str, end: Callable[[socket.socket], None]
) -> None:
    """The alert is read at once, or sending fails first, or the connection is reset: always a refusal that names it."""
    client, url = refused(alert, end)
    for size in SIZES:
        for _ in range(TRIES):
            with pytest.raises(Refused) as caught:
                client.post(url, b"x" * size, headers={}, timeout=10)
            assert str(caught.value) == f"the server does not accept the client certificate (TLS alert: {alert})"
            assert caught.value.status == 0


@pytest.mark.parametrize("alert", ALERTS)
def test_so_it_is_in_tls_1_2(refused: Callable[..., tuple[HttpClient, str]], alert: str) -> None:
    """There the alert comes within the handshake."""
    client, url = refused(alert, close_at_once, ssl.TLSVersion.TLSv1_2)
    for _ in range(TRIES):
        with pytest.raises(Refused, match=f"TLS alert: {alert}"):
            client.post(url, b"{}", headers={}, timeout=10)


@pytest.mark.parametrize("end", [close_at_once, reset, end_orderly], ids=lambda end: end.__name__)
def test_a_connection_that_ends_without_an_alert_is_an_outage(
    refused: Callable[..., tuple[HttpClient, str]], end: Callable[[socket.socket], None]
) -> None:
    """Only the alert says something about the certificate."""
    client, url = refused("", end)
    for size in SIZES:
        with pytest.raises(Unavailable):
            client.post(url, b"x" * size, headers={}, timeout=10)


def test_an_answer_that_comes_before_all_is_sent_is_read(trusting: ssl.SSLContext, server: Server) -> None:
    """A gateway answers 413 and closes while we are sending still."""
    server.answer_early = http("Payload Too Large", 413, Content_Type="text/plain")
    client = HttpClient(trusting, max_bytes=MAX_BYTES, stop=Stop())
    for _ in range(TRIES):
        answer = client.post(server.url, b"x" * SIZES[-1], headers={}, timeout=10)
        assert (answer.status, answer.body) == (413, b"Payload Too Large")
    client.close()
