"""Decodes and classifies an HTTP answer: GraphQL, a refusal, an outage, or an answer that is not from Compass.

Both status and body are needed: the Connector reports some errors with the status only, a proxy reports errors with its
own pages, and the Director sends GraphQL errors with 200 and with 4xx.

The error for a field that does not fit has its path from the data inwards ("application.bundles.data[<id>].name"): it
names items by id, because their positions change with each answer, and it is the same one for any order of the items.
It never has a value, which may be a password.
"""

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from typing import Any, Generic, TypeVar, get_origin
from urllib.parse import urlsplit

import msgspec
import orjson
from msgspec import UNSET, Raw, Struct, UnsetType

from controller.compass.errors import (
    CompassError,
    GraphQLError,
    InvalidAnswer,
    Refused,
    TooLarge,
    Unavailable,
    UnexpectedAnswer,
)
from controller.compass.http import HttpAnswer, is_outage
from controller.compass.limits import has_too_many_values
from controller.compass.queries import Operation
from controller.compass.redaction import Redactor, first_words, message_without_data
from controller.text import clean

T = TypeVar("T")

#: Ids have 36 characters; a path is part of a status.
_MAX_LABEL = 64

#: The Director's codes for a caller without permissions: "insufficient scopes" is its answer to a certificate that it
#: cannot map to a Runtime. 24 and 25 are a tenant that is missing or unknown.
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

#: Digits of the seconds that a server may ask for; a longer number is not believed.
_MAX_RETRY_AFTER_DIGITS = 5

#: Seconds after which Compass's gateway has new room, which its 429 does not say. Without this pause a fleet above the
#: limit asks again after a second, and then three answers in four are 429 (tests/benchmarks/bench_fleet.py).
RATE_LIMIT_PAUSE = 30.0

_JSON = "application/json"
_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]{1,60}")
_HOST = re.compile(r"[a-z0-9.-]{1,253}")


@cache
def _decoder(type_: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(type_)


def decode(text: bytes | Raw, type_: type[T]) -> T:
    """The value. Raises InvalidAnswer: "is not JSON", or with the path of the field that does not fit."""
    try:
        found: T = _decoder(type_).decode(text)  # type: ignore[arg-type]  # a type is hashable
    except msgspec.ValidationError as error:
        raise _named(str(error), text, type_) from None
    except (ValueError, RecursionError):  # msgspec.DecodeError, and invalid UTF-8
        raise InvalidAnswer("is not JSON") from None
    return found


_STEP = re.compile(r"\.(\w{1,60})|\[([^\]]{0,20})\]")
_TYPES = {"str": "a text", "int": "a number", "float": "a number", "bool": "a boolean", "null": "null or absent"}
_TYPES |= {"object": "an object", "array": "a list"}
_MISMATCH = re.compile(r"Expected `(\w+)[^`]{0,20}`, got `(\w+)`")
_MISSING = re.compile(r"Object missing required field `(\w{1,60})`")


def _named(message: str, text: bytes | Raw, type_: Any) -> InvalidAnswer:
    """The error of a message of msgspec, for example "Expected `str`, got `int` - at `$.bundles.data[0].name`"."""
    document: Any = None
    if "[" in message and get_origin(type_) is None:
        # Again, in an order that does not depend on the one of the answer.
        try:
            document = _in_order(orjson.loads(memoryview(text)))
            msgspec.convert(document, type_)
        except msgspec.ValidationError as error:
            message = str(error)
        except ValueError:
            return InvalidAnswer("is not JSON")
    problem, _, place = message.partition(" - at `$")
    path = _path(place, document)
    if missing := _MISSING.fullmatch(problem):
        path, problem = f"{path}.{missing[1]}", "is null or absent"
    elif mismatch := _MISMATCH.fullmatch(problem):
        expected, found = (_TYPES.get(name, name) for name in mismatch.groups())
        problem = f"is {found} instead of {expected}"
    elif problem.startswith("Expected `str` of length"):
        problem = "is empty"
    return InvalidAnswer(problem, path=path.removeprefix("."))


def _path(place: str, document: Any) -> str:
    path = ""
    for name, index in _STEP.findall(place):
        if name:
            document = document.get(name) if isinstance(document, dict) else None
            path += f".{name}"
        elif index.isdigit() and isinstance(document, list):
            document = document[int(index)]
            path += f"[{label(document.get('id') if isinstance(document, dict) else None)}]"
        elif index == "...":
            return f"{path}.*"  # not the key: it is data
    return path


def _in_order(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _in_order(item) for name, item in value.items()}
    if isinstance(value, list):
        return sorted(map(_in_order, value), key=_sort_key)
    return value


def _sort_key(item: Any) -> tuple[str, bytes]:
    found = item.get("id") if isinstance(item, dict) else None
    return found if isinstance(found, str) else "", orjson.dumps(item, option=orjson.OPT_SORT_KEYS)


def label(identifier: Any) -> str:
    """What to call an item in a path: its id, or "?"."""
    return clean(identifier, _MAX_LABEL) if isinstance(identifier, str) and identifier else "?"


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


def read_errors(
    errors: Raw, data: Raw | None, operation: Operation[Any], secrets: frozenset[str], *, is_graphql: bool
) -> tuple[ErrorEntry, ...]:
    """The errors, sorted by message, code and path. Raises InvalidAnswer.

    `data`: the data of the same answer. If it has texts, the messages of the errors may repeat its secrets, so they are
    not shown. `secrets`: the secret values of the request. `is_graphql`: the answer is certainly one of GraphQL;
    otherwise, errors without a single message lead to ().
    """
    entries = _decoded(errors, list[Any])
    if entries is None:
        if not is_graphql or bytes(errors) == b"null":
            return ()
        raise InvalidAnswer("is not a list", path="errors")
    if len(entries) > _MAX_ERRORS:
        raise InvalidAnswer(f"has {len(entries)} entries", path="errors")
    if not is_graphql and not any("message" in entry for entry in entries if isinstance(entry, dict)):
        return ()
    asked_for = frozenset(_NAME.findall(operation.text))
    has_texts = data is not None and any(not text[1] for text in _TEXT.finditer(data))
    redact = None if has_texts else Redactor(secrets).clean
    return tuple(sorted((_error(entry, redact, asked_for) for entry in entries), key=_canonical))


def _error(entry: Any, redact: Callable[[str], str] | None, asked_for: frozenset[str]) -> ErrorEntry:
    """`redact` removes secrets from a text; without it, no text is shown."""
    sent = _member(entry, "message", str, "")
    ids = _ERROR_ID.search(sent)
    message = message_without_data(_ERROR_ID.sub("", sent).strip() if ids else sent)
    # Of the names only those that were asked for: any other text may be anything.
    path = tuple(
        step if type(step) is int or step in asked_for else "?"
        for step in _member(entry, "path", list, [])[:_MAX_PATH]
        if isinstance(step, str) or type(step) is int
    )
    code = _member(_member(entry, "extensions", dict, {}), "error_code", int, None)
    if redact is None:
        names = ".".join(step for step in path if isinstance(step, str))
        shown = f"an error at {names or 'an unknown place'}, code {'unknown' if code is None else code}"
    else:
        shown = redact(message) or "an error without a message"
    return ErrorEntry(
        message=shown,
        path=path,
        code=code,
        refuses=code in _REFUSING_CODES or _REFUSING_TEXT in message.lower(),
        error_id=redact(ids[1] or ids[2]) if ids and redact is not None else "",
    )


def _member(value: Any, name: str, kind: type, default: Any) -> Any:
    """A member of an object; the default if it is absent or of another type."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if type(found) is kind else default


def _canonical(entry: ErrorEntry) -> tuple[str, int, tuple[str, ...]]:
    code = -1 if entry.code is None else entry.code
    return entry.message, code, tuple(map(str, entry.path))


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A GraphQL answer: data, errors or both, which is a partial result. `data` is None if it cannot be used.

    The errors are sorted by message, code and path: the Director sends them in a new order each time. `size` is in
    bytes.
    """

    data: T | None = field(repr=False)
    errors: tuple[ErrorEntry, ...] = ()
    size: int = 0

    def whole(self) -> T:
        """The data of an answer without errors. Raises Refused or GraphQLError otherwise."""
        if self.errors or self.data is None:
            raise self.error()
        return self.data

    def error(self) -> CompassError:
        """The first error that is a refusal, otherwise the first error."""
        entry = next((entry for entry in self.errors if entry.refuses), self.errors[0])
        if entry.refuses:
            return Refused(f"graphql: {entry.message}", status=HTTPStatus.OK, code=entry.code)
        return GraphQLError(f"graphql: {entry.message}")


class _Document(Struct):
    """The parts of a GraphQL answer, undecoded. They refer to the body, so it stays in memory as long as they do."""

    data: Raw | UnsetType = UNSET
    errors: Raw | UnsetType = UNSET


class _Success(Struct, Generic[T], forbid_unknown_fields=True):
    """A GraphQL answer without errors."""

    data: T
    extensions: Raw | None = None


def interpret(http: HttpAnswer, *, operation: Operation[T], url: str, secrets: frozenset[str]) -> Answer[T]:
    """The GraphQL answer. `secrets`: the secret values of the request.

    Raises Refused, Unavailable, UnexpectedAnswer, TooLarge, or InvalidAnswer for GraphQL that is not well formed.
    """
    if http.status == HTTPStatus.OK and not has_too_many_values(http.body):
        success: _Success[T] | None = _decoded(http.body, _Success[operation.data])  # type: ignore[name-defined]
        if success is not None:  # the usual case; otherwise each part is looked at
            return Answer(success.data, size=len(http.body))
    redact = Redactor(secrets).clean
    document = _decoded(http.body, _Document)
    if document is not None and has_too_many_values(http.body):
        raise TooLarge("the answer has too many values for its size", single=True)
    document = document or _Document()
    sent = document.data if isinstance(document.data, Raw) and bytes(memoryview(document.data)[:5]) != b"null" else None
    errors: tuple[ErrorEntry, ...] = ()
    if isinstance(document.errors, Raw):
        # Without data they are those of GraphQL only if one of them has a message: other APIs have errors.
        is_graphql = document.data is not UNSET
        errors = read_errors(document.errors, sent, operation, secrets, is_graphql=is_graphql)
    if is_outage(http.status):
        reason = errors[0].message if errors else redact(first_words(http.body, _media_type(http)))
        raise Unavailable(
            f"HTTP {http.status}: {reason}" if reason else f"HTTP {http.status}",
            status=http.status,
            retry_after=_pause(http),
            timed_out=http.status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT),
        )
    if http.status == HTTPStatus.BAD_REQUEST and not http.body.strip() and _media_type(http) in ("", _JSON):
        raise Refused("HTTP 400, empty answer", status=http.status)
    if (document.data is UNSET and not errors) or 300 <= http.status < 400:
        raise UnexpectedAnswer(redact(_description(http)), status=http.status, url=redact(without_query(url)))
    if http.status != HTTPStatus.OK and not errors:
        raise InvalidAnswer(f"HTTP {http.status} without a GraphQL error")
    if http.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise Refused(f"HTTP {http.status}: {errors[0].message}", status=http.status, code=errors[0].code)
    if errors:
        return Answer(_decoded(sent, operation.data) if sent is not None else None, errors, len(http.body))
    if sent is None:
        raise InvalidAnswer("is null, without an error", path="data")
    if memoryview(sent)[0] != ord("{"):
        raise InvalidAnswer("is not an object", path="data")
    return Answer(decode(sent, operation.data), size=len(http.body))


def _decoded(text: bytes | Raw, type_: type[T]) -> T | None:
    """None if the text does not have this type."""
    with contextlib.suppress(InvalidAnswer):
        return decode(text, type_)
    return None


def _description(http: HttpAnswer) -> str:
    """A description of the answer: "HTTP 404, text/html, not JSON: ..." with the title of a page."""
    parts = [f"HTTP {http.status}", _media_type(http) or "no content type"]
    if 300 <= http.status < 400:
        parts.append(f"a redirect to {_host_of(http.location)}")
    elif not http.body.strip():
        parts.append("empty")
    elif _decoded(http.body, Raw) is not None:
        parts.append("JSON, but not GraphQL")
    else:
        words = first_words(http.body, _media_type(http))
        parts.append(f'not JSON: "{words}"' if words else "not JSON")
    return ", ".join(parts)


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
