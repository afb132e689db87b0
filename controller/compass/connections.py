"""Connections whose requests end at a deadline or a stop, in each phase.

urllib3 has a timeout for each single wait, and no limit for name resolution. `limited` sets the limits of the requests
of a thread; the connections and sockets of this module observe them.
"""

import contextlib
import errno
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions

#: Seconds between two checks whether a request that waits has to end.
_CHECK_PERIOD = 0.1


@dataclass(slots=True)
class _Limits:
    """The limits of a request. `at`: the monotonic time of its end. The checks raise the errors of `check_stop`."""

    at: float
    check: Callable[[], None]
    check_in_answer: Callable[[], None]

    def left(self) -> float:
        """Seconds until the end; raises TimeoutError after it."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline of the request has passed")
        return left


class _Current(threading.local):
    """The limits of the request of this thread; None outside a request."""

    limits: _Limits | None = None


_current = _Current()


class NoConnection(urllib3.exceptions.ConnectTimeoutError):
    """The timeout of the request ended before there was a connection."""


class _Connection(urllib3.connection.HTTPSConnection):
    """Connects in another thread, because name resolution, connect and handshake cannot be interrupted."""

    def connect(self) -> None:
        limits = _current.limits
        if limits is None:
            super().connect()
            return
        opening = _Opening(super().connect, limits)
        threading.Thread(target=opening.run, name="connect", daemon=True).start()
        try:
            while not opening.wait(min(_CHECK_PERIOD, limits.left())):
                limits.check()
        except TimeoutError:
            opening.abandon(self.close)
            raise NoConnection(self, "no connection") from None
        except BaseException:
            opening.abandon(self.close)
            raise
        opening.result()


class _Opening:
    """The opening of a connection, which may be abandoned."""

    def __init__(self, connect: Callable[[], None], limits: _Limits) -> None:
        self._connect = connect
        self._limits = limits
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._close: Callable[[], None] | None = None

    def run(self) -> None:
        _current.limits = self._limits
        try:
            self._connect()
        except BaseException as error:  # noqa: BLE001 - raised by result(), whatever it is
            self._error = error
        with self._lock:
            self._done.set()
            close = self._close
        if close is not None:
            close()

    def wait(self, seconds: float) -> bool:
        return self._done.wait(seconds)

    def abandon(self, close: Callable[[], None]) -> None:
        """Let the connection be closed when it is open."""
        with self._lock:
            self._close = close
            done = self._done.is_set()
        if done:
            close()

    def result(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its frames lead back to this one


class _Pool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _Connection


def use_interruptible_connections(manager: urllib3.PoolManager) -> urllib3.PoolManager:
    """Let all HTTPS connections of the manager observe the limits; its SSLContext needs LimitedSocket."""
    manager.pool_classes_by_scheme = {**manager.pool_classes_by_scheme, "https": _Pool}
    return manager


class LimitedSocket(ssl.SSLSocket):
    """Waits for bytes only until the deadline of the request, or its stop.

    A read timeout starts again with each byte, so a server that sends single bytes could block a call forever. The
    clock is the real one, as for sockets.

    If the request cannot be sent, the answer is read anyway. In TLS 1.3 the server checks our certificate while we
    send, so the alert with which it refuses the certificate arrives together with the end of the connection.
    """

    def send(self, data: Any, flags: int = 0) -> int:
        limits = _current.limits
        if limits is not None:
            limits.check()
            self.settimeout(limits.left())
        try:
            return super().send(data, flags)
        except ssl.SSLEOFError:
            # urllib3 goes on to read after this error and a reset, but not after OpenSSL's own.
            raise BrokenPipeError(errno.EPIPE, "the server does not read any more") from None

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        limits = _current.limits
        if limits is None:
            return super().recv_into(buffer, nbytes, flags)
        while True:
            self.settimeout(min(_CHECK_PERIOD, limits.left()))
            try:
                return super().recv_into(buffer, nbytes, flags)
            except TimeoutError:
                limits.check_in_answer()


@contextlib.contextmanager
def limited(seconds: float, check: Callable[[], None], *, in_answer: bool) -> Iterator[None]:
    """The requests of this thread end after `seconds`, and by the errors of `check` until they are sent.

    in_answer: these errors end them also after that.
    """
    _current.limits = _Limits(time.monotonic() + seconds, check, check if in_answer else lambda: None)
    try:
        yield
    finally:
        _current.limits = None
