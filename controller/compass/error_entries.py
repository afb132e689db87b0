"""The `errors` of a GraphQL answer. Equal errors have the same order and the same texts.

The Director sends errors in arbitrary order, with an id of this occurrence in the text. A text may also repeat secrets
of the request or of the answer.
"""

import re
from dataclasses import dataclass
from typing import Any, TypeVar

from msgspec import UNSET, Raw, Struct, UnsetType

from controller.compass.decoder import decode
from controller.compass.errors import InvalidAnswer
from controller.compass.foreign_text import message_without_data
from controller.compass.queries import Operation
from controller.compass.redaction import Redactor, repeated_secrets

T = TypeVar("T")

#: The Director's codes for a caller without rights: "insufficient scopes" is what it answers to a certificate that it
#: cannot map to a Runtime. 24 and 25 are a tenant that is missing or unknown, which a new configuration mends, too.
_REFUSING_CODES = frozenset({23, 24, 25, 26})
_REFUSING_TEXT = "insufficient scopes"

_NAME = re.compile(r"\w+")

#: The Director's internal errors: "Internal Server Error [errorID=<uuid>, reason: ...]".
_ERROR_ID = re.compile(r"\[errorID=([\w-]{1,64})\]|errorID=([\w-]{1,64}),? ?")

#: Characters of different messages that are shown; the text of one error is a hundred. The number of errors: a page has
#: 500 applications.
_MAX_MESSAGES = 10_000
_MAX_ERRORS = 10_000
_MAX_PATH = 20


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
        """Whether the error means that certificate or token do not give the permission."""
        return self.code in _REFUSING_CODES or _REFUSING_TEXT in self.message.lower()

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
    """The errors, sorted by message, code and path. `data`: the data beside them. `secrets`: the secret values of the
    request. Raises InvalidAnswer.

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
    messages = [_texts(entry) for entry in entries]
    clean = _Cleaning(data, {text for pair in messages for text in pair}, secrets)
    asked_for = frozenset(_NAME.findall(operation.text))
    read = [
        _error(entry, clean(message), clean(error_id), asked_for)
        for entry, (message, error_id) in zip(entries, messages, strict=True)
    ]
    return tuple(sorted(read, key=_canonical))


def _optional(text: Raw | UnsetType, type_: type[T]) -> T | None:
    """The value; None if it is absent or does not have this type."""
    if isinstance(text, UnsetType):
        return None
    try:
        return decode(text, type_)
    except InvalidAnswer:
        return None


class _Cleaning:
    """Removes secrets from the texts of errors."""

    def __init__(self, data: Raw | None, texts: set[str], secrets: frozenset[str]) -> None:
        self._shown: dict[str, str] = {}
        left, chosen = _MAX_MESSAGES, []
        for text in sorted(texts):
            if len(text) <= left:
                left -= len(text)
                chosen.append(text)
        read = "\n".join(chosen)
        joined = "".join(filter(str.isprintable, read))  # what is not printable may break a secret up
        redactor = Redactor(secrets | repeated_secrets(data, f"{read}\n{joined}"))
        self._shown = {text: redactor.clean(text) for text in chosen}

    def __call__(self, text: str) -> str:
        return self._shown.get(text, "an error with a message that is not shown")


def _texts(entry: _Entry) -> tuple[str, str]:
    """Message and error id."""
    raw = _optional(entry.message, str) or ""
    ids = _ERROR_ID.search(raw)
    message = _ERROR_ID.sub("", raw).strip() if ids else raw
    return message_without_data(message), (ids[1] or ids[2]) if ids else ""


def _error(entry: _Entry, message: str, error_id: str, asked_for: frozenset[str]) -> ErrorEntry:
    path = (_optional(entry.path, list[Raw]) or [])[:_MAX_PATH]
    steps: list[Any] = [_optional(step, Any) for step in path]
    extensions = _optional(entry.extensions, _Extensions)
    code = extensions.error_code if extensions is not None else None
    return ErrorEntry(
        message=message or "an error without a message",
        # Of the names only those that were asked for: any other text may be anything.
        path=tuple(
            step if type(step) is int or step in asked_for else "?"
            for step in steps
            if isinstance(step, str) or type(step) is int
        ),
        code=code if type(code) is int else None,
        error_id=error_id,
    )


def _canonical(entry: ErrorEntry) -> tuple[str, int, tuple[str, ...]]:
    code = -1 if entry.code is None else entry.code
    return entry.message, code, tuple(map(str, entry.path))
