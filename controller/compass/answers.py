"""Classifies an HTTP answer: GraphQL, a refusal, an outage, or an answer that is not from Compass.

Both status and body are needed: the Connector reports some errors with the status only, a proxy reports errors with its
own pages, and the Director sends GraphQL errors with 200 and with 4xx.
"""

import contextlib
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import orjson

from controller.compass import pages
from controller.compass.error_entries import ErrorEntry, read_errors
from controller.compass.errors import (
    CompassError,
    GraphQLError,
    InvalidAnswer,
    Refused,
    TooLarge,
    Unavailable,
    UnexpectedAnswer,
)
from controller.compass.foreign_text import first_words
from controller.compass.http import HttpAnswer
from controller.compass.limits import parsing_takes, size
from controller.compass.queries import Operation
from controller.compass.redaction import Redactor

#: Seconds that a server may ask for; longer ones are not believed.
_MAX_RETRY_AFTER_DIGITS = 5

#: Seconds after which Compass's gateway has new room, which its 429 does not say. Without this pause a fleet above the
#: limit asks again after a second, and then three answers in four are 429 (tests/benchmarks/bench_fleet.py).
RATE_LIMIT_PAUSE = 30.0

_JSON = "application/json"
_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]{1,60}")
_HOST = re.compile(r"[a-z0-9.-]{1,253}")


@dataclass(frozen=True, slots=True)
class Answer:
    """A GraphQL answer: `data`, and the errors beside it. With both, it is a partial result.

    The errors are sorted by message, code and path: the Director sends them in a new order each time. `memory` is what
    the answer takes, in bytes.
    """

    data: dict[str, Any] | None = field(repr=False)
    errors: tuple[ErrorEntry, ...]
    request_id: str
    memory: int = 0

    def whole(self) -> dict[str, Any]:
        """The data of an answer without errors. Raises Refused, GraphQLError or InvalidAnswer otherwise."""
        if self.errors:
            raise self.error()
        if self.data is None:
            raise InvalidAnswer("is null, without an error", path="data", request_id=self.request_id)
        return self.data

    def error(self) -> CompassError:
        """The first error that is a refusal, otherwise the first error."""
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
    """An HTTP answer, and its body as JSON. `document` is None when the body is not JSON; `memory` is what it takes."""

    http: HttpAnswer
    document: Any = field(repr=False)
    memory: int = 0

    @classmethod
    def read(cls, http: HttpAnswer, *, max_memory: int, whole_applications: bool = False) -> "Received":
        """Parse the body. In a list of whole applications, the applications remain JSON text.

        Raises TooLarge when parsing all of it would take more than so many bytes of memory.
        """
        memory = parsing_takes(http.body)
        if memory > max_memory:
            raise TooLarge(f"reading the answer would take more than {size(max_memory)} of memory", single=True)
        if whole_applications:
            with contextlib.suppress(ValueError):
                return cls(http, pages.document(http.body), memory)
        return cls(http, _parsed(http.body), memory)

    @property
    def text(self) -> str:
        """The first words of a body that is not JSON, "" if they may be data."""
        return first_words(self.http.body, _media_type(self.http)) if self.document is None else ""

    def errors(self, operation: Operation, secrets: frozenset[str]) -> tuple[ErrorEntry, ...]:
        """The errors of a GraphQL answer. `secrets`: the secret values of the request."""
        document = self.document
        if document.get("errors"):
            document = _parsed(self.http.body)  # whole applications, too: a message may repeat their secrets
        return read_errors(document, operation, secrets)

    @property
    def description(self) -> str:
        """A description of the answer without its content: "HTTP 404, text/html, not JSON: ..."."""
        http = self.http
        parts = [f"HTTP {http.status}", _media_type(http) or "no content type"]
        if 300 <= http.status < 400:
            parts.append(f"a redirect to {_host_of(http.location)}")
        elif not http.body.strip():
            parts.append("empty")
        elif self.document is None:
            parts.append(f'not JSON: "{self.text}"' if self.text else "not JSON")
        else:
            parts.append("JSON, but not GraphQL")
        return ", ".join(parts)


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def interpret(
    received: Received, *, operation: Operation, url: str, secrets: frozenset[str], request_id: str
) -> Answer:
    """The GraphQL answer. `secrets`: the secret values of the request.

    Raises Refused, Unavailable, UnexpectedAnswer, or InvalidAnswer for GraphQL that is not well formed.
    """
    http, document = received.http, received.document
    if http.is_outage:
        errors = received.errors(operation, secrets) if _is_graphql(document) else ()
        told = errors[0].message if errors else Redactor(secrets).clean(received.text)
        message = f"HTTP {http.status}: {told}" if told else f"HTTP {http.status}"
        raise Unavailable(
            message,
            status=http.status,
            retry_after=_pause(http),
            timed_out=http.status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT),
        )
    if http.status == HTTPStatus.BAD_REQUEST and not http.body.strip() and _media_type(http) in ("", _JSON):
        raise Refused("HTTP 400, empty answer", status=http.status)
    if not _is_graphql(document) or 300 <= http.status < 400:
        clean = Redactor(secrets).clean
        raise UnexpectedAnswer(clean(received.description), status=http.status, url=clean(without_query(url)))
    errors = received.errors(operation, secrets)
    if http.status != HTTPStatus.OK and not errors:
        raise InvalidAnswer(f"HTTP {http.status} without a GraphQL error")
    if http.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise Refused(f"HTTP {http.status}: {errors[0].message}", status=http.status, code=errors[0].code)
    data = document.get("data")
    if data is not None and not isinstance(data, dict):
        raise InvalidAnswer("is not an object", path="data")
    return Answer(data, errors, request_id, received.memory)


def _is_graphql(document: Any) -> bool:
    """Whether this has the form of a GraphQL answer. Other APIs have `errors` too, but without a message in each."""
    if not isinstance(document, dict):
        return False
    errors = document.get("errors")
    return "data" in document or (
        isinstance(errors, list) and any(isinstance(entry, dict) and "message" in entry for entry in errors)
    )


def without_query(url: str) -> str:
    """The URL without its query, which may contain secrets."""
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
    """Retry-After in seconds. A date is ignored, because the clocks may differ."""
    text = retry_after.strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_RETRY_AFTER_DIGITS else None
