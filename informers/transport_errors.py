"""Converts answers without success, and errors of urllib3, to ApiError.

The texts are for operators. They contain host and cause, and never the query of a URL, a header, or a body of unknown
origin.
"""

import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from informers.encoding import decode
from informers.errors import ApiError, ConnectionFailed, error_from_status

_MAX_FOREIGN_TEXT = 200


def error_of(response: urllib3.BaseHTTPResponse) -> ApiError:
    """The error for an answer with a status other than 2xx, whose body has been read."""
    try:
        status = decode(response.data or b"")
    except ValueError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        status = {"message": _foreign_text(response)}
    elif response.status == 404 and not _names_object(status):
        status = status | {"message": f"{status.get('message')}: {_path(response)}"}
    return error_from_status(status, code=response.status, retry_after=_retry_after(response))


def seconds_to_wait(response: urllib3.BaseHTTPResponse) -> float | None:
    """The seconds after which the server asks to retry the same request; None if it does not.

    As in client-go (rest/with_retry.go): 429 or 5xx, with a header in whole seconds. `details.retryAfterSeconds` of a
    Status is for the caller, not for the transport.
    """
    return _retry_after(response) if response.status == 429 or response.status >= 500 else None


def _retry_after(response: urllib3.BaseHTTPResponse) -> float | None:
    header = response.headers.get("Retry-After", "")
    return float(header) if header.isascii() and header.isdigit() else None


def _foreign_text(response: urllib3.BaseHTTPResponse) -> str:
    """The text of a proxy, or of a handler outside the API machinery, shortened to one line. HTML is left out."""
    if response.status == 404:
        return f"the server does not know the path {_path(response)}: is the resource's CRD installed?"
    said = ""
    if response.headers.get("Content-Type", "").startswith("text/plain"):
        text = (response.data or b"")[:_MAX_FOREIGN_TEXT].decode(errors="replace")
        said = "".join(c if c.isprintable() else " " for c in text).strip()
    return f"the server answered with status {response.status}" + (f": {said}" if said else "")


def _names_object(status: Mapping[str, Any]) -> bool:
    details = status.get("details")
    return isinstance(details, dict) and bool(details.get("name"))


def _path(response: urllib3.BaseHTTPResponse) -> str:
    return urlsplit(response.geturl() or "").path


def unexpected(response: urllib3.BaseHTTPResponse, message: str) -> ApiError:
    """The error for a successful answer with an invalid content."""
    return ApiError(message, status=response.status, reason="UnexpectedServerResponse")


def connection_failed(error: Exception, host: str, *, connect_timeout: float, read_timeout: float) -> ConnectionFailed:
    """The error for one of urllib3, which the caller chains. The text has the cause. Timeouts are in seconds."""
    if isinstance(error, ProxyError):
        inner = connection_failed(
            error.original_error, host, connect_timeout=connect_timeout, read_timeout=read_timeout
        )
        return ConnectionFailed(f"through the proxy: {inner.message}", reason=inner.reason)
    system = _system_error(error)
    match error:
        case NameResolutionError():
            return _failed(host, "its name cannot be resolved", ConnectionFailed.DNS)
        case NewConnectionError() if isinstance(system, ConnectionRefusedError):
            return _failed(host, "connection refused", ConnectionFailed.REFUSED)
        case ConnectTimeoutError() if not isinstance(error, NewConnectionError):  # which urllib3 derives from it
            return overdue(host, connect_timeout, connected=False)
        case ReadTimeoutError() | TimeoutError():
            return overdue(host, read_timeout, connected=True)
        case SSLError() | ssl.SSLError():
            return _failed(host, f"TLS failed: {_tls_cause(error)}", ConnectionFailed.TLS)
        case ProtocolError() if isinstance(system, TimeoutError):
            # It was sending: urllib3 uses the timeout of the connect for that.
            return overdue(host, connect_timeout, connected=True)
        case ProtocolError():
            cause = system.strerror if system and system.strerror else "closed before the answer was complete"
            return _failed(host, f"the connection broke: {cause}", ConnectionFailed.BROKEN)
    cause = system.strerror if system and system.strerror else type(error).__name__
    return _failed(host, cause, ConnectionFailed.UNREACHABLE)


def overdue(host: str, timeout: float, *, connected: bool) -> ConnectionFailed:
    """The error for a request, or one of its waits, that was longer than `timeout` seconds."""
    missing = "answer" if connected else "connection"
    return _failed(host, f"no {missing} within {max(round(timeout, 1), 0.1):g} s", ConnectionFailed.TIMEOUT)


def _failed(host: str, cause: str, reason: str) -> ConnectionFailed:
    return ConnectionFailed(f"cannot reach the API server at {host}: {cause}", reason=reason)


def _system_error(error: BaseException) -> OSError | None:
    """The error of the operating system that caused an error of urllib3."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            return seen
        inner = [argument for argument in seen.args if isinstance(argument, OSError)]
        if inner:
            return inner[0]
        seen = seen.__cause__
    return None


def _tls_cause(error: BaseException) -> str:
    root = _system_error(error)
    if isinstance(root, ssl.SSLCertVerificationError):
        return root.verify_message
    if isinstance(root, ssl.SSLError):
        # Errors of Python's own code about TLS have no reason.
        return (getattr(root, "reason", None) or type(root).__name__).lower().replace("_", " ")
    return type(root or error).__name__
