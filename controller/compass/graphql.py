"""GraphQL over HTTPS: one operation leads to one checked answer or to one CompassError.

* A transport belongs to one TLS context, and so to one certificate: its pooled connections end with it (`close`).
* There are no retries here; the reconcilers retry with back-off.
* A message from outside is redacted, escaped and shortened before it is part of an error or a log.
"""

import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import orjson

from controller.compass.answers import Answer, interpret
from controller.compass.errors import (
    CompassError,
    GraphQLError,
    InvalidAnswer,
    InvalidRequest,
    Refused,
    TooLarge,
    Unavailable,
    UnexpectedAnswer,
)
from controller.compass.http import HttpAnswer, HttpClient
from controller.compass.limits import Limits
from controller.compass.queries import Operation
from controller.text import clean
from informers.transport import Stop

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Timeout of a whole call, from the connection to the last byte, in seconds. The same as in the Go agent.
TOTAL_TIMEOUT = 30.0

_HEADERS = {
    "Content-Type": "application/json; charset=utf-8",
    "Accept": "application/json; charset=utf-8",
    "Accept-Encoding": "gzip",
    "User-Agent": "compass-runtime-agent",
}

#: Headers of a call whose values are no secrets.
_SHOWN_HEADERS = frozenset({"Tenant"})

#: Variables whose values are ids. Others are not logged.
_ID_VARIABLES = ("runtime", "application", "bundle")
_MAX_ID = 64

#: Errors of one call in the log.
_MAX_LOGGED_ERRORS = 20

#: Called after each call with the operation's name, its outcome and its duration in seconds. The outcome is "success"
#: or the kind of failure in snake case ("unavailable", "refused", "invalid_answer", "graphql_error", ...).
Observe = Callable[[str, str, float], None]

_OUTCOMES: Mapping[type[CompassError], str] = {
    InvalidRequest: "invalid_request",
    Unavailable: "unavailable",
    Refused: "refused",
    UnexpectedAnswer: "unexpected_answer",
    TooLarge: "too_large",
    InvalidAnswer: "invalid_answer",
    GraphQLError: "graphql_error",
}


class Transport:
    """Sends operations over one pool of connections. May be used by several threads.

    With `log_queries`, a call that fails is logged: operation, ids, status, size, duration and errors, and never a body
    or a header. No answer has more than `answer_bytes`. `stop` ends the calls.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        answer_bytes: int = Limits().answer_bytes,
        log_queries: bool = False,
        observe: Observe | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        stop: Stop | None = None,
    ) -> None:
        self._http = HttpClient(context, max_bytes=answer_bytes, stop=stop or Stop(), monotonic=monotonic)
        self._log_queries = log_queries
        self._observe = observe
        self._monotonic = monotonic

    def close(self) -> None:
        """Close all pooled connections, and with them the TLS sessions of the old certificate."""
        self._http.close()

    def execute(
        self,
        url: str,
        operation: Operation[T],
        variables: Mapping[str, Any],
        *,
        headers: Mapping[str, str],
        request_id: str,
        timeout: float = TOTAL_TIMEOUT,
        may_be_abandoned: bool = False,
    ) -> Answer[T]:
        """Call one operation; `timeout` is for the whole call, in seconds. `may_be_abandoned`: the call may be
        repeated, so its answer may be lost.

        Raises InvalidRequest, Unavailable, Refused, UnexpectedAnswer, TooLarge or InvalidAnswer. GraphQL errors are in
        the answer, as they may stand beside usable data.
        """
        http: HttpAnswer | None = None
        secrets = frozenset(value for name, value in headers.items() if name not in _SHOWN_HEADERS)
        started = self._monotonic()

        def note(outcome: str, errors: Sequence[str] = ()) -> None:
            seconds = self._monotonic() - started
            if self._observe is not None:
                self._observe(operation.name, outcome, seconds)
            facts = {"operation": operation.name, "outcome": outcome, "seconds": round(seconds, 3)}
            facts |= {"requestID": request_id}
            log.debug("Called Compass", extra=facts)
            if self._log_queries and errors:
                log.info("Call to Compass failed", extra=facts | _record(variables, http, errors))

        try:
            http = self._http.post(
                url,
                orjson.dumps({"query": operation.text, "variables": dict(variables)}),
                headers={**headers, "x-request-id": request_id, **_HEADERS},
                timeout=timeout,
                may_be_abandoned=may_be_abandoned,
            )
            answer = interpret(http, operation=operation, url=url, secrets=secrets)
        except CompassError as error:
            note(_OUTCOMES[type(error)], [str(error)])
            raise
        errors = [entry.description for entry in answer.errors]
        note(_OUTCOMES[type(answer.error())] if errors else "success", errors)
        return answer


def _record(variables: Mapping[str, Any], http: HttpAnswer | None, errors: Sequence[str]) -> dict[str, Any]:
    """A failed call for the log: only ids, numbers, and errors without secrets."""
    more = len(errors) - _MAX_LOGGED_ERRORS
    return {
        "variables": {name: clean(str(variables[name]), _MAX_ID) for name in _ID_VARIABLES if name in variables},
        "status": http.status if http is not None else 0,
        "bytes": len(http.body) if http is not None else 0,
        "errors": [*errors[:_MAX_LOGGED_ERRORS], *([f"and {more} more"] if more > 0 else [])],
    }
