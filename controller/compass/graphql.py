"""GraphQL over HTTPS: one operation in, one checked answer or one CompassError out.

* A transport belongs to one TLS context, hence to one certificate: its pooled connections end with it (`close`).
* Nothing is retried here; the reconcilers do that, with back-off.
* Texts of others are redacted, stripped and cut before they enter an error or a log.
"""

import logging
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import orjson

from controller.compass.errors import CompassError, GraphQLError, InvalidAnswer, InvalidRequest, Refused, Unavailable
from controller.compass.http import HttpAnswer, HttpClient
from controller.compass.queries import Operation
from controller.compass.redaction import Redactor, masked, secrets_within

log = logging.getLogger(__name__)

#: A whole call, from the connection to the last byte, in seconds. What the Go agent allows as well.
TOTAL_TIMEOUT = 30.0

#: The Director's codes for a caller without rights: "insufficient scopes" is what it says to a certificate that it
#: cannot map to a Runtime. 24 and 25 are a tenant that is missing or unknown, which a new configuration mends, too.
_REFUSING_CODES = frozenset({23, 24, 25, 26})
_REFUSING_TEXT = "insufficient scopes"

#: Enough of an answer to see what was wrong with it; an answer of a thousand applications would bury the log.
_MAX_LOGGED_ANSWER = 10_000

#: Seconds that a server may ask for; longer ones are not believed.
_MAX_RETRY_AFTER_DIGITS = 5

#: Called after each call with the operation's name, its outcome and its duration in seconds. The outcome is "success"
#: or the kind of failure in snake case ("unavailable", "refused", "invalid_answer", "graphql_error", ...).
Observe = Callable[[str, str, float], None]

_NAME = re.compile(r"\w+")

_OUTCOMES: Mapping[type[CompassError], str] = {
    InvalidRequest: "invalid_request",
    Unavailable: "unavailable",
    Refused: "refused",
    InvalidAnswer: "invalid_answer",
    GraphQLError: "graphql_error",
}


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """One entry of an answer's `errors`. `path` is as sent: field names and list positions."""

    message: str
    path: tuple[str | int, ...]
    code: int | None

    @property
    def refuses(self) -> bool:
        """Whether it says that our certificate or token does not give us the right."""
        return self.code in _REFUSING_CODES or _REFUSING_TEXT in self.message.lower()


@dataclass(frozen=True, slots=True)
class Answer:
    """A GraphQL answer: `data`, and whatever errors stand beside it. With both, it is a partial result."""

    data: dict[str, Any] | None = field(repr=False)
    errors: tuple[ErrorEntry, ...]
    request_id: str

    def whole(self) -> dict[str, Any]:
        """The data of an answer without errors. Raises Refused, GraphQLError or InvalidAnswer otherwise."""
        if self.errors:
            raise self.error()
        if self.data is None:
            raise InvalidAnswer("is null, without an error", path="data", request_id=self.request_id)
        return self.data

    def error(self) -> CompassError:
        """The error that tells most: one that refuses us, or else the first."""
        entry = next((entry for entry in self.errors if entry.refuses), self.errors[0])
        if entry.refuses:
            return Refused(
                f"graphql: {entry.message}", status=HTTPStatus.OK, code=entry.code, request_id=self.request_id
            )
        path = ".".join(map(str, entry.path))
        return GraphQLError(entry.message, code=entry.code, path=path, request_id=self.request_id)


class Transport:
    """Sends operations over one pool of connections. May be used by several threads.

    With `log_queries`, a call that fails logs operation, variables, headers and answer, secrets masked.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        log_queries: bool = False,
        observe: Observe | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = HttpClient(context)
        self._log_queries = log_queries
        self._observe = observe
        self._monotonic = monotonic

    def close(self) -> None:
        """Drop all pooled connections, and with them the sessions that the old certificate opened."""
        self._http.close()

    def execute(
        self,
        url: str,
        operation: Operation,
        variables: Mapping[str, Any],
        *,
        headers: Mapping[str, str],
        request_id: str,
        timeout: float = TOTAL_TIMEOUT,
    ) -> Answer:
        """Call one operation; `timeout` is for the whole call, in seconds.

        Raises InvalidRequest, Unavailable, Refused or InvalidAnswer. GraphQL errors are in the answer, as they may
        stand beside usable data.
        """
        call = _Call(operation, variables, headers, request_id)
        started = self._monotonic()
        outcome = "failure"
        try:
            answer = call.interpret(self._http.post(url, call.body(), headers=call.all_headers(), timeout=timeout))
            outcome = _OUTCOMES[type(answer.error())] if answer.errors else "success"
        except CompassError as error:
            error.request_id = request_id
            outcome = _OUTCOMES[type(error)]
            raise
        finally:
            if self._observe is not None:
                self._observe(operation.name, outcome, self._monotonic() - started)
            if self._log_queries and outcome != "success":
                log.info("Compass call failed", extra=call.record(outcome))
        return answer


class _Call:
    """One call: what is sent, and what its answer means."""

    def __init__(
        self, operation: Operation, variables: Mapping[str, Any], headers: Mapping[str, str], request_id: str
    ) -> None:
        self._operation = operation
        self._variables = dict(variables)
        self._headers = dict(headers)
        self._request_id = request_id
        self._secrets = secrets_within(self._headers)
        self._document: Any = None
        self._told = ""

    def body(self) -> bytes:
        return orjson.dumps({"query": self._operation.text, "variables": self._variables})

    def all_headers(self) -> dict[str, str]:
        return {
            **self._headers,
            "x-request-id": self._request_id,
            "Content-Type": "application/json; charset=utf-8",
            "Accept": "application/json; charset=utf-8",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": "compass-runtime-agent",
        }

    def record(self, outcome: str) -> dict[str, str]:
        """The call for the log. No text of it holds a secret."""
        redactor = Redactor(self._secrets | secrets_within(self._document))
        return {
            "operation": self._operation.name,
            "outcome": outcome,
            "request_id": self._request_id,
            "query": self._operation.text,
            "variables": redactor.mask(masked(self._variables)),
            "headers": redactor.mask(masked(self._headers)),
            "answer": (self._told or redactor.mask(masked(self._document)))[:_MAX_LOGGED_ANSWER],
        }

    def interpret(self, http: HttpAnswer) -> Answer:
        """Weigh HTTP status against body: the Connector tells some errors by the status alone, a proxy any by a page
        of its own, and the Director writes GraphQL errors under 200 and 4xx alike.
        """
        try:
            self._document = document = orjson.loads(http.body)
        except orjson.JSONDecodeError:
            self._raise_by_status(http, told=self._foreign_text(http.body))
            raise InvalidAnswer(f"HTTP {http.status}, and the body is not JSON") from None
        errors = _errors(document, self._secrets, self._operation)
        self._raise_by_status(http, told=errors[0].message if errors else "", code=errors[0].code if errors else None)
        if not isinstance(document, dict) or not ("data" in document or errors):
            raise InvalidAnswer(f"HTTP {http.status}, and the body is not a GraphQL answer")
        data = document.get("data")
        if data is not None and not isinstance(data, dict):
            raise InvalidAnswer("is not an object", path="data")
        if http.status != HTTPStatus.OK and not errors:
            raise InvalidAnswer(f"HTTP {http.status} without a GraphQL error")
        return Answer(data, errors, self._request_id)

    def _raise_by_status(self, http: HttpAnswer, *, told: str, code: int | None = None) -> None:
        """Raise for the statuses that mean the same whatever the body says."""
        message = f"HTTP {http.status}: {told}" if told else f"HTTP {http.status}"
        nothing_said = http.status == HTTPStatus.BAD_REQUEST and not http.body.strip()
        if nothing_said or http.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise Refused(message, status=http.status, code=code)
        if http.status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) or http.status >= 500:
            raise Unavailable(message, status=http.status, retry_after=_seconds(http.retry_after))
        if 300 <= http.status < 400:
            raise InvalidAnswer(f"{message}: redirects are not followed")

    def _foreign_text(self, body: bytes) -> str:
        """A body that is not JSON, to be quoted. What looks like JSON is not: a cut off answer of the Director holds
        passwords in clear.
        """
        text = body.decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
        if text.startswith(("{", "[")):
            self._told = f"{len(body)} bytes of broken JSON"
            return ""
        self._told = Redactor(self._secrets).clean(text)
        return self._told


def _errors(document: Any, secrets: set[str], operation: Operation) -> tuple[ErrorEntry, ...]:
    entries = document.get("errors") if isinstance(document, dict) else None
    if entries is None or entries == []:
        return ()
    if not isinstance(entries, list):
        raise InvalidAnswer("is not a list", path="errors")
    redactor = Redactor(secrets | secrets_within(document))
    # A path says what has failed, so a password that reads like a part of a field's name must not blur it.
    asked_for = frozenset(_NAME.findall(operation.text))
    return tuple(_error(entry if isinstance(entry, dict) else {}, redactor, asked_for) for entry in entries)


def _error(entry: dict[str, Any], redactor: Redactor, asked_for: frozenset[str]) -> ErrorEntry:
    message = entry.get("message")
    path = entry.get("path")
    extensions = entry.get("extensions")
    code = extensions.get("error_code") if isinstance(extensions, dict) else None
    return ErrorEntry(
        message=redactor.clean(message) if isinstance(message, str) else "an error without a message",
        path=tuple(
            redactor.clean(step) if isinstance(step, str) and step not in asked_for else step
            for step in (path if isinstance(path, list) else ())
            if isinstance(step, str) or type(step) is int
        ),
        code=code if type(code) is int else None,
    )


def _seconds(retry_after: str) -> float | None:
    """Retry-After in seconds. Its other form, a date, needs both clocks to agree and is not used."""
    text = retry_after.strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_RETRY_AFTER_DIGITS else None
