"""What stands in front of Connector and Director: who is let through, what may be down, and what is answered instead.

A request meets Envoy, Oathkeeper, the Hydrator (which asks the Director, and the Director its database, who the caller
is, and spends the one-time token on the way), the Gateway, and then the service that it is for. So a Gateway or a
Connector that is down costs the token. The answers were measured on Compass a423d60 with its own rules and filters,
behind Oathkeeper 0.40.6 and Envoy 1.40.
"""

import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from aiohttp import hdrs, web

from e2e.mock_compass.state import UnknownError

_REQUEST_ID = "<request>"


@dataclass(frozen=True)
class Reply:
    """An HTTP answer that is no GraphQL. `delay`: seconds until it comes."""

    status: int
    content_type: str | None = None
    body: str = ""
    delay: float = 0.0

    def text(self) -> str:
        """The body; where it names the request, each answer has an id of its own."""
        return self.body.replace(_REQUEST_ID, str(uuid.uuid4()))

    def response(self) -> web.Response:
        response = web.Response(status=self.status, body=self.text().encode())
        if self.content_type is not None:
            response.headers[hdrs.CONTENT_TYPE] = self.content_type
        return response


UNAUTHENTICATED = Reply(400, "application/json;charset=UTF-8")
"""The caller is unknown: no token or certificate that works, or no service that looks them up."""
NOT_FOUND = Reply(
    404,
    "application/json",
    '{"error":{"code":404,"status":"Not Found","request":"<request>",'
    '"message":"The requested resource could not be found"}}',
)
HYDRATOR_FAILED = Reply(
    500,
    "application/json",
    '{"error":{"code":500,"status":"Internal Server Error","request":"<request>",'
    '"message":"An internal server error occurred, please contact the system administrator"}}',
    delay=7.0,
)
NOT_JSON = Reply(502)
UNAVAILABLE = Reply(
    503,
    "text/plain",
    "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
)

DIRECTOR = "director"
TOKEN = "connector, with a token"  # noqa: S105 - the name of an endpoint
CERTIFICATE = "connector, with a certificate"
ELSEWHERE = "a path that is none of these"


@dataclass(frozen=True)
class Outage:
    """One row. `replies`: what an endpoint answers instead of serving; the others serve as ever.

    callers_unknown  no caller can be looked up: tokens stay unspent
    without_scopes   the Director serves everybody as a caller without any scope
    """

    replies: Mapping[str, Reply] = field(default_factory=dict)
    callers_unknown: bool = False
    without_scopes: bool = False


_NOBODY_KNOWN = {TOKEN: UNAUTHENTICATED, CERTIFICATE: UNAUTHENTICATED}
_ALL = (DIRECTOR, TOKEN, CERTIFICATE)

OUTAGES: Mapping[str, Outage] = {
    "gateway": Outage(dict.fromkeys((*_ALL, ELSEWHERE), UNAVAILABLE)),
    "oathkeeper": Outage(dict.fromkeys((*_ALL, ELSEWHERE), UNAVAILABLE), callers_unknown=True),
    "hydrator": Outage(dict.fromkeys(_ALL, HYDRATOR_FAILED), callers_unknown=True),
    "connector": Outage(dict.fromkeys((TOKEN, CERTIFICATE), UNAVAILABLE)),
    "director": Outage({DIRECTOR: UNAVAILABLE, **_NOBODY_KNOWN}, callers_unknown=True),
    "database": Outage(_NOBODY_KNOWN, callers_unknown=True, without_scopes=True),
}
"""By what is down. With several, the first row that says something for an endpoint decides."""


@dataclass(frozen=True)
class Effect:
    """What one request gets. `spends_token`: a token that works is used up all the same."""

    outage: str
    reply: Reply
    spends_token: bool


class Outages:
    """Those that are on. Any thread may call. Raises UnknownError for a name that is not in the table."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._delays: dict[str, float | None] = {}  # of the outages that are on

    def begin(self, name: str, *, delay: float | None = None) -> None:
        """`delay`: seconds until an answer comes, instead of the row's own."""
        if name not in OUTAGES:
            raise UnknownError("outage", name)
        with self._lock:
            self._delays[name] = delay

    def end(self, name: str) -> None:
        """Nothing happens when it is not on."""
        with self._lock:
            self._delays.pop(name, None)

    def clear(self) -> None:
        with self._lock:
            self._delays.clear()

    @contextmanager
    def during(self, name: str, *, delay: float | None = None) -> Iterator[None]:
        """It is on inside the block."""
        self.begin(name, delay=delay)
        try:
            yield
        finally:
            self.end(name)

    def without_scopes(self) -> bool:
        """Whether the Director serves everybody as a caller without any scope."""
        with self._lock:
            return any(OUTAGES[name].without_scopes for name in self._delays)

    def effect(self, endpoint: str) -> Effect | None:
        """What a request to DIRECTOR, TOKEN, CERTIFICATE or ELSEWHERE gets; None: it is served."""
        with self._lock:
            active = [(name, OUTAGES[name]) for name in OUTAGES if name in self._delays]
            found = next(((name, row.replies[endpoint]) for name, row in active if endpoint in row.replies), None)
            if found is None:
                return None
            name, reply = found
            delay = self._delays[name]
        if delay is not None:
            reply = replace(reply, delay=delay)
        spends_token = endpoint == TOKEN and not any(row.callers_unknown for _name, row in active)
        return Effect(name, reply, spends_token)
