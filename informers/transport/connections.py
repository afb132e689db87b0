"""Connections whose requests end at a deadline or at a stop, in each phase.

A request runs in the thread of its caller. Before each send and read, its socket gets the time that is left; a stop
shuts the socket down, which ends a blocked send or read at once, without polling. Name resolution, connect and TLS
handshake cannot be interrupted, so they run in a thread that the caller may abandon.

urllib3 gives no access to the request of a connection. So the request of a thread is in `current`, where the connection
looks it up.
"""

import errno
import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.ssltransport import SSLTransport

from informers.transport.errors import Overdue
from informers.transport.stop import Stop

# Load balancers drop idle connections after a minute or more, some without a packet to either side. A request on such a
# connection would wait for its whole timeout. So a connection that was idle for this long is not used again. Seconds.
IDLE_LIMIT = 30.0


class Call:
    """The limits of one request, and the connection that it uses.

    at: monotonic seconds of its end, which is `timeout` seconds after its begin. read_timeout: seconds for each single
    wait after the connect, None for no limit of its own. finish: a stop ends the request only until it begins, because
    its effect has to be known.
    """

    def __init__(
        self,
        stop: Stop,
        *,
        at: float,
        timeout: float,
        finish: bool = False,
        read_timeout: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stop = stop
        self.monotonic = monotonic
        self._at = at
        self.timeout = timeout
        self._finish = finish
        self._read_timeout = read_timeout
        self._is_stream = False
        self.is_sent = False  # the first byte, or about to be: the server may act on the request
        self._wake: Callable[[], None] | None = None  # ends the wait for a connection
        self._socket: Any = None
        self.is_new = True  # the connection was opened for this request
        self.status = 0  # of the answer, as soon as there is one

    def __enter__(self) -> "Call":
        self._stop.add(self._interrupt)
        _local.call = self
        return self

    def __exit__(self, *_: object) -> None:
        _local.call = None
        if not self._is_stream:
            self.end()

    def stream(self) -> None:
        """The answer is a stream, read after the block, with `read_timeout` for each read. It needs an end()."""
        self._is_stream = True

    def end(self) -> None:
        """The answer was read, or is not read any more."""
        self._stop.remove(self._interrupt)

    def left(self, *, connected: bool = True) -> float:
        """Seconds for the next wait. Raises Overdue."""
        if self._is_stream and self._read_timeout is not None:
            return self._read_timeout
        left = self._at - self.monotonic()
        if left <= 0:
            raise Overdue(self.timeout, connected=connected)
        return left if self._read_timeout is None or not connected else min(left, self._read_timeout)

    def check(self) -> None:
        """Raises Stopped if the request must not go on."""
        if not (self._finish and self.is_sent):
            self._stop.check()

    def overdue(self) -> Overdue:
        """The error for a wait that was too long."""
        return Overdue(self._read_timeout or self.timeout, connected=True)

    def begin(self) -> None:
        """The first byte is about to be sent. Raises Stopped."""
        self.check()
        self.is_sent = True

    def wait_for(self, opening: "Future[None]") -> None:
        """Wait for a connection. Raises its error, Stopped, or Overdue."""
        woken = threading.Event()
        self._wake = woken.set
        opening.add_done_callback(lambda _: woken.set())
        # Between these two lines the stop finds either `_wake`, or is found here.
        self.check()
        woken.wait(self.left(connected=False))
        self.check()
        if not opening.done():
            raise Overdue(self.timeout, connected=False)
        opening.result()

    def attach(self, sock: Any, *, is_new: bool) -> None:
        """Send and read on this socket from now on."""
        self.is_new = is_new
        raw: Any = sock.socket if isinstance(sock, SSLTransport) else sock
        raw.call = self
        self._socket = raw
        self.check()  # a stop before this line did not find the socket

    @property
    def is_attached(self) -> bool:
        return self._socket is not None

    def detach(self, sock: socket.socket) -> None:
        """The socket is about to be closed, after which its number may belong to another connection."""
        if self._socket is sock:
            self._socket = None

    def _interrupt(self) -> None:
        if self._wake is not None:
            self._wake()
        sock = self._socket
        if sock is not None and not (self._finish and self.is_sent):
            try:
                # Not that of ssl.SSLSocket, which would let a blocked read go on without TLS.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                return  # it is disconnected already, which ends the request too


class _Local(threading.local):
    call: Call | None = None


_local = _Local()


class _Limited:
    """A mixin for sockets, which observe the limits of their call."""

    call: Call | None = None

    def _within(self, operation: Callable[..., Any], *arguments: Any) -> Any:
        call = self.call
        if call is None:
            return operation(*arguments)
        self.settimeout(call.left())  # type: ignore[attr-defined]
        try:
            done = operation(*arguments)
        except OSError as error:
            call.check()
            if isinstance(error, TimeoutError) and error.errno is None:
                raise call.overdue() from None
            raise
        if done == 0 or done == b"":
            call.check()  # the end of the stream may be our own
        return done

    def send(self, data: Any, flags: int = 0) -> int:
        if self.call is not None:
            self.call.check()
        try:
            return int(self._within(super().send, data, flags))  # type: ignore[misc]
        except ssl.SSLEOFError:
            # urllib3 goes on to read after this error and a reset, but not after OpenSSL's own. In TLS 1.3 the server
            # checks our certificate while we send, so the alert that refuses it arrives with the end of the connection.
            raise BrokenPipeError(errno.EPIPE, "the server does not read any more") from None

    def recv(self, size: int, flags: int = 0) -> bytes:
        return bytes(self._within(super().recv, size, flags))  # type: ignore[misc]

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        return int(self._within(super().recv_into, buffer, nbytes or len(buffer), flags))  # type: ignore[misc]

    def _real_close(self, *arguments: Any) -> None:
        if self.call is not None:
            self.call.detach(self)  # type: ignore[arg-type]
        super()._real_close(*arguments)  # type: ignore[misc]


class Socket(_Limited, socket.socket):
    """A TCP socket."""

    def sendall(self, data: Any, flags: int = 0) -> None:
        if self.call is not None:
            self.call.check()
        self._within(super().sendall, data, flags)


class _EmptyingSocket(ssl.SSLSocket):
    """A TLS socket whose errors do not affect other connections.

    OpenSSL has a queue of errors for each thread, and expects it to be empty before an operation. CPython empties it
    after most errors, but not after each system error (python/cpython#148594; seen with Python 3.13 and OpenSSL 3.5).
    The rest is reported for the next operations of the thread that have to wait, on whatever connection. So a thread
    in which one connection broke, or was shut down by another thread, could never read from a connection again. This
    class empties the queue after each failure, and at the end of the connection.
    """

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            _empty_error_queue()
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except OSError:
            if not hasattr(self, "_connected"):
                # The server has reset the connection before the handshake. The constructor, which calls this, raises
                # the error and would leave the socket open.
                self.close()
            raise

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - the name of the base class
        try:
            read = super().read(len, buffer)
        except OSError:
            _empty_error_queue()
            raise
        if not read:
            _empty_error_queue()
        return read

    def send(self, data: Any, flags: int = 0) -> int:
        try:
            return super().send(data, flags)
        except OSError:
            _empty_error_queue()
            raise


class TLSSocket(_Limited, _EmptyingSocket):  # type: ignore[misc] # typeshed names the arguments differently
    """A TLS socket. The limits are around what empties the queue: a Stopped must not pass it."""


# Any context will do. It is not used for connections.
_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _empty_error_queue() -> None:
    try:
        _context.set_ciphers("none")
    except ssl.SSLError:
        return  # this failure is the only call without another effect that empties the queue
    raise AssertionError("OpenSSL accepts any ciphers")


class _Head:
    """The file of a socket, while the head of an answer is read. http.client takes its end for that of the head."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._is_begun = False

    def readline(self, limit: int) -> bytes:
        line = bytes(self._file.readline(limit))
        if not line and self._is_begun:
            raise http.client.IncompleteRead(b"")
        self._is_begun = True
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Answer(http.client.HTTPResponse):
    def begin(self) -> None:
        file = self.fp
        self.fp = _Head(file)  # type: ignore[assignment]
        super().begin()
        self.fp = file


class _Connection:
    """A mixin for urllib3's connections. All requests on it belong to the call of their thread."""

    response_class: Any = _Answer
    sock: Any
    close: Callable[[], None]
    call: Call | None = None  # the last one
    process = 0  # that opened it: a forked child must not share it
    used_at = 0.0  # the end of the last request, monotonic seconds
    # The server refused the credentials of the last request, which may be those of the connection.
    is_refused = False

    def connect(self) -> None:
        call = _local.call
        assert call is not None
        opening: Future[None] = Future()
        connect: Callable[[], None] = super().connect  # type: ignore[misc]
        threading.Thread(target=_open, args=(opening, connect), name="connect", daemon=True).start()
        try:
            call.wait_for(opening)
            call.attach(self.sock, is_new=True)
        except BaseException:
            opening.add_done_callback(lambda _: self.close())  # as soon as it is open
            raise
        finally:
            del opening  # the frames of its error lead back to it
        self.process = os.getpid()
        self.is_refused = False

    def _new_conn(self) -> socket.socket:
        sock: socket.socket = super()._new_conn()  # type: ignore[misc]
        timeout = sock.gettimeout()
        own = Socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
        own.settimeout(timeout)
        return own

    def request(self, *arguments: Any, **keywords: Any) -> None:
        call = _local.call
        assert call is not None
        if self.sock is None:
            self.connect()
        elif not call.is_attached:
            call.attach(self.sock, is_new=False)
        self.call = call
        call.begin()
        super().request(*arguments, **keywords)  # type: ignore[misc]

    def getresponse(self) -> Any:
        call = _local.call
        assert call is not None
        response = super().getresponse()  # type: ignore[misc]
        call.status = response.status
        self.is_refused = response.status == 401
        return response

    def end_request(self) -> None:
        """The connection is idle from now on. It is closed if the server has refused the credentials."""
        if self.call is not None:
            self.used_at = self.call.monotonic()
        if self.is_refused:
            self.close()

    def is_usable(self, now: float) -> bool:
        """Whether a request may be sent on it."""
        return self.process == os.getpid() and now - self.used_at <= IDLE_LIMIT


def _open(opening: "Future[None]", connect: Callable[[], None]) -> None:
    try:
        connect()
    except BaseException as error:  # noqa: BLE001 - raised by the caller, whatever it is
        opening.set_exception(error)
    else:
        opening.set_result(None)
    del opening, connect  # the frames of an error lead back to them


class _PlainConnection(_Connection, HTTPConnection):
    pass


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class _Pool:
    """A mixin for urllib3's pools of the connections to one server."""

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)  # type: ignore[misc]
        call = _local.call
        if connection.sock is not None and call is not None and not connection.is_usable(call.monotonic()):
            connection.close()
        return connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.end_request()
        super()._put_conn(conn)  # type: ignore[misc]


class PlainPool(_Pool, HTTPConnectionPool):
    """The connections to one server without TLS."""

    ConnectionCls = _PlainConnection


class TLSPool(_Pool, HTTPSConnectionPool):
    """The connections to one server with TLS."""

    ConnectionCls = _TLSConnection

    def _validate_conn(self, conn: Any) -> None:
        """Connect. Without the base class's warning for each request without verification; callers log one."""
        if conn.is_closed:
            conn.connect()


POOLS = {"http": PlainPool, "https": TLSPool}
