"""One request on a connection, which another thread can abort in any phase.

urllib3 gives no access to a request in progress. So each connection looks up the exchange of its thread and registers
its socket. A request that is aborted before its connection is open is never sent; later, its socket is shut down, which
ends a blocked send or recv (closing the socket would not).
"""

import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

import urllib3
from urllib3.connectionpool import HTTPConnectionPool

from informers.interrupt import Interrupted
from sockets.tls import TLSSocket

log = logging.getLogger(__name__)

_of_thread = threading.local()


class Exchange:
    """A request and its answer. Requests that the thread sends inside `with exchange:` belong to it, one at a time.

    cut() may be called from any thread at any time. release() is the last call: until then the exchange has a duplicate
    of the socket's descriptor, which stays valid when urllib3 or TLS close theirs.
    """

    def __init__(self, is_over: Callable[[], bool] = lambda: False) -> None:
        """is_over: called immediately before each send. Nothing is sent if it returns True, even without cut()."""
        self._is_over = is_over
        self._lock = threading.Lock()
        self._is_cut = False
        self._socket: socket.socket | None = None
        self._is_new = False

    @property
    def is_connected(self) -> bool:
        """Whether there is a TCP connection to the server. Its TLS handshake may be incomplete."""
        with self._lock:
            return self._socket is not None

    @property
    def is_cut(self) -> bool:
        """Whether cut() was called."""
        return self._is_cut

    @property
    def on_new_connection(self) -> bool:
        """Whether the connection was opened for this request; False for one from the pool."""
        return self._is_new

    def __enter__(self) -> Self:
        self.release()
        self._is_new = False
        _of_thread.exchange = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _of_thread.exchange = None

    def cut(self) -> None:
        """Prevent further sends, and end blocked sends and reads. Idempotent."""
        with self._lock:
            self._is_cut = True
            if self._socket is None:
                return
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                log.debug("The socket was already disconnected", extra={"error": type(error).__name__})

    def release(self) -> None:
        """Release the socket. Idempotent."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def check(self) -> None:
        """Raises Interrupted if nothing may be sent any more."""
        if self._is_cut or self._is_over():
            raise Interrupted

    def attach(self, sock: Any, *, new: bool) -> None:
        """Use this connection for the request. Raises Interrupted after cut()."""
        with self._lock:
            if self._is_cut:
                raise Interrupted
            if self._socket is None:
                self._socket = socket.socket(fileno=os.dup(sock.fileno()))
                self._is_new = new


def make_cuttable(manager: urllib3.PoolManager, *, context: Callable[[], ssl.SSLContext]) -> None:
    """Let all connections of `manager` register with their exchanges, including those to proxies, and use a TLS context
    that `context` makes for each.
    """
    manager.pool_classes_by_scheme = {
        scheme: _pool_class(pool, context) for scheme, pool in manager.pool_classes_by_scheme.items()
    }


class _Telling:
    """A mixin for urllib3's connections."""

    sock: Any

    def _new_conn(self) -> socket.socket:
        sock: socket.socket = super()._new_conn()  # type: ignore[misc]
        exchange = _exchange_of_thread()
        if exchange is not None:
            try:
                exchange.attach(sock, new=True)
            except BaseException:
                sock.close()
                raise
        return sock

    def request(self, *arguments: Any, **keywords: Any) -> None:
        exchange = _exchange_of_thread()
        if exchange is not None and self.sock is not None:
            exchange.attach(self.sock, new=False)
        super().request(*arguments, **keywords)  # type: ignore[misc]

    def send(self, *arguments: Any, **keywords: Any) -> None:
        exchange = _exchange_of_thread()
        if exchange is not None:
            if self.sock is None:
                self.connect()  # type: ignore[attr-defined]
            # Not only at the start of the request: the process may have been suspended since, or the handshake slow.
            exchange.check()
        super().send(*arguments, **keywords)  # type: ignore[misc]


class _Quiet:
    """A mixin for urllib3's pools of HTTPS connections. It does not warn about disabled verification for each request;
    Client logs one warning. It also creates the TLS context of each connection.
    """

    new_context: Callable[[], ssl.SSLContext]

    def _validate_conn(self, connection: Any) -> None:
        if connection.is_closed:
            self._set_context(connection)
            connection.connect()

    def _prepare_proxy(self, connection: Any) -> None:
        self._set_context(connection)
        super()._prepare_proxy(connection)  # type: ignore[misc]

    def _set_context(self, connection: Any) -> None:
        connection.ssl_context = self.new_context()
        connection.ssl_context.sslsocket_class = TLSSocket


def _pool_class(pool: type[HTTPConnectionPool], context: Callable[[], ssl.SSLContext]) -> type[HTTPConnectionPool]:
    connection = type(f"Telling{pool.ConnectionCls.__name__}", (_Telling, pool.ConnectionCls), {})
    bases = (_Quiet, pool) if pool.scheme == "https" else (pool,)
    members = {"ConnectionCls": connection, "new_context": staticmethod(context)}
    return type(f"Telling{pool.__name__}", bases, members)


def _exchange_of_thread() -> Exchange | None:
    return cast("Exchange | None", getattr(_of_thread, "exchange", None))
