"""What operators read about an answer that is not the API server's: a reason, and a short text."""

import pytest

from informers.client import _error_of
from informers.transport import Response


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
    """The text of a proxy is reported, short and printable; a page or another object is not."""
    response = Response(status, {"Content-Type": content_type}, body)
    error = _error_of(response, "https://host/apis/a/v1/b?secret=1")
    assert error.status == status
    assert error.message.startswith(text)
    assert "secret" not in error.message
    assert error.message.isprintable()
