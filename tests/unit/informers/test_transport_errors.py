"""What operators read about a failure of urllib3 or a foreign answer: a reason, and a text with host and cause."""

import ssl
from typing import Any, cast

import pytest
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from informers.errors import ConnectionFailed
from informers.transport_errors import connection_failed, error_of, overdue

HOST = "apiserver:6443"
# urllib3 keeps the pool or connection of an error for its text only.
POOL = cast("Any", None)


def chained(error: HTTPError, cause: BaseException) -> HTTPError:
    error.__cause__ = cause
    return error


NEW_CONNECTION = NewConnectionError(POOL, "no route")


@pytest.mark.parametrize(
    ("error", "reason", "text"),
    [
        pytest.param(
            ConnectTimeoutError(POOL, ""), ConnectionFailed.TIMEOUT, "no connection within 3 s", id="connect timeout"
        ),
        pytest.param(
            ReadTimeoutError(POOL, "", ""), ConnectionFailed.TIMEOUT, "no answer within 7 s", id="read timeout"
        ),
        pytest.param(
            ProtocolError("", TimeoutError()), ConnectionFailed.TIMEOUT, "no answer within 3 s", id="timeout of a send"
        ),
        pytest.param(
            ProtocolError("", ConnectionResetError(104, "Connection reset by peer")),
            ConnectionFailed.BROKEN,
            "the connection broke: Connection reset by peer",
            id="reset",
        ),
        pytest.param(
            ProtocolError("cut short"),
            ConnectionFailed.BROKEN,
            "the connection broke: closed before the answer was complete",
            id="cut short",
        ),
        pytest.param(
            chained(NEW_CONNECTION, ConnectionRefusedError()),
            ConnectionFailed.REFUSED,
            "connection refused",
            id="refused",
        ),
        pytest.param(
            chained(NewConnectionError(POOL, ""), OSError(113, "No route to host")),
            ConnectionFailed.UNREACHABLE,
            "No route to host",
            id="no route",
        ),
        pytest.param(
            LocationParseError("x"), ConnectionFailed.UNREACHABLE, "LocationParseError", id="no error of the system"
        ),
        pytest.param(
            SSLError(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")),
            ConnectionFailed.TLS,
            "TLS failed: sslerror",
            id="TLS without a reason",
        ),
        pytest.param(
            SSLError(ValueError("check_hostname")), ConnectionFailed.TLS, "TLS failed: SSLError", id="TLS in Python"
        ),
        pytest.param(
            ProxyError("", ProtocolError("cut short")),
            ConnectionFailed.BROKEN,
            "through the proxy: cannot reach the API server at apiserver:6443: the connection broke",
            id="proxy",
        ),
    ],
)
def test_no_answer(error: HTTPError, reason: str, text: str) -> None:
    found = connection_failed(error, HOST, connect_timeout=3, read_timeout=7)
    assert found.reason == reason
    assert text in found.message
    assert HOST in found.message


@pytest.mark.parametrize(
    ("status", "content_type", "body", "text"),
    [
        (503, "text/plain", b"upstream connect error\n", "the server answered with status 503: upstream connect error"),
        (503, "text/plain", b"\x1b[2J\x00", "the server answered with status 503: [2J"),
        (503, "text/plain", b" \n", "the server answered with status 503"),
        (503, "text/plain; charset=utf-8", b"x" * 1000, "the server answered with status 503: " + "x" * 200),
        (502, "text/html", b"<html>secret</html>", "the server answered with status 502"),
        (404, "text/plain", b"404 page not found", "the server does not know the path /apis/a/v1/b:"),
        (500, "application/json", b'{"kind": "Other", "message": "x"}', "the server answered with status 500"),
        (500, "application/json", b"[]", "the server answered with status 500"),
    ],
)
def test_an_answer_that_is_no_status(status: int, content_type: str, body: bytes, text: str) -> None:
    """A text of a proxy is told, short and printable; a page or another object is not."""
    headers = {"Content-Type": content_type}
    response = urllib3.HTTPResponse(body, status=status, headers=headers, request_url="/apis/a/v1/b?secret=1")
    error = error_of(response)
    assert error.status == status
    assert error.message.startswith(text)
    assert "secret" not in error.message
    assert error.message.isprintable()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(30, "30 s"), (2.2499506, "2.2 s"), (0.2, "0.2 s"), (0.003, "0.1 s")],
)
def test_seconds_are_for_people(seconds: float, text: str) -> None:
    """What is left of a timeout has many digits, which nobody needs."""
    assert overdue(HOST, seconds, connected=False).message.endswith(f"no connection within {text}")
