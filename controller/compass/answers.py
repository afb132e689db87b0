"""Classifies an HTTP answer: GraphQL, a refusal, an outage, or an answer that is not from Compass.

Both status and body are needed: the Connector reports some errors with the status only, a proxy reports errors with its
own pages, and the Director sends GraphQL errors with 200 and with 4xx.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from msgspec import UNSET, Raw, Struct, UnsetType

from controller.compass.decoder import decode
from controller.compass.errors import (
    CompassError,
    GraphQLError,
    InvalidAnswer,
    Refused,
    TooLarge,
    Unavailable,
    UnexpectedAnswer,
)
from controller.compass.http import HttpAnswer
from controller.compass.limits import has_too_many_values
from controller.compass.queries import Operation
from controller.compass.redaction import Redactor, first_words, message_without_data

T = TypeVar("T")

#: The Director's codes for a caller without rights: "insufficient scopes" is what it answers to a certificate that it
#: cannot map to a Runtime. 24 and 25 are a tenant that is missing or unknown, which a new configuration mends, too.
_REFUSING_CODES = frozenset({23, 24, 25, 26})
_REFUSING_TEXT = "insufficient scopes"

_NAME = re.compile(r"\w+")

#: The Director's internal errors: "Internal Server Error [errorID=<uuid>, reason: ...]".
_ERROR_ID = re.compile(r"\[errorID=([\w-]{1,64})\]|errorID=([\w-]{1,64}),? ?")

#: A text in JSON, with the colon behind it if it is the name of a field.
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+"?\s*+(:?)', re.DOTALL)

#: Errors in one answer. A page has 500 applications.
_MAX_ERRORS = 10_000
_MAX_PATH = 20

#: Seconds that a server may ask for; longer ones are not believed.
_MAX_RETRY_AFTER_DIGITS = 5

#: Seconds after which Compass's gateway has new room, which its 429 does not say. Without this pause a fleet above the
#: limit asks again after a second, and then three answers in four are 429 (tests/benchmarks/bench_fleet.py).
RATE_LIMIT_PAUSE = 30.0

_JSON = "application/json"
_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]{1,60}")
_HOST = re.compile(r"[a-z0-9.-]{1,253}")


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """One entry of an answer's `errors`. `path` is as sent: field names and list positions.

    `refuses`: it means that certificate or token do not give the permission. `error_id` is the Director's id of this
    one occurrence, "" without one; it is not part of `message`, so that the same error has the same message.
    """

    message: str
    path: tuple[str | int, ...]
    code: int | None
    refuses: bool
    error_id: str = ""

    @property
    def description(self) -> str:
        """All of it in one line, for the log."""
        path = ".".join(map(str, self.path))
        known = {"code": self.code, "path": path, "errorID": self.error_id}
        facts = ", ".join(f"{name} {value}" for name, value in known.items() if value not in (None, ""))
        return f"{self.message} ({facts})" if facts else self.message


class _Extensions(Struct):
    error_code: Any = None


class _Entry(Struct):
    """The fields are texts of JSON, because their values may be of any type and size."""

    message: Raw | UnsetType = UNSET
    path: Raw | UnsetType = UNSET
    extensions: Raw | UnsetType = UNSET


_NO_ENTRY = _Entry()


def read_errors(
    errors: Raw, data: Raw | None, operation: Operation[Any], secrets: frozenset[str], *, is_graphql: bool
) -> tuple[ErrorEntry, ...]:
    """The errors, sorted by message, code and path. `data`: the data beside them: if it has texts, those of the errors
    may repeat its secrets, and are not shown. `secrets`: the secret values of the request. Raises InvalidAnswer.

    `is_graphql`: whether the answer is certainly one of GraphQL. Otherwise the result is () without any message.
    """
    texts = _optional(errors, list[Raw])
    if texts is None:
        if not is_graphql or bytes(errors) == b"null":
            return ()
        raise InvalidAnswer("is not a list", path="errors")
    if len(texts) > _MAX_ERRORS:
        raise InvalidAnswer(f"has {len(texts)} entries", path="errors")
    entries = [_optional(text, _Entry) or _NO_ENTRY for text in texts]
    if not is_graphql and all(entry.message is UNSET for entry in entries):
        return ()
    asked_for = frozenset(_NAME.findall(operation.text))
    has_texts = data is not None and any(not text[1] for text in _TEXT.finditer(data))
    clean = None if has_texts else Redactor(secrets).clean
    return tuple(sorted((_error(entry, clean, asked_for) for entry in entries), key=_canonical))


def _optional(text: Raw | UnsetType, type_: type[T]) -> T | None:
    """The value; None if it is absent or does not have this type."""
    if isinstance(text, UnsetType):
        return None
    try:
        return decode(text, type_)
    except InvalidAnswer:
        return None


def _texts(entry: _Entry) -> tuple[str, str]:
    """Message and error id."""
    raw = _optional(entry.message, str) or ""
    ids = _ERROR_ID.search(raw)
    message = _ERROR_ID.sub("", raw).strip() if ids else raw
    return message_without_data(message), (ids[1] or ids[2]) if ids else ""


def _error(entry: _Entry, clean: Callable[[str], str] | None, asked_for: frozenset[str]) -> ErrorEntry:
    """`clean` removes secrets from a text; without it, no text is shown."""
    message, error_id = _texts(entry)
    steps: list[Any] = [_optional(step, Any) for step in (_optional(entry.path, list[Raw]) or [])[:_MAX_PATH]]
    # Of the names only those that were asked for: any other text may be anything.
    path = tuple(
        step if type(step) is int or step in asked_for else "?"
        for step in steps
        if isinstance(step, str) or type(step) is int
    )
    extensions = _optional(entry.extensions, _Extensions)
    code = extensions.error_code if extensions is not None else None
    if type(code) is not int:
        code = None
    if clean is None:
        names = ".".join(step for step in path if isinstance(step, str))
        shown = f"an error at {names or 'an unknown place'}, code {'unknown' if code is None else code}"
    else:
        shown = clean(message) or "an error without a message"
    return ErrorEntry(
        message=shown,
        path=path,
        code=code,
        refuses=code in _REFUSING_CODES or _REFUSING_TEXT in message.lower(),
        error_id=clean(error_id) if clean is not None else "",
    )


def _canonical(entry: ErrorEntry) -> tuple[str, int, tuple[str, ...]]:
    code = -1 if entry.code is None else entry.code
    return entry.message, code, tuple(map(str, entry.path))


@contextlib.contextmanager
def identified_by(request_id: str) -> Iterator[None]:
    """Give a failure that is found in an answer the id of its call."""
    try:
        yield
    except CompassError as error:
        error.request_id = request_id
        raise


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A GraphQL answer: data, which may still have to be decoded, and errors. With both, it is a partial result.

    The errors are sorted by message, code and path: the Director sends them in a new order each time. `size` is in
    bytes.
    """

    type: type[T]
    data: T | Raw | None = field(repr=False)
    errors: tuple[ErrorEntry, ...]
    request_id: str
    size: int = 0

    def whole(self) -> T:
        """The data of an answer without errors. Raises Refused, GraphQLError or InvalidAnswer otherwise."""
        if self.errors:
            raise self.error()
        return self.partial()

    def partial(self) -> T:
        """The data, also with errors beside it. Raises InvalidAnswer."""
        if self.data is None:
            raise InvalidAnswer("is null, without an error", path="data", request_id=self.request_id)
        if not isinstance(self.data, Raw):
            return self.data
        with identified_by(self.request_id):
            return decode(self.data, self.type)

    def error(self) -> CompassError:
        """The first error that is a refusal, otherwise the first error."""
        entry = next((entry for entry in self.errors if entry.refuses), self.errors[0])
        if entry.refuses:
            return Refused(
                f"graphql: {entry.message}", status=HTTPStatus.OK, code=entry.code, request_id=self.request_id
            )
        return GraphQLError(f"graphql: {entry.message}", request_id=self.request_id)


class _Document(Struct):
    """The parts of a GraphQL answer as texts of JSON. They refer to the body, which stays in memory as long."""

    data: Raw | UnsetType = UNSET
    errors: Raw | UnsetType = UNSET


class _Success(Struct, Generic[T], forbid_unknown_fields=True):
    """A GraphQL answer without errors."""

    data: T
    extensions: Raw | None = None


def interpret(
    http: HttpAnswer, *, operation: Operation[T], url: str, secrets: frozenset[str], request_id: str
) -> Answer[T]:
    """The GraphQL answer. `secrets`: the secret values of the request.

    Raises Refused, Unavailable, UnexpectedAnswer, TooLarge, or InvalidAnswer for GraphQL that is not well formed.
    """
    if http.status == HTTPStatus.OK and not has_too_many_values(http.body):
        with contextlib.suppress(InvalidAnswer):  # the usual case; otherwise each part is looked at
            success: _Success[T] = decode(http.body, _Success[operation.data])  # type: ignore[name-defined]
            return Answer(operation.data, success.data, (), request_id, len(http.body))
    clean = Redactor(secrets).clean
    document = _document(http.body)
    if document is not None and has_too_many_values(http.body):
        raise TooLarge("the answer has too many values for its size", single=True)
    data, errors = _data(document), _errors(document, operation, secrets)
    if http.is_outage:
        reason = errors[0].message if errors else clean(first_words(http.body, _media_type(http)))
        raise Unavailable(
            f"HTTP {http.status}: {reason}" if reason else f"HTTP {http.status}",
            status=http.status,
            retry_after=_pause(http),
            timed_out=http.status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT),
        )
    if http.status == HTTPStatus.BAD_REQUEST and not http.body.strip() and _media_type(http) in ("", _JSON):
        raise Refused("HTTP 400, empty answer", status=http.status)
    if document is None or (document.data is UNSET and not errors) or 300 <= http.status < 400:
        raise UnexpectedAnswer(clean(_description(http)), status=http.status, url=clean(without_query(url)))
    if http.status != HTTPStatus.OK and not errors:
        raise InvalidAnswer(f"HTTP {http.status} without a GraphQL error")
    if http.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise Refused(f"HTTP {http.status}: {errors[0].message}", status=http.status, code=errors[0].code)
    if data is not None and memoryview(data)[0] != ord("{"):
        raise InvalidAnswer("is not an object", path="data")
    return Answer(operation.data, data, errors, request_id, len(http.body))


def _document(body: bytes) -> _Document | None:
    """None if the body is no JSON object."""
    try:
        return decode(body, _Document)
    except InvalidAnswer:
        return None


def _errors(document: _Document | None, operation: Operation[Any], secrets: frozenset[str]) -> tuple[ErrorEntry, ...]:
    """The errors. Without data they are those of GraphQL only if one of them has a message: other APIs have errors."""
    if document is None or isinstance(document.errors, UnsetType):
        return ()
    is_graphql = not isinstance(document.data, UnsetType)
    return read_errors(document.errors, _data(document), operation, secrets, is_graphql=is_graphql)


def _data(document: _Document | None) -> Raw | None:
    if document is None or isinstance(document.data, UnsetType) or bytes(memoryview(document.data)[:5]) == b"null":
        return None
    return document.data


def _description(http: HttpAnswer) -> str:
    """A description of the answer: "HTTP 404, text/html, not JSON: ..." with the title of a page."""
    parts = [f"HTTP {http.status}", _media_type(http) or "no content type"]
    if 300 <= http.status < 400:
        parts.append(f"a redirect to {_host_of(http.location)}")
    elif not http.body.strip():
        parts.append("empty")
    elif _is_json(http.body):
        parts.append("JSON, but not GraphQL")
    else:
        words = first_words(http.body, _media_type(http))
        parts.append(f'not JSON: "{words}"' if words else "not JSON")
    return ", ".join(parts)


def _is_json(body: bytes) -> bool:
    try:
        decode(body, Raw)
    except InvalidAnswer:
        return False
    return True


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
