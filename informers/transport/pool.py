"""Requests and whole answers, or streams, over pooled connections to any number of servers.

- A request runs in the thread of its caller, and ends within its timeout for any server: slow to resolve, to connect,
  to answer, or sending single bytes. A stop ends it at once.
- Redirects are not followed. Cookies, .netrc and CA files of the environment are not used.
- Bodies are limited, and decompressed with bounded memory.
- All errors of the libraries become a TransportError.
"""

import contextlib
import socket
import ssl
import threading
import time
import urllib.parse
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import urllib3
import urllib3.exceptions

from informers.transport.connections import POOLS, Call, TLSSocket
from informers.transport.errors import (
    Kind,
    TooLarge,
    TransportError,
    UnknownEncoding,
    through_proxy,
    transport_error,
)
from informers.transport.proxies import Proxy
from informers.transport.stop import Stop

# For each address of a host. The system repeats the first packet of a connection after 1, 3, 7, 15 and 31 s. With the
# 30 s of client-go's dialer, a connect that began in an outage of the network could take 16 s more after its end. 10 s
# is its limit for TLS.
CONNECT_TIMEOUT = 10.0
# client-go transport/cache.go: the number of idle connections per host.
POOL_SIZE = 25
# A peer that is gone is detected within 30 + 3 * 5 s, the 45 s of client-go's HTTP/2 pings. The user timeout is the
# same limit for sent bytes without an acknowledgement.
_KEEPALIVE_IDLE, _KEEPALIVE_INTERVAL, _KEEPALIVE_COUNT = 30, 5, 3
_USER_TIMEOUT_MS = 45_000

_CHUNK_BYTES = 64 * 1024
# zlib's way to say: with the header of gzip.
_GZIP = 16 + zlib.MAX_WBITS
# What says nothing about other connections.
_OF_ONE_ANSWER = (Kind.TOO_LARGE, Kind.INVALID)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. The body is decompressed. The names of headers are compared without case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Stream:
    """The body of an answer that is read while the server sends it. Used by one thread; only the stop is for others."""

    def __init__(self, response: urllib3.BaseHTTPResponse, call: Call, convert: Callable[[Exception], TransportError]):
        self._response = response
        self._call = call
        self._convert = convert
        self._is_open = True

    def read(self, size: int) -> bytes:
        """At least one byte and at most `size`; b"" at the end. Raises TransportError, Stopped."""
        try:
            return self._response.read1(size, decode_content=False)
        except Exception as error:  # noqa: BLE001 - whatever a library raises for the bytes of a server
            raise self._convert(error) from None

    def close(self) -> None:
        """Release the connection, which is closed unless the body was read to its end. Idempotent."""
        if self._is_open:
            self._is_open = False
            self._response.close()
            self._response.release_conn()
            self._call.end()


class Pool:
    """Thread-safe.

    proxy_for: the proxy for a URL, None for a direct connection; its errors are those of a request. A forked child may
    use the pool.
    """

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        *,
        proxy_for: Callable[[str], Proxy | None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._proxy_for = proxy_for
        self._monotonic = monotonic
        self._lock = threading.Lock()
        # All below are guarded by _lock.
        self._context: ssl.SSLContext | None = None
        self._server_name: str | None = None
        self._managers: dict[Proxy | None, urllib3.PoolManager] = {}
        if context is not None:
            self.use(context)

    def use(self, context: ssl.SSLContext, *, server_name: str | None = None) -> None:
        """Use this TLS context from now on. Older connections end with their current request.

        server_name: the name that the certificate of the server has to be for, instead of the host of the URL.
        """
        context.sslsocket_class = TLSSocket
        with self._lock:
            self._context, self._server_name = context, server_name
            self._managers = {}

    def close(self) -> None:
        """Close all idle connections; the others are closed at the end of their request."""
        with self._lock:
            self._managers = {}

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        stop: Stop,
        timeout: float,
        finish: bool = False,
        max_bytes: int | None = None,
    ) -> Response:
        """Send, and read the whole answer; `timeout` is for both together, in seconds. Any status is an answer.

        A GET is repeated at once if an idle connection breaks before the answer, as in Go's net/http.

        finish: the stop ends the request only until it begins, because its effect has to be known. max_bytes: of the
        decompressed body. Raises TransportError, Stopped, and the errors of `proxy_for`.
        """

        def attempt(call: Call) -> Response:
            with call, self._sending(method, url, call, headers=headers, body=body) as response:
                return Response(response.status, response.headers, _read(response, max_bytes))

        return self._repeated(attempt, stop, timeout=timeout, finish=finish, may_repeat=method == "GET")

    def open(
        self, url: str, *, headers: Mapping[str, str], stop: Stop, timeout: float, read_timeout: float
    ) -> Stream | Response:
        """The stream of a GET, whose answer has to begin within `timeout` seconds. Each single wait after the connect
        may take up to `read_timeout` seconds. The whole answer if its status is not 2xx. Close the stream.

        Raises like send().
        """

        def attempt(call: Call) -> Stream | Response:
            with call:
                with self._sending("GET", url, call, headers=headers, close=False) as response:
                    if not 200 <= response.status < 300:
                        with contextlib.closing(response):
                            return Response(response.status, response.headers, _read(response, None))
                call.stream()
                return Stream(response, call, lambda error: self._error(error, url, call))

        return self._repeated(attempt, stop, timeout=timeout, read_timeout=read_timeout, may_repeat=True)

    def _repeated(
        self,
        attempt: Callable[[Call], T],
        stop: Stop,
        *,
        timeout: float,
        may_repeat: bool,
        finish: bool = False,
        read_timeout: float | None = None,
    ) -> T:
        """The result of an attempt. Another one follows at once if the idle connection of the last one was broken."""
        at = self._monotonic() + timeout
        while True:
            call = Call(
                stop, at=at, timeout=timeout, finish=finish, read_timeout=read_timeout, monotonic=self._monotonic
            )
            try:
                return attempt(call)
            except TransportError as error:
                if not may_repeat or call.is_new or not error.may_repeat:
                    raise

    @contextlib.contextmanager
    def _sending(
        self,
        method: str,
        url: str,
        call: Call,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        close: bool = True,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """The answer to a request of `call`, with its body unread. Errors of the block become a TransportError."""
        manager = self._manager(self._proxy_for(url))
        try:
            response = manager.urlopen(
                method,
                url,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(connect=min(CONNECT_TIMEOUT, call.timeout), read=None),
                # urllib3 knows neither the stop nor what may be repeated.
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            # Closes a connection whose answer was not read to its end, and gives it back to the pool otherwise.
            with contextlib.closing(response) if close else contextlib.nullcontext():
                yield response
        except Exception as error:  # noqa: BLE001 - whatever a library raises for the bytes of a server
            failure = self._error(error, url, call)
            if not call.is_new and failure.kind not in _OF_ONE_ANSWER:
                # The cause, for example a lost route, has most likely broken all idle connections.
                self.close()
            raise failure from None

    def _error(self, error: Exception, url: str, call: Call) -> TransportError:
        proxy = self._proxy_for(url)
        # urllib3 says so only for what happens before there is a connection to the proxy.
        at = proxy.url if proxy is not None and isinstance(error, urllib3.exceptions.ProxyError) else url
        parts = urllib.parse.urlsplit(at)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        connect_timeout = min(CONNECT_TIMEOUT, call.timeout)
        found = transport_error(error, host=parts.hostname or "", port=port, connect_timeout=connect_timeout)
        if proxy is not None:
            found = through_proxy(found, proxy.url)
        found.may_repeat = found.kind is Kind.BROKEN and not call.status
        found.is_sent = call.is_sent
        found.status = call.status
        return found

    def _manager(self, proxy: Proxy | None) -> urllib3.PoolManager:
        with self._lock:
            manager = self._managers.get(proxy)
            if manager is None:
                manager = self._managers[proxy] = self._new_manager(proxy)
            return manager

    def _new_manager(self, proxy: Proxy | None) -> urllib3.PoolManager:
        settings: dict[str, Any] = {
            "maxsize": POOL_SIZE,
            "ssl_context": self._context,
            "server_hostname": self._server_name,
            "socket_options": _socket_options(),
        }
        if proxy is None:
            manager = urllib3.PoolManager(**settings)
        else:
            authorization = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
            manager = urllib3.ProxyManager(
                proxy.url, proxy_headers=authorization, proxy_ssl_context=self._context, **settings
            )
        manager.pool_classes_by_scheme = POOLS
        return manager


def _read(response: urllib3.BaseHTTPResponse, max_bytes: int | None) -> bytes:
    """The body, decompressed. The memory is limited at all times."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise UnknownEncoding
    body = bytearray()
    # Closed at once: at its end, urllib3 gives the connection back to the pool. Later, it would hide one that is idle.
    stream = cast("Generator[bytes, None, None]", response.stream(_CHUNK_BYTES, decode_content=False))
    with contextlib.closing(stream) as chunks:
        for chunk in _decompressed(chunks) if encoding.endswith("gzip") else chunks:
            body += chunk
            if max_bytes is not None and len(body) > max_bytes:
                raise TooLarge
    return bytes(body)


def _decompressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The members of a gzip file, which may be more than one (RFC 1952, 2.2). A kilobyte may become a megabyte, so each
    step has a limit.
    """
    unzip = zlib.decompressobj(_GZIP)
    is_open = False
    for chunk in chunks:
        rest = chunk
        while rest:
            if unzip.eof:
                unzip = zlib.decompressobj(_GZIP)
            yield unzip.decompress(rest, _CHUNK_BYTES)
            rest = unzip.unconsumed_tail or unzip.unused_data
        is_open = not unzip.eof
    if is_open:
        raise EOFError


def _socket_options() -> list[tuple[int, int, int]]:
    options: list[tuple[int, int, int]] = [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    ]
    # A platform may lack some of these; then the longer defaults of the system apply.
    for name, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", _KEEPALIVE_COUNT),
        ("TCP_USER_TIMEOUT", _USER_TIMEOUT_MS),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            options.append((socket.IPPROTO_TCP, option, value))
    return options
