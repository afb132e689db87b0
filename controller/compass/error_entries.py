"""The `errors` of a GraphQL answer. Equal errors have the same order and the same texts.

The Director sends errors in arbitrary order, with an id of this occurrence in the text. A text may also repeat secrets
of the request or of the answer.
"""

import re
from dataclasses import dataclass
from typing import Any

from controller.compass.errors import InvalidAnswer
from controller.compass.foreign_text import message_without_data
from controller.compass.queries import Operation
from controller.compass.redaction import Redactor, repeated_secrets

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


def read_errors(document: dict[str, Any], operation: Operation, secrets: frozenset[str]) -> tuple[ErrorEntry, ...]:
    """The errors, sorted by message, code and path. `secrets`: the secret values of the request.

    Raises InvalidAnswer if they are not a list, or too many.
    """
    entries = document.get("errors")
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise InvalidAnswer("is not a list", path="errors")
    if len(entries) > _MAX_ERRORS:
        raise InvalidAnswer(f"has {len(entries)} entries", path="errors")
    texts = [_texts(entry) for entry in entries]
    clean = _Cleaning(document.get("data"), {text for pair in texts for text in pair}, secrets)
    asked_for = frozenset(_NAME.findall(operation.text))
    read = [
        _error(entry if isinstance(entry, dict) else {}, clean(message), clean(error_id), asked_for)
        for entry, (message, error_id) in zip(entries, texts, strict=True)
    ]
    return tuple(sorted(read, key=_canonical))


class _Cleaning:
    """Removes secrets from the texts of errors."""

    def __init__(self, data: Any, texts: set[str], secrets: frozenset[str]) -> None:
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


def _texts(entry: Any) -> tuple[str, str]:
    """Message and error id."""
    raw = entry.get("message") if isinstance(entry, dict) else None
    if not isinstance(raw, str):
        return "", ""
    ids = _ERROR_ID.search(raw)
    message = _ERROR_ID.sub("", raw).strip() if ids else raw
    return message_without_data(message), (ids[1] or ids[2]) if ids else ""


def _error(entry: dict[str, Any], message: str, error_id: str, asked_for: frozenset[str]) -> ErrorEntry:
    path = entry.get("path")
    extensions = entry.get("extensions")
    code = extensions.get("error_code") if isinstance(extensions, dict) else None
    return ErrorEntry(
        message=message or "an error without a message",
        # Of the names only those that were asked for: any other text may be anything.
        path=tuple(
            step if type(step) is int or step in asked_for else "?"
            for step in (path if isinstance(path, list) else ())
            if isinstance(step, str) or type(step) is int
        ),
        code=code if type(code) is int else None,
        error_id=error_id,
    )


def _canonical(entry: ErrorEntry) -> tuple[str, int, tuple[str, ...]]:
    code = -1 if entry.code is None else entry.code
    return entry.message, code, tuple(map(str, entry.path))
