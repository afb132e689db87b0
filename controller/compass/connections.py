"""Connections whose requests end at a deadline or a stop, in each phase.

urllib3 has a timeout for each single wait, and no limit for name resolution. `limited` sets the limits of the requests
of a thread; the connections and sockets of this module observe them.
"""

import concurrent.futures
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

from sockets.tls import TLSSocket

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
        opening: concurrent.futures.Future[None] = concurrent.futures.Future()
        threading.Thread(target=_open, args=(opening, super().connect, limits), name="connect", daemon=True).start()
        try:
            while not concurrent.futures.wait((opening,), min(_CHECK_PERIOD, limits.left())).done:
                limits.check()
        except BaseException as reason:
            opening.add_done_callback(lambda _: self.close())  # as soon as it is open
            if isinstance(reason, TimeoutError):
                raise NoConnection(self, "no connection") from None
            raise
        try:
            opening.result()
        finally:
            del opening  # the frames of its error lead back to it


def _open(opening: "concurrent.futures.Future[None]", connect: Callable[[], None], limits: _Limits) -> None:
    _current.limits = limits
    try:
        connect()
    except BaseException as error:  # noqa: BLE001 - raised by the caller, whatever it is
        opening.set_exception(error)
    else:
        opening.set_result(None)
    del opening, connect  # the frames of an error lead back to them


class _Pool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _Connection


def use_interruptible_connections(manager: urllib3.PoolManager) -> urllib3.PoolManager:
    """Let all HTTPS connections of the manager observe the limits; its SSLContext needs LimitedSocket."""
    manager.pool_classes_by_scheme = {**manager.pool_classes_by_scheme, "https": _Pool}
    return manager


class LimitedSocket(TLSSocket):
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
