"""What an HTTP answer means: GraphQL, a refusal, an outage, or an answer of something else than Compass.

Status and body are weighed together: the Connector reports some errors by the status alone, a proxy reports any error
by a page of its own, and the Director writes GraphQL errors under 200 and 4xx alike.
"""

import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import orjson

from controller.compass.errors import CompassError, GraphQLError, InvalidAnswer, Refused, Unavailable, UnexpectedAnswer
from controller.compass.http import HttpAnswer
from controller.compass.queries import Operation
from controller.compass.redaction import Redactor, plain_words, secrets_within

#: The Director's codes for a caller without rights: "insufficient scopes" is what it answers to a certificate that it
#: cannot map to a Runtime. 24 and 25 are a tenant that is missing or unknown, which a new configuration mends, too.
_REFUSING_CODES = frozenset({23, 24, 25, 26})
_REFUSING_TEXT = "insufficient scopes"

#: Seconds that a server may ask for; longer ones are not believed.
_MAX_RETRY_AFTER_DIGITS = 5

#: Seconds after which Compass's gateway has new room, which its 429 does not say. Without this pause a fleet above the
#: limit asks again after a second, and then three answers in four are 429 (tests/benchmarks/bench_fleet.py).
RATE_LIMIT_PAUSE = 30.0

_NAME = re.compile(r"\w+")

#: The Director puts a new id into each of its internal errors: "Internal Server Error [errorID=<uuid>, reason: ...]".
_ERROR_ID = re.compile(r"\s*\[errorID=([\w-]+)\]|errorID=([\w-]+),?\s*")

_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]{1,60}")
_HOST = re.compile(r"[a-z0-9.-]{1,253}")


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """One entry of an answer's `errors`. `path` is as sent: field names and list positions.

    `error_id` is the Director's id of this one occurrence, "" without one; it is not part of `message`, so that the
    same error has the same message.
    """

    message: str
    path: tuple[str | int, ...]
    code: int | None
    error_id: str = ""

    @property
    def refuses(self) -> bool:
        """Whether it says that our certificate or token does not give us the right."""
        return self.code in _REFUSING_CODES or _REFUSING_TEXT in self.message.lower()


@dataclass(frozen=True, slots=True)
class Answer:
    """A GraphQL answer: `data`, and the errors beside it. With both, it is a partial result.

    The errors are sorted by message, code and path: the Director sends them in a new order each time.
    """

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
        """The first error that refuses us, or else the first."""
        entry = next((entry for entry in self.errors if entry.refuses), self.errors[0])
        if entry.refuses:
            return Refused(
                f"graphql: {entry.message}", status=HTTPStatus.OK, code=entry.code, request_id=self.request_id
            )
        path = ".".join(map(str, entry.path))
        return GraphQLError(
            entry.message, code=entry.code, path=path, error_id=entry.error_id, request_id=self.request_id
        )


@dataclass(frozen=True, slots=True)
class Received:
    """An HTTP answer, and its body as JSON. `document` is None when the body is not JSON."""

    http: HttpAnswer
    document: Any = field(repr=False)

    @classmethod
    def read(cls, http: HttpAnswer) -> "Received":
        try:
            return cls(http, orjson.loads(http.body))
        except orjson.JSONDecodeError:
            return cls(http, None)

    @property
    def text(self) -> str:
        """The body when it is harmless text, else ""."""
        return plain_words(self.http.body) if self.document is None else ""

    @property
    def description(self) -> str:
        """What was answered, harmless to show: "HTTP 404, text/html, not JSON"."""
        http = self.http
        parts = [f"HTTP {http.status}", _media_type(http) or "no content type"]
        if 300 <= http.status < 400:
            parts.append(f"a redirect to {_host_of(http.location)}")
        elif not http.body.strip():
            parts.append("empty")
        elif self.document is None:
            parts.append(f'"{self.text}"' if self.text else "not JSON")
        else:
            parts.append("JSON, but not GraphQL")
        return ", ".join(parts)


def interpret(received: Received, *, operation: Operation, url: str, secrets: set[str], request_id: str) -> Answer:
    """The GraphQL answer. `secrets` are those that were sent.

    Raises Refused, Unavailable, UnexpectedAnswer, or InvalidAnswer for GraphQL that is not well formed.
    """
    http, document = received.http, received.document
    if http.status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) or http.status >= 500:
        errors = _errors(document, secrets, operation) if _is_graphql(document) else ()
        told = errors[0].message if errors else received.text
        message = f"HTTP {http.status}: {told}" if told else f"HTTP {http.status}"
        raise Unavailable(message, status=http.status, retry_after=_pause(http))
    if http.status == HTTPStatus.BAD_REQUEST and not http.body.strip() and _media_type(http) in ("", _JSON):
        raise Refused("HTTP 400, empty answer", status=http.status)
    if not _is_graphql(document) or 300 <= http.status < 400:
        raise UnexpectedAnswer(
            received.description, status=http.status, url=Redactor(secrets).clean(without_query(url))
        )
    errors = _errors(document, secrets, operation)
    if http.status != HTTPStatus.OK and not errors:
        raise InvalidAnswer(f"HTTP {http.status} without a GraphQL error")
    if http.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise Refused(f"HTTP {http.status}: {errors[0].message}", status=http.status, code=errors[0].code)
    data = document.get("data")
    if data is not None and not isinstance(data, dict):
        raise InvalidAnswer("is not an object", path="data")
    return Answer(data, errors, request_id)


_JSON = "application/json"


def _is_graphql(document: Any) -> bool:
    """Whether this is the form of a GraphQL answer. Other APIs have `errors`, too: a message makes them GraphQL's."""
    if not isinstance(document, dict):
        return False
    errors = document.get("errors")
    return "data" in document or (
        isinstance(errors, list) and any(isinstance(entry, dict) and "message" in entry for entry in errors)
    )


def _errors(document: Any, secrets: set[str], operation: Operation) -> tuple[ErrorEntry, ...]:
    entries = document.get("errors")
    if entries is None or entries == []:
        return ()
    if not isinstance(entries, list):
        raise InvalidAnswer("is not a list", path="errors")
    redactor = Redactor(secrets | secrets_within(document))
    # A path says what has failed, so a password that reads like a part of a field's name must not blur it.
    asked_for = frozenset(_NAME.findall(operation.text))
    read = (_error(entry if isinstance(entry, dict) else {}, redactor, asked_for) for entry in entries)
    return tuple(sorted(read, key=_canonical))


def _canonical(entry: ErrorEntry) -> tuple[str, int, tuple[str, ...]]:
    code = -1 if entry.code is None else entry.code
    return entry.message, code, tuple(map(str, entry.path))


def _error(entry: dict[str, Any], redactor: Redactor, asked_for: frozenset[str]) -> ErrorEntry:
    raw = entry.get("message")
    raw = raw if isinstance(raw, str) else ""
    path = entry.get("path")
    extensions = entry.get("extensions")
    code = extensions.get("error_code") if isinstance(extensions, dict) else None
    error_id = next((first or second for first, second in _ERROR_ID.findall(raw)), "")
    return ErrorEntry(
        message=redactor.clean(_ERROR_ID.sub("", raw)) or "an error without a message",
        path=tuple(
            redactor.clean(step) if isinstance(step, str) and step not in asked_for else step
            for step in (path if isinstance(path, list) else ())
            if isinstance(step, str) or type(step) is int
        ),
        code=code if type(code) is int else None,
        error_id=redactor.clean(error_id),
    )


def without_query(url: str) -> str:
    """The address as far as it may be shown: host and path. A query may hold anything."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _media_type(http: HttpAnswer) -> str:
    """The media type without parameters, "" without one."""
    name = http.content_type.partition(";")[0].strip().lower()
    return name if _MEDIA_TYPE.fullmatch(name) else ""


def _host_of(location: str) -> str:
    try:
        host = urlsplit(location).hostname or ""
    except ValueError:
        host = ""
    return host if _HOST.fullmatch(host) else "another path" if location.startswith("/") else "an unknown place"


def _pause(http: HttpAnswer) -> float | None:
    if http.status == HTTPStatus.TOO_MANY_REQUESTS and not http.retry_after:
        return RATE_LIMIT_PAUSE
    return _seconds(http.retry_after)


def _seconds(retry_after: str) -> float | None:
    """Retry-After in seconds. Its other form, a date, needs both clocks to agree and is not used."""
    text = retry_after.strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_RETRY_AFTER_DIGITS else None
