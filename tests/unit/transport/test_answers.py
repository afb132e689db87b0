"""What comes back: a whole answer, or an error of ours, whatever bytes a server sends."""

import gzip
import ssl
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from informers.transport import Kind, Pool, Response, Stop, TransportError
from tests.unit.transport.openssl_errors import leave_errors
from tests.unit.transport.peer import Peer, always, http, once, request_of

Start = Callable[..., Peer]

MAX_BYTES = 100_000


def send(pool: Pool, url: str, method: str = "POST", *, timeout: float = 20.0) -> Response:
    return pool.send(method, url, headers={}, body=b"{}", stop=Stop(), timeout=timeout, max_bytes=MAX_BYTES)


def failure(pool: Pool, url: str) -> TransportError:
    with pytest.raises(TransportError) as caught:
        send(pool, url)
    assert caught.value.is_sent
    return caught.value


def chunks(*lines: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(line + b"\r\n" for line in lines)


def sized(length: str, body: bytes = b"{}") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode() + body


CUT_OFF = "the answer was cut off"
NOT_HTTP = "the answer is not HTTP"
NOT_GZIP = "the answer is not compressed the way it says"
NO_ANSWER = "the connection was reset|the connection was closed without an answer"

BROKEN: dict[str, tuple[bytes, Kind, str]] = {
    "nothing": (b"", Kind.BROKEN, NO_ANSWER),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-", Kind.BROKEN, CUT_OFF),
    "a head without an end": (b"HTTP/1.1 200 OK\r\nX: 1\r\n", Kind.BROKEN, CUT_OFF),
    "half a body": (sized("100"), Kind.BROKEN, CUT_OFF),
    "half a chunk": (chunks(b"5", b"{"), Kind.BROKEN, CUT_OFF),
    "no last chunk": (chunks(b"2", b"{}"), Kind.BROKEN, CUT_OFF),
    "a length that nothing has": (sized("99999999999999999999999"), Kind.BROKEN, CUT_OFF),
    "a negative chunk": (chunks(b"-5", b"{}"), Kind.UNEXPECTED, "unexpected ValueError"),
    "a chunk that nothing has": (chunks(b"f" * 30, b"{}"), Kind.BROKEN, CUT_OFF),
    "a chunk without a length": (chunks(b"zz", b"{}"), Kind.INVALID, NOT_HTTP),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", Kind.INVALID, NOT_HTTP),
    "another protocol": (b"SSH-2.0-OpenSSH\r\n\r\n", Kind.INVALID, NOT_HTTP),
    "a status that is none": (b"HTTP/1.1 abc OK\r\n\r\n", Kind.INVALID, NOT_HTTP),
    "a status without meaning": (b"HTTP/1.1 1000 OK\r\n\r\n", Kind.INVALID, NOT_HTTP),
    "a header without end": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", Kind.INVALID, NOT_HTTP),
    "too many headers": (b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 200 + b"\r\n", Kind.INVALID, NOT_HTTP),
    "no gzip": (http(b"plain", Content_Encoding="gzip"), Kind.INVALID, NOT_GZIP),
    "half of a gzip": (http(gzip.compress(b"x" * 1000)[:-9], Content_Encoding="gzip"), Kind.BROKEN, CUT_OFF),
    "garbage after a gzip": (http(gzip.compress(b"x") + b"yz", Content_Encoding="gzip"), Kind.INVALID, NOT_GZIP),
    "another compression": (http(b"x", Content_Encoding="br"), Kind.INVALID, "in a way that was not asked for"),
}


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize(("sent", "kind", "text"), BROKEN.values(), ids=BROKEN)
def test_a_broken_answer(pool: Pool, start: Start, *, tls: bool, sent: bytes, kind: Kind, text: str) -> None:
    """Each is a row of the table of errors, or unexpected; never an error of a library."""
    error = failure(pool, start(once(sent), tls=tls).url)
    assert error.kind is kind
    assert any(part in str(error) for part in text.split("|")), str(error)
    assert error.__cause__ is None


USUAL: dict[str, tuple[bytes, bytes]] = {
    "lines that end with LF only": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}", b"{}"),
    "a negative length, which counts as none": (sized("-5"), b"{}"),
    "a length that is none": (sized("abc"), b"{}"),
    "no length": (b"HTTP/1.0 200 OK\r\n\r\n{}", b"{}"),
    "chunks with extensions": (chunks(b"1;a=b", b"{", b"1", b"}", b"0", b""), b"{}"),
    "gzip": (http(gzip.compress(b"hello"), Content_Encoding="gzip"), b"hello"),
    "x-gzip": (http(gzip.compress(b"hello"), Content_Encoding="X-GZip"), b"hello"),
    "gzip of several members": (http(gzip.compress(b"hel") + gzip.compress(b"lo"), Content_Encoding="gzip"), b"hello"),
    "gzip of nothing": (http(b"", Content_Encoding="gzip"), b""),
    "no compression": (http(b"hello", Content_Encoding="identity"), b"hello"),
}


@pytest.mark.parametrize(("sent", "body"), USUAL.values(), ids=USUAL)
def test_an_answer(pool: Pool, start: Start, sent: bytes, body: bytes) -> None:
    assert send(pool, start(once(sent)).url).body == body


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([*b"\r\n", *b"0-f:; ", 0, 255]), max_size=8).map(bytes), st.integers(0, 90))
def test_any_framing(pool: Pool, start: Start, noise: bytes, at: int) -> None:
    """Noise anywhere in an answer: an answer or an error of ours."""
    whole = chunks(b"5", b"hello", b"0", b"")
    peer = start(once(whole[:at] + noise + whole[at:]))
    try:
        send(pool, peer.url)
    except TransportError:
        pass
    finally:
        peer.close()


def test_a_broken_answer_affects_no_later_request(pool: Pool, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of OpenSSL stays in its thread with Python 3.13, and would end each later read that has to wait."""
    leave_errors(monkeypatch)
    failure(pool, start(once(sized("5", b"")), tls=True).url)

    def slowly(connection: ssl.SSLSocket) -> None:
        request_of(connection)
        peer.over.wait(0.1)
        connection.sendall(http(b"{}"))

    peer = start(slowly, tls=True)
    assert send(pool, peer.url).status == 200


def zipped(body: bytes) -> bytes:
    return http(gzip.compress(body), Content_Encoding="gzip")


@pytest.mark.parametrize("answer", [http, zipped])
def test_an_answer_is_bounded_in_size(pool: Pool, start: Start, answer: Callable[[bytes], bytes]) -> None:
    """What counts is the size after decompression; the largest that may be is taken whole."""
    for size in (0, MAX_BYTES):
        assert send(pool, start(always(answer(b" " * size))).url).body == b" " * size
    for size in (MAX_BYTES + 1, 20_000_000):
        error = failure(pool, start(always(answer(b" " * size))).url)
        assert (error.kind, error.status) == (Kind.TOO_LARGE, 200)


def test_a_gzip_bomb_is_not_decompressed(pool: Pool, start: Start) -> None:
    """At no time there is more of it in memory than may be: a few bytes become a gigabyte otherwise."""
    bomb = zipped(b"\0" * 20_000_000)
    peer = start(always(bomb))
    tracemalloc.start()
    assert failure(pool, peer.url).kind is Kind.TOO_LARGE
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_stream_that_breaks(pool: Pool, start: Start) -> None:
    """Its error is of the same table, for each read."""
    peer = start(once(chunks(b"2", b"{}", b"zz", b"")))
    stream = pool.open(peer.url, headers={}, stop=Stop(), timeout=20, read_timeout=20)
    assert not isinstance(stream, Response)
    assert stream.read(10) == b"{}"
    with pytest.raises(TransportError):
        stream.read(10)
    stream.close()
    stream.close()
