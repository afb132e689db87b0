"""One HTTPS request and its whole answer, without the features that could send a token elsewhere.

* Redirects are not followed; cookies, .netrc and CA files from the environment are not used.
* Proxies are taken from the environment (HTTPS_PROXY, NO_PROXY), as in Go.
* A request ends within its timeout for any server: slow to connect, slow to answer, or sending single bytes.
* All errors of the libraries are converted to Unavailable or Refused.
"""

import contextlib
import http.client
import os
import re
import ssl
import time
import urllib.parse
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

import requests
import requests.adapters
import urllib3
import urllib3.exceptions

from controller.compass.connections import LimitedSocket, NoConnection, limited, use_interruptible_connections
from controller.compass.errors import CompassError, InvalidRequest, Refused, TooLarge, Unavailable
from controller.compass.limits import size
from informers.transport.proxies import InvalidProxy, Proxy, from_environment

#: Timeout of a connection, for each address of a host. Seconds.
CONNECT_TIMEOUT = 10.0

#: A connection that was idle for longer is not used again. Load balancers drop idle connections after a minute or more,
#: some without a packet to either side; the next request would wait for its whole timeout. Seconds.
_IDLE_LIMIT = 30.0

_CHUNK_BYTES = 64 * 1024

#: zlib's way to say: with the header of gzip.
_GZIP = 16 + zlib.MAX_WBITS

#: TLS alerts with which a server refuses a client certificate (RFC 8446, 6.2), in OpenSSL's spelling.
_CERTIFICATE_ALERTS = re.compile(
    r"ALERT_(BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_REVOKED|CERTIFICATE_EXPIRED|CERTIFICATE_UNKNOWN"
    r"|UNKNOWN_CA|ACCESS_DENIED|DECRYPT_ERROR|CERTIFICATE_REQUIRED)"
)

#: Allowed characters of a header value: visible ASCII with spaces inside. Tokens and tenants consist of these.
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Status, body (decompressed), and the headers that matter as sent ("" when absent)."""

    status: int
    body: bytes
    retry_after: str
    content_type: str = ""
    location: str = ""

    @property
    def is_outage(self) -> bool:
        """Whether the status has the same meaning for any body."""
        return _is_outage(self.status)


class HttpClient:
    """Posts over one pool of connections, all of one TLS context. May be used by several threads.

    check_stop: raises an error of its own, derived from BaseException, if the work of the calling thread has to end.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        max_bytes: int,
        monotonic: Callable[[], float] = time.monotonic,
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._check_stop = check_stop
        self._max_bytes = max_bytes
        self._monotonic = monotonic
        self._used_at = monotonic()  # the end of the last request
        context.sslsocket_class = LimitedSocket
        self._adapter = _Adapter(context)
        self._verify = context.verify_mode != ssl.CERT_NONE
        if not self._verify:
            # A warning on stderr for each connection does not help an operator; the setting leads to a warning at the
            # start.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def close(self) -> None:
        """Drop the pooled connections."""
        self._adapter.close()

    def post(
        self, url: str, body: bytes, *, headers: Mapping[str, str], timeout: float, may_be_abandoned: bool = False
    ) -> HttpAnswer:
        """Send and read; `timeout` is for both together, in seconds.

        `may_be_abandoned`: the errors of `check_stop` end the request in each phase, so its effect may be unknown.
        Otherwise they end it only until it is sent.

        Raises InvalidRequest, Unavailable, TooLarge for a body of more than `max_bytes` (decompressed), or Refused if
        the TLS of the server does not accept our certificate. An HTTP error status is an answer.
        """
        self._check_stop()
        request = _prepare(url, body, headers)
        if self._monotonic() - self._used_at > _IDLE_LIMIT:
            self._adapter.close()
        proxy = proxy_for(url)
        with _failures_told(url, timeout), limited(timeout, self._check_stop, in_answer=may_be_abandoned):
            response = self._adapter.send(
                request,
                stream=True,
                # Taken as it is since requests 2.4; its type hints do not tell.
                timeout=cast("Any", urllib3.Timeout(connect=CONNECT_TIMEOUT, read=timeout, total=timeout)),
                verify=self._verify,
                proxies=self._adapter.proxies(proxy),
            )
            # Closes a connection whose answer was not read to its end, and gives it back to the pool otherwise.
            with contextlib.closing(response):
                answered = _answer(response, self._max_bytes)
            self._used_at = self._monotonic()
            return answered


def _answer(response: requests.Response, max_bytes: int) -> HttpAnswer:
    named = response.headers.get
    return HttpAnswer(
        response.status_code,
        _read(response, max_bytes),
        named("Retry-After", ""),
        content_type=named("Content-Type", ""),
        location=named("Location", ""),
    )


def _is_outage(status: int) -> bool:
    return status >= 500 or status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


def check_url(url: str) -> None:
    """Raise InvalidRequest unless this is an https URL without user information, to which a token may be sent."""
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
        user = parts.username is not None or parts.password is not None
    except ValueError:
        usable = user = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidRequest("the address is not an https URL")
    if user:
        raise InvalidRequest("the address must not hold a user name or a password")


def proxy_for(url: str) -> Proxy | None:
    """The proxy of the environment; None for a direct connection. Raises InvalidRequest."""
    try:
        return from_environment(url, os.environ)
    except InvalidProxy as error:
        raise InvalidRequest(str(error)) from error


class _Adapter(requests.adapters.HTTPAdapter):
    """Sends with one SSLContext. Used without a requests.Session, because a session has cookies, redirects and
    .netrc.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._authorizations: dict[str, str | None] = {}
        super().__init__()

    def proxies(self, proxy: Proxy | None) -> dict[str, str]:
        """The argument `proxies` of send()."""
        if proxy is None:
            return {}
        self._authorizations[proxy.url] = proxy.authorization
        return {"https": proxy.url}

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        authorization = self._authorizations.get(proxy)
        return {"Proxy-Authorization": authorization} if authorization else {}

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)
        use_interruptible_connections(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        return use_interruptible_connections(super().proxy_manager_for(*args, **kwargs, ssl_context=self._context))

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Do nothing: the base class would add the roots of certifi to the context."""


def _prepare(url: str, body: bytes, headers: Mapping[str, str]) -> requests.PreparedRequest:
    check_url(url)
    for name, value in headers.items():
        if not _HEADER_VALUE.fullmatch(value):
            raise InvalidRequest(f"the value for the header {name} is empty or not plain ASCII text")
    try:
        return requests.Request("POST", url, data=body, headers=dict(headers)).prepare()
    except (requests.RequestException, UnicodeError):
        # Not chained: the text of requests may quote the value.
        raise InvalidRequest("the address is not an https URL") from None


def _read(response: requests.Response, max_bytes: int) -> bytes:
    """The body, decompressed. The memory is limited at all times."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip"):
        raise Unavailable("the answer is compressed in a way that was not asked for")
    unzip = zlib.decompressobj(_GZIP) if encoding == "gzip" else None
    body = bytearray()
    for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=False):
        # A kilobyte may become a megabyte: only the allowed number of bytes and one more are decompressed.
        body += chunk if unzip is None else unzip.decompress(chunk, max_bytes + 1 - len(body))
        if len(body) > max_bytes:
            if _is_outage(response.status_code):
                return b""
            raise TooLarge(f"the answer is larger than {size(max_bytes)}", single=True)
    if unzip is not None and body and not unzip.eof:
        raise Unavailable("the answer was cut off")
    return bytes(body)


@contextlib.contextmanager
def _failures_told(url: str, timeout: float) -> Iterator[None]:
    """Convert errors of the libraries to our own.

    They are not chained: http.client and urllib3 quote the bytes of a server, which may include an echoed token, and a
    traceback would print them.
    """
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, UnicodeError, zlib.error) as error:
        failure = _failure(error, url, timeout)
    else:
        return
    raise failure from None


def _failure(error: BaseException, url: str, timeout: float) -> CompassError:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Unavailable(f"the certificate of the server is not trusted: {cause.verify_message}")
        if isinstance(cause, ssl.SSLError) and (alert := _CERTIFICATE_ALERTS.search(cause.reason or "")):
            name = alert[1].lower().replace("_", " ").replace(" ca", " CA")
            return Refused(f"the server does not accept the client certificate (TLS alert: {name})")
    host = urllib.parse.urlsplit(url).hostname
    if any(isinstance(cause, urllib3.exceptions.ProxyError) for cause in causes):
        host = "of the proxy named in the environment"
    too_slow = f"no complete answer within {timeout:g} s"
    no_connection = f"no connection within {min(CONNECT_TIMEOUT, timeout):g} s"
    if any(isinstance(cause, NoConnection) for cause in causes):
        return Unavailable(f"no connection within {timeout:g} s")
    # From the specific to the general.
    kinds: tuple[tuple[type[BaseException], str], ...] = (
        (urllib3.exceptions.NameResolutionError, f"the host name {host} cannot be resolved"),
        (urllib3.exceptions.ProxyError, "the proxy named in the environment cannot be used"),
        (ConnectionRefusedError, "the connection was refused"),
        (requests.exceptions.ConnectTimeout, no_connection),
        (TimeoutError, too_slow),
        (urllib3.exceptions.TimeoutError, too_slow),
        (ConnectionResetError, "the connection was reset"),
        (http.client.IncompleteRead, "the answer was cut off"),  # urllib3's is one of these
        (zlib.error, "the answer is not compressed the way it says"),
        (ssl.SSLError, "the TLS connection failed"),
    )
    for kind, message in kinds:
        if any(isinstance(cause, kind) for cause in causes):
            return Unavailable(message, timed_out=message == too_slow)
    return Unavailable(f"no usable HTTP answer ({type(causes[-1]).__name__})")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it wraps, outermost first: requests and urllib3 hide the cause in args or `reason`."""
    pending: list[BaseException] = [error]
    seen: set[int] = set()
    while pending:
        current = pending.pop(0)
        if id(current) not in seen:
            seen.add(id(current))
            yield current
            hidden = (*current.args, getattr(current, "reason", None), current.__cause__, current.__context__)
            pending.extend(item for item in hidden if isinstance(item, BaseException))
