"""The stream of a watch, decoded into plain dicts, with a stop that ends a blocked read.

The line protocol is that of the official client's Watch, the base class of WatchStream. The differences: it is faster
(0.02 instead of 0.35 ms for a line), and every end of the stream is normal: the caller resumes from the last observed
resourceVersion.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import urllib3
from kubernetes.watch import Watch

from informers.encoding import decode
from informers.errors import ConnectionFailed
from informers.exchange import Exchange
from informers.interrupt import Interrupt

log = logging.getLogger(__name__)

# One read returns up to this number of bytes, usually several events.
_READ_SIZE = 64 * 1024

ADDED = "ADDED"
MODIFIED = "MODIFIED"
DELETED = "DELETED"
BOOKMARK = "BOOKMARK"
ERROR = "ERROR"


class WatchEvent(NamedTuple):
    """`type` is ADDED, MODIFIED, DELETED, BOOKMARK or ERROR; `object` is the object as sent, for ERROR a Status."""

    type: str
    object: dict[str, Any]


class WatchStream(Watch):  # type: ignore[misc]
    """One watch request, iterated once.

    - open() sends the request; it raises ApiError when the server refuses the watch or cannot be reached. Iteration
      opens the stream if necessary.
    - The iterator ends when the server closes the connection, the connection breaks or is silent for longer than the
      read timeout, or stop() is called. An incomplete last line is dropped. None of this is an error.
    - Blank lines are skipped. An invalid line may have been an event that is now lost, so it becomes an ERROR event
      with reason InternalError, as in client-go (rest/request.go), and ends the stream.
    - stop() may be called from any thread at any time and ends a blocked read or open at once.
    - close() releases the connection. Reading to the end does that too; a caller that stops reading earlier must call
      it.
    """

    def __init__(self, open_response: Callable[[Interrupt, Exchange], urllib3.BaseHTTPResponse]) -> None:
        """open_response sends the request over the exchange, and raises ConnectionFailed if the interrupt is set before
        the answer. The exchange stays attached to the connection.
        """
        # Not the constructor of the base class: it creates a client with a pool, which is not used here.
        self._open_response = open_response
        self._interrupt = Interrupt()
        self._exchange = Exchange()
        self._response: urllib3.BaseHTTPResponse | None = None

    def open(self) -> None:
        """Send the request and wait for the headers of the answer. Raises ApiError. Returns early when stopped."""
        if self._response is not None or self._interrupt.is_set():
            return
        try:
            self._response = self._open_response(self._interrupt, self._exchange)
        except ConnectionFailed:
            if not self._interrupt.is_set():
                raise
        finally:
            if self._response is None:
                self._exchange.release()

    def __iter__(self) -> Iterator[WatchEvent]:
        return self.stream()

    def stream(self) -> Iterator[WatchEvent]:
        """The events, in the order of the server. Raises ApiError only before the first event, see open()."""
        self.open()
        response = self._response
        if response is None:
            return
        try:
            for line in _lines(response):
                if self._interrupt.is_set():
                    return
                event = self.unmarshal_event(line)
                if event is not None:
                    yield event
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # ValueError: the file below the response was closed under a read.
            if not self._interrupt.is_set():
                log.info("Watch connection ended", extra={"error": type(error).__name__})
        finally:
            self._close(response)

    def unmarshal_event(self, data: bytes, return_type: object = None) -> WatchEvent | None:  # noqa: ARG002
        """The event of a line; None for a blank line."""
        if not data or data.isspace():
            log.warning("Skipped a blank line in a watch")
            return None
        try:
            parsed = decode(data)
            event = WatchEvent(parsed["type"], parsed["object"])
        except (ValueError, TypeError, KeyError):
            event = None
        if event is None or not isinstance(event.object, dict):
            log.warning("Cannot decode a line of a watch", extra={"bytes": len(data)})
            return WatchEvent(ERROR, _UNDECODABLE)
        return event

    def stop(self) -> None:
        """End the stream. Idempotent, from any thread; does not wait."""
        self._interrupt.set()
        self._exchange.cut()

    def close(self) -> None:
        """stop(), and release the connection. Called by the thread that opens and reads. Idempotent."""
        self.stop()
        if self._response is not None:
            self._close(self._response)

    def _close(self, response: urllib3.BaseHTTPResponse) -> None:
        response.close()
        response.release_conn()
        self._exchange.release()


_UNDECODABLE: dict[str, Any] = {
    "kind": "Status",
    "apiVersion": "v1",
    "status": "Failure",
    "code": 500,
    "reason": "InternalError",
    "message": "unable to decode an event from the watch stream",
}


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The lines without line ends; an incomplete last line is dropped. Each byte is copied at most twice."""
    begun: list[bytes] = []  # parts of an incomplete line
    while segment := response.read1(_READ_SIZE, decode_content=False):
        *lines, rest = segment.split(b"\n")
        if lines and begun:
            begun.append(lines[0])
            lines[0] = b"".join(begun)
            begun.clear()
        if rest:
            begun.append(rest)
        yield from lines
