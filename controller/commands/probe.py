"""One request to a server of Compass in separate steps, to report which step fails: name, connection, TLS, answer.

It uses the same proxy, root certificates and client certificate as the agent. It contains no token, and queries only
the name of a type, which every GraphQL server supports. Each HTTP status is an answer.
"""

import http.client
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from urllib.parse import urlsplit

from controller.compass.errors import InvalidRequest
from controller.compass.http import proxy_for

_HTTPS = 443
_QUERY = b'{"query": "{ __typename }"}'
_HEADERS = {"Content-Type": "application/json", "User-Agent": "compass-runtime-agent/doctor"}


class Step(StrEnum):
    """The step that failed."""

    NAME = "name"
    CONNECTION = "connection"
    TRUST = "trust"
    TLS = "TLS"
    ANSWER = "answer"


@dataclass(frozen=True)
class Probe:
    """The result. `failed` is None after an answer.

    `via`: host of the proxy, "" without one. `date`: the time of the server, None if it is not in the answer.
    `received`: the time of this machine at that moment. Both are in epoch seconds.
    """

    party: str
    url: str
    failed: Step | None = None
    text: str = ""
    via: str = ""
    status: int = 0
    date: float | None = None
    received: float = 0.0


def probe(party: str, url: str, context: ssl.SSLContext, *, timeout: float, now: Callable[[], float]) -> Probe:
    """Send one request. `timeout`: seconds for each step except the name. `now`: the wall clock."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _HTTPS
        proxy = proxy_for(url)
    except InvalidRequest as error:
        return Probe(party, url, failed=Step.CONNECTION, text=str(error))
    except ValueError:
        return Probe(party, url, failed=Step.NAME, text="the URL is invalid")
    via, first = "", (host, port)
    if proxy:
        at = urlsplit(proxy.url)
        via = at.hostname or ""
        first = (via, at.port or _HTTPS)

    def failed(step: Step, text: str) -> Probe:
        return Probe(party, url, failed=step, text=text, via=via)

    try:
        socket.getaddrinfo(*first, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return failed(Step.NAME, f"the host name {first[0]} cannot be resolved ({_cause(error)})")
    connection = http.client.HTTPSConnection(*first, timeout=timeout, context=context)
    if via:
        authorization = {"Proxy-Authorization": proxy.authorization} if proxy and proxy.authorization else {}
        connection.set_tunnel(host, port, headers=authorization)
    try:
        connection.connect()
    except ssl.SSLCertVerificationError as error:
        return failed(Step.TRUST, f"the certificate of the server is not trusted: {error.verify_message}")
    except ssl.SSLError as error:
        return failed(Step.TLS, f"the TLS connection failed: {error.reason or _cause(error)}")
    except (OSError, http.client.HTTPException) as error:
        return failed(Step.CONNECTION, f"no connection to {first[0]} port {first[1]}: {_cause(error)}")
    try:
        connection.request("POST", parts.path or "/", body=_QUERY, headers=_HEADERS)
        answer = connection.getresponse()
        date, received = answer.getheader("Date"), now()
    except ssl.SSLError as error:  # in TLS 1.3, an alert about the client certificate arrives here
        return failed(Step.TLS, f"the server ended the TLS connection: {error.reason or _cause(error)}")
    except (OSError, http.client.HTTPException) as error:
        return failed(Step.ANSWER, f"no answer: {_cause(error)}")
    finally:
        connection.close()
    return Probe(party, url, via=via, status=answer.status, date=_epoch(date), received=received)


def _epoch(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None


def _cause(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or str(error) or type(error).__name__)
