"""What can go wrong between a request and its answer.

Each error of the libraries below is one row of `_ERRORS`: type, kind, text. The first row that fits any cause counts.
What no row covers is reported as "unexpected <type>". Nothing but TransportError and Stopped leaves the transport.
"""

import http.client
import re
import ssl
import zlib
from collections.abc import Iterator
from enum import StrEnum

import urllib3.exceptions

# TLS alerts with which a server refuses a client certificate (RFC 8446, 6.2), in OpenSSL's spelling.
_CERTIFICATE_ALERTS = re.compile(
    r"ALERT_(BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_REVOKED|CERTIFICATE_EXPIRED|CERTIFICATE_UNKNOWN"
    r"|UNKNOWN_CA|ACCESS_DENIED|DECRYPT_ERROR|CERTIFICATE_REQUIRED)"
)
# The beginning of what http.client raises for the answer of a proxy to CONNECT. It has no type of its own.
_TUNNEL = "Tunnel connection failed: "


class Kind(StrEnum):
    """What failed. Callers compare this, never the text."""

    REFUSED = "ConnectionRefused"
    TIMEOUT = "Timeout"
    DNS = "NameResolutionFailed"
    TLS = "TLSFailed"
    UNTRUSTED = "CertificateNotTrusted"
    CERTIFICATE_REFUSED = "CertificateRefused"
    PROXY = "ProxyFailed"
    BROKEN = "ConnectionBroken"
    TOO_LARGE = "TooLarge"
    INVALID = "InvalidAnswer"
    UNREACHABLE = "Unreachable"
    UNEXPECTED = "Unexpected"


class TransportError(Exception):
    """There was no complete answer.

    The text has the cause for people. It has no query, header or byte of the answer, which may echo a secret.
    `may_repeat`: the connection was reset or closed before the answer began, so a request without effects can be sent
    again. `is_sent`: the request had begun, so the server may have it. `status`: of an answer whose body failed, 0
    without.
    """

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.may_repeat = False
        self.is_sent = False
        self.status = 0


class Overdue(Exception):
    """The time of a request is over. `connected`: there was a connection."""

    def __init__(self, seconds: float, *, connected: bool) -> None:
        within = _rounded(seconds)
        super().__init__(f"no complete answer within {within} s" if connected else f"no connection within {within} s")


class TooLarge(Exception):
    """The answer has more bytes than allowed."""


class UnknownEncoding(Exception):
    """The answer has a Content-Encoding that was not requested."""


# From the specific to the general. {host} and {target} ("host:port") are those of the URL, {detail} is from the error.
_ERRORS: tuple[tuple[type[BaseException], Kind, str], ...] = (
    (Overdue, Kind.TIMEOUT, "{detail}"),
    (TooLarge, Kind.TOO_LARGE, "the answer is too large"),
    (UnknownEncoding, Kind.INVALID, "the answer is compressed in a way that was not asked for"),
    (ssl.SSLCertVerificationError, Kind.UNTRUSTED, "the certificate of the server is not trusted: {detail}"),
    (urllib3.exceptions.NameResolutionError, Kind.DNS, "the host name {host} cannot be resolved"),
    (ConnectionRefusedError, Kind.REFUSED, "the connection to {target} was refused"),
    (TimeoutError, Kind.TIMEOUT, "no connection within {detail} s"),  # of urllib3's connect, and of the handshake
    (ConnectionResetError, Kind.BROKEN, "the connection was reset"),
    (BrokenPipeError, Kind.BROKEN, "the connection was closed while the request was sent"),
    (urllib3.exceptions.InvalidChunkLength, Kind.INVALID, "the answer is not HTTP"),
    (http.client.IncompleteRead, Kind.BROKEN, "the answer was cut off"),  # urllib3's is one of these
    (EOFError, Kind.BROKEN, "the answer was cut off"),
    (http.client.RemoteDisconnected, Kind.BROKEN, "the connection was closed without an answer"),
    (zlib.error, Kind.INVALID, "the answer is not compressed the way it says"),
    (ssl.SSLEOFError, Kind.BROKEN, "the connection was closed without an answer"),
    (ssl.SSLError, Kind.TLS, "the TLS connection failed: {detail}"),
    (http.client.HTTPException, Kind.INVALID, "the answer is not HTTP"),
    (urllib3.exceptions.InvalidHeader, Kind.INVALID, "the answer is not HTTP"),
    (urllib3.exceptions.LocationParseError, Kind.UNEXPECTED, "the address cannot be used"),
    (urllib3.exceptions.NewConnectionError, Kind.UNREACHABLE, "{detail}"),
    (OSError, Kind.BROKEN, "{detail}"),
    (urllib3.exceptions.ProtocolError, Kind.BROKEN, "the answer was cut off"),
)


def transport_error(error: BaseException, *, host: str, port: int | None, connect_timeout: float) -> TransportError:
    """The TransportError for an error of a library. It is not chained: the libraries quote the bytes of a server."""
    causes = list(_causes(error))
    alert = next((found for cause in causes if (found := _alert(cause))), "")
    target = f"{host}:{port}" if port else host
    if alert:
        text = f"the server does not accept the client certificate (TLS alert: {alert})"
        return TransportError(Kind.CERTIFICATE_REFUSED, text)
    for cause in causes:
        if isinstance(cause, OSError) and str(cause).startswith(_TUNNEL):
            answered = "".join(c if c.isprintable() else " " for c in str(cause)[len(_TUNNEL) :][:200])
            return TransportError(Kind.PROXY, f"the proxy answered {answered}")
    for type_, kind, text in _ERRORS:
        for cause in causes:
            # With a number it is an error of the system: the peer did not acknowledge what was sent.
            if isinstance(cause, type_) and not (type_ is TimeoutError and getattr(cause, "errno", None)):
                detail = _detail(cause, causes, connect_timeout)
                return TransportError(kind, text.format(host=host, target=target, detail=detail))
    return TransportError(Kind.UNEXPECTED, f"unexpected {type(causes[-1]).__name__}")


def through_proxy(error: TransportError, proxy: str) -> TransportError:
    """The error, whose text says that the request went to this proxy."""
    return TransportError(error.kind, f"through the proxy {proxy}: {error}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it wraps, outermost first: urllib3 hides the cause in args or `reason`."""
    pending: list[BaseException] = [error]
    seen: set[int] = set()
    while pending:
        current = pending.pop(0)
        if id(current) not in seen:
            seen.add(id(current))
            yield current
            hidden = (*current.args, getattr(current, "reason", None), current.__cause__, current.__context__)
            pending.extend(item for item in hidden if isinstance(item, BaseException))


def _alert(cause: BaseException) -> str:
    found = _CERTIFICATE_ALERTS.search(cause.reason or "") if isinstance(cause, ssl.SSLError) else None
    return found[1].lower().replace("_", " ").replace(" ca", " CA") if found else ""


def _detail(cause: BaseException, causes: list[BaseException], connect_timeout: float) -> str:
    match cause:
        case Overdue():
            return str(cause)
        case urllib3.exceptions.NewConnectionError():
            system = next((inner for inner in causes if isinstance(inner, OSError) and inner.strerror), None)
            return (system.strerror if system else None) or "the connection cannot be opened"
        case TimeoutError() if not cause.errno:
            return _rounded(connect_timeout)
        case ssl.SSLCertVerificationError():
            return cause.verify_message
        case ssl.SSLError():
            # Errors of Python's own code about TLS have no reason.
            return (cause.reason or type(cause).__name__).lower().replace("_", " ")
        case OSError():
            return cause.strerror or f"unexpected {type(cause).__name__}"
    return ""


def _rounded(seconds: float) -> str:
    """What is left of a timeout has many digits, which do not help anyone."""
    return f"{max(round(seconds, 1), 0.1):g}"
