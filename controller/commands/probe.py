"""One request to a server of Compass, to report which step fails: name, connection, TLS, answer.

It uses the same transport, proxy, root certificates and client certificate as the agent. It contains no token, and
queries only the name of a type, which every GraphQL server supports. Each HTTP status is an answer.
"""

import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from urllib.parse import urlsplit

from controller.compass.errors import InvalidRequest
from controller.compass.http import proxy_for
from controller.validation import fault_of_url
from informers.transport import Kind, Pool, Stop, TransportError

_QUERY = b'{"query": "{ __typename }"}'
_HEADERS = {"Content-Type": "application/json", "User-Agent": "compass-runtime-agent/doctor"}
_MAX_BYTES = 1 << 20


class Step(StrEnum):
    """The step that failed."""

    NAME = "name"
    CONNECTION = "connection"
    TRUST = "trust"
    TLS = "TLS"
    ANSWER = "answer"


# Other kinds of failure are of the step that the request had reached.
_STEPS = {
    Kind.DNS: Step.NAME,
    Kind.UNTRUSTED: Step.TRUST,
    Kind.TLS: Step.TLS,
    Kind.CERTIFICATE_REFUSED: Step.TLS,
}


@dataclass(frozen=True)
class Probe:
    """The result. `failed` is None after an answer; otherwise `text` says what failed, and names the proxy.

    `via`: host of the proxy that the answer came through, "" without one. `date`: the time of the server, None if it is
    not in the answer. `received`: the time of this machine at that moment. Both are in epoch seconds.
    """

    server: str
    url: str
    failed: Step | None = None
    text: str = ""
    via: str = ""
    status: int = 0
    date: float | None = None
    received: float = 0.0


def probe(server: str, url: str, context: ssl.SSLContext, *, timeout: float, now: Callable[[], float]) -> Probe:
    """Send one request, which has `timeout` seconds. `now`: the wall clock."""
    if fault := fault_of_url(url):
        return Probe(server, url, failed=Step.NAME, text=f"the address {fault}")
    try:
        proxy = proxy_for(url)
    except InvalidRequest as error:
        return Probe(server, url, failed=Step.CONNECTION, text=str(error))
    with contextlib.closing(Pool(context, proxy_for=lambda _: proxy)) as pool:
        try:
            answer = pool.send(
                "POST", url, headers=_HEADERS, body=_QUERY, stop=Stop(), timeout=timeout, max_bytes=_MAX_BYTES
            )
        except TransportError as error:
            step = _STEPS.get(error.kind) or (Step.ANSWER if error.is_sent else Step.CONNECTION)
            return Probe(server, url, failed=step, text=str(error))
    via = (urlsplit(proxy.url).hostname or "") if proxy else ""
    return Probe(server, url, via=via, status=answer.status, date=_epoch(answer.headers.get("Date")), received=now())


def _epoch(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None
