"""From bytes to events."""

import itertools
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from informers import WatchStream
from informers.transport import Kind, Stop, TransportError
from tests.fake_api_server.objects import widget


class Pieces:
    """A stream that brings these pieces, then ends or fails."""

    def __init__(self, pieces: list[bytes], error: Exception | None = None) -> None:
        self._pieces = [piece for piece in pieces if piece]
        self._error = error
        self.closed = False

    def read(self, size: int) -> bytes:
        assert size > 0
        if self._pieces:
            return self._pieces.pop(0)
        if self._error:
            raise self._error
        return b""

    def close(self) -> None:
        self.closed = True


def stream_of(*pieces: bytes, error: Exception | None = None) -> WatchStream:
    return WatchStream(lambda *_: Pieces(list(pieces), error))  # type: ignore[arg-type]


def line(name: str) -> bytes:
    return orjson.dumps({"type": "ADDED", "object": widget(name, 1)}) + b"\n"


def names(stream: WatchStream) -> list[str]:
    return [event.object["metadata"]["name"] for event in stream]


@given(st.lists(st.text(min_size=1, max_size=5), max_size=6), st.lists(st.integers(0, 2000), max_size=12))
def test_lines_do_not_depend_on_how_they_are_cut(texts: list[str], cuts: list[int]) -> None:
    """Pieces of any size give the same events, also when characters of several bytes are cut."""
    data = b"".join(line(text) for text in texts)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[begin:end] for begin, end in itertools.pairwise(edges)]
    assert names(stream_of(*pieces)) == texts


def test_long_line_in_many_pieces() -> None:
    """A line longer than any read is put together."""
    data = orjson.dumps({"type": "ADDED", "object": widget("a", 1, text="x" * 1_000_000)}) + b"\n"
    (event,) = stream_of(*[data[i : i + 1000] for i in range(0, len(data), 1000)])
    assert len(event.object["spec"]["text"]) == 1_000_000


@pytest.mark.parametrize(
    "error",
    [None, TransportError(Kind.BROKEN, "the connection was reset")],
)
def test_every_end_is_an_ordinary_one(error: Exception | None) -> None:
    """Also a break and a timeout; the line that was cut off is dropped."""
    assert names(stream_of(line("a"), line("b")[:-10], error=error)) == ["a"]


def test_blank_lines_are_skipped() -> None:
    """They carry nothing, so nothing can be lost."""
    assert names(stream_of(b"\n \r\n", line("a"), b"\n")) == ["a"]


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\n",
        b"[]\n",
        b'"x"\n',
        b"{}\n",
        b'{"type": "ADDED"}\n',
        b'{"type":"ADDED","object":7}\n',
        b'{"type":"ADDED","object":{"a":"\xff"}}\n',
    ],
)
def test_undecodable_line_is_an_error_event(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """It may have been an event that is now lost. The log does not repeat it."""
    first, second = stream_of(data, line("a"))
    assert (first.type, first.object["reason"]) == ("ERROR", "InternalError")
    assert second.type == "ADDED"
    assert [getattr(record, "bytes", None) for record in caplog.records] == [len(data) - 1]


def test_stop_before_open() -> None:
    """A stream stopped early sends no request and is empty."""
    calls: list[Any] = []
    stream = WatchStream(lambda *_: calls.append(1))  # type: ignore[arg-type]
    stream.stop()
    stream.stop()
    assert list(stream) == []
    assert not calls


def test_stop_while_it_opens() -> None:
    """The request is ended, and the stream is empty."""

    def wait_for_headers(stop: Stop) -> Pieces:
        stream.stop()
        stop.check()
        return Pieces([line("a")])

    stream = WatchStream(wait_for_headers)  # type: ignore[arg-type]
    assert list(stream) == []


def test_response_is_closed_at_the_end() -> None:
    """Whether the stream was read to its end or left."""
    for leave in (False, True):
        response = Pieces([line("a"), line("b")])
        stream = WatchStream(lambda *_, response=response: response)
        events = iter(stream)
        next(events)
        if leave:
            del events
        else:
            list(events)
        assert response.closed


def test_close_gives_back_what_was_never_read() -> None:
    """An open stream that nobody will read holds no connection after close()."""
    response = Pieces([line("a")])
    stream = WatchStream(lambda *_: response)  # type: ignore[arg-type]
    stream.close()
    stream = WatchStream(lambda *_: response)  # type: ignore[arg-type]
    stream.open()
    assert not response.closed
    stream.close()
    stream.close()
    assert response.closed
