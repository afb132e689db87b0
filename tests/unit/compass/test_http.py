"""Sockets that misbehave, TLS, proxies, and features of HTTP clients that are not used."""

import contextlib
import gzip
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.compass.certificates import Credentials
from controller.compass.errors import InvalidRequest, TooLarge, Unavailable
from controller.compass.http import HttpAnswer, HttpClient
from controller.compass.tls import client_context
from controller.validation import fault_of_url
from informers.transport import Stop, Stopped
from tests.unit.compass.https_server import MAX_BYTES, SECRET_TOKEN, Authority, Server, http, pem, server_context

#: Real seconds a call gets where its end is awaited; the machine may be slow, so the proof is a multiple of it.
SHORT = 0.5
#: What a call gets that has to end earlier.
LONG = 60.0


@pytest.fixture
def stop() -> Stop:
    return Stop()


def using(context: ssl.SSLContext, stop: Stop | None = None) -> contextlib.closing[HttpClient]:
    return contextlib.closing(HttpClient(context, max_bytes=MAX_BYTES, stop=stop or Stop()))


@pytest.fixture
def client(trusting: ssl.SSLContext, stop: Stop) -> Iterator[HttpClient]:
    with using(trusting, stop) as client:
        yield client


def post(
    client: HttpClient, url: str, *, timeout: float = 5.0, token: str = SECRET_TOKEN, may_be_abandoned: bool = False
) -> HttpAnswer:
    headers = {"Connector-Token": token}
    return client.post(url, b"{}", headers=headers, timeout=timeout, may_be_abandoned=may_be_abandoned)


@pytest.mark.parametrize("timed_out", [False, True])
def test_a_broken_answer_is_an_outage(client: HttpClient, server: Server, timed_out: bool) -> None:
    """It says nothing about our credentials. (All of them: tests/unit/transport.)"""

    def talk(connection: ssl.SSLSocket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        if timed_out:
            server.wait_closed(60)

    server.answer = lambda _: talk
    message = r"no complete answer within 0\.5 s" if timed_out else "cut off"
    with pytest.raises(Unavailable, match=message) as caught:
        post(client, server.url, timeout=SHORT if timed_out else LONG)
    assert caught.value.timed_out is timed_out
    assert caught.value.is_sent


def test_a_server_that_does_not_listen_has_got_nothing(client: HttpClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://localhost:{listener.getsockname()[1]}/"
    with pytest.raises(Unavailable, match="refused") as caught:
        post(client, url)
    assert not caught.value.is_sent


def test_an_answer_is_bounded_in_size(client: HttpClient, server: Server) -> None:
    """What counts is the size after decompression; the largest that may be is taken whole. (tests/unit/transport.)"""
    server.answer = lambda _: http(gzip.compress(b" " * MAX_BYTES), Content_Encoding="gzip")
    assert post(client, server.url).body == b" " * MAX_BYTES
    server.answer = lambda _: http(gzip.compress(b" " * (MAX_BYTES + 1)), Content_Encoding="gzip")
    with pytest.raises(TooLarge, match=r"larger than 0\.0954 MiB") as caught:
        post(client, server.url)
    assert caught.value.single


@pytest.mark.parametrize("status", [503, 429, 408])
def test_an_outage_is_one_however_large_its_page(client: HttpClient, server: Server, status: int) -> None:
    """The body is left, and the status is what counts."""
    server.answer = lambda _: http(b"x" * (MAX_BYTES + 1), status)
    answer = post(client, server.url)
    assert (answer.status, answer.body) == (status, b"")


def test_redirects_are_not_followed(client: HttpClient, server: Server, authority: Authority) -> None:
    """A token goes to the address that it is meant for and to no other."""
    other = Server(server_context(authority))
    server.answer = lambda _: http("", 307, Location=other.url)
    assert post(client, server.url).status == 307
    assert other.requests == []
    other.close()


def test_netrc_and_cookies_are_not_used(
    client: HttpClient, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither a file of the user's nor an earlier answer adds a header."""
    (tmp_path / "netrc").write_text("machine localhost login a password b")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.answer = lambda _: http("{}", Set_Cookie="session=1")
    post(client, server.url)
    post(client, server.url)
    assert not {"authorization", "cookie"} & server.requests[1].headers.keys()


def test_an_untrusted_server_gets_no_request(server: Server) -> None:
    """Without the CA file the server's certificate is not trusted; nothing is sent, and it is no refusal."""
    with using(client_context()) as client, pytest.raises(Unavailable, match="not trusted"):
        post(client, server.url)
    assert server.requests == []


def test_no_other_roots_are_added_to_the_context(
    server: Server, ca_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither certifi nor REQUESTS_CA_BUNDLE extend what is trusted."""
    (tmp_path / "bundle.pem").write_bytes(pem(Authority("Other").certificate))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "bundle.pem"))
    context = client_context(ca_file=ca_file)
    before = context.cert_store_stats()
    server.answer = lambda _: http("{}")
    with using(context) as client:
        post(client, server.url)
    assert context.cert_store_stats() == before
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_verification_can_be_skipped(server: Server) -> None:
    server.answer = lambda _: http("{}")
    with using(client_context(skip_verify=True)) as client:
        assert post(client, server.url).status == 200


def test_the_client_certificate_is_presented(server: Server, ca_file: Path, client_pair: Credentials) -> None:
    server.answer = lambda _: http("{}")
    with using(client_context(client_pair, ca_file=ca_file)) as client:
        post(client, server.url)
    assert server.requests[0].peer == "client"


def test_old_versions_of_tls_are_not_used() -> None:
    """TLS 1.2 or newer."""
    assert client_context().minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("value", ["", " ", "a\nb", "a\r\nX: y", "tok\x00en", "t\u00f6ken", " lead", "trail "])
def test_a_token_that_cannot_be_a_header_is_not_sent(client: HttpClient, server: Server, value: str) -> None:
    """The failure names the header and not the value."""
    with pytest.raises(InvalidRequest, match="the header Connector-Token") as caught:
        post(client, server.url, token=value)
    assert value.strip() == "" or value not in str(caught.value)
    assert server.connections == 0


USELESS_URLS = [
    "",
    "https://",
    "http://compass.example.com/",
    "ftp://compass.example.com/",
    "compass.example.com/graphql",
    "https:///graphql",
    "https://compass.example.com:0/",
    "https://compass.example.com:99999/",
    "https://compass.example.com:port/",
    "https://[::1/",
    "https://compass example.com/",
    "https://compass.example.com/\n",
    "https://k\u00f6ln.example.com/",
    "https://user:secret@compass.example.com/",
    "https://user@compass.example.com/",
]


@pytest.mark.parametrize("url", USELESS_URLS)
def test_an_address_must_be_plain_https(client: HttpClient, url: str) -> None:
    """Everything else is an error before a token is sent; the text does not repeat the address."""
    with pytest.raises(InvalidRequest) as caught:
        post(client, url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://compass.example.com", "https://c.example.com:8443/a?b=c", "https://[::1]:1/"])
def test_a_usual_address_is_taken(url: str) -> None:
    """Port, path, query and IPv6 are all fine."""
    assert fault_of_url(url) == ""


def test_the_proxy_of_the_environment_is_used(
    client: HttpClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTPS_PROXY is honoured, NO_PROXY too; the proxy's password is in no text."""
    monkeypatch.setenv("HTTPS_PROXY", "http://user:pr0xy-pass@proxy.invalid:3128")
    with pytest.raises(
        Unavailable, match=r"the proxy http://proxy\.invalid:3128: the host name proxy\.invalid cannot"
    ) as caught:
        post(client, "https://compass.example.com/")
    assert "pr0xy-pass" not in str(caught.value)
    monkeypatch.setenv("NO_PROXY", "localhost")
    server.answer = lambda _: http("{}")
    assert post(client, server.url).status == 200


def test_a_proxy_that_cannot_be_used_is_named(client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:pr0xy-pass@proxy:1080")
    with pytest.raises(InvalidRequest, match="HTTPS_PROXY names a socks5 proxy") as caught:
        post(client, "https://compass.example.com/")
    assert "pr0xy-pass" not in str(caught.value)


def test_a_stop_ends_a_request_that_may_be_repeated(client: HttpClient, stop: Stop, server: Server) -> None:
    """A Director that hangs delays nothing."""

    def talk(connection: ssl.SSLSocket) -> None:
        stop.set()
        server.wait_closed(60)

    server.answer = lambda _: talk
    started = time.monotonic()
    with pytest.raises(Stopped):
        post(client, server.url, timeout=LONG, may_be_abandoned=True)
    assert time.monotonic() - started < LONG / 2


def test_a_stop_waits_for_the_answer_to_a_request_that_was_sent(client: HttpClient, stop: Stop, server: Server) -> None:
    """It may have used a token up, and hold the only copy of the next one. No other request begins."""

    def talk(connection: ssl.SSLSocket) -> None:
        stop.set()
        server.wait_closed(SHORT)
        connection.sendall(http("{}"))

    server.answer = lambda _: talk
    assert post(client, server.url, timeout=LONG).status == 200
    with pytest.raises(Stopped):
        post(client, server.url)
    assert len(server.requests) == 1
