"""Makes text from outside fit for an error, a log, an Event or a status: short, one line, no data and no secrets."""

import base64
import json
import re
import urllib.parse
from collections.abc import Iterable

from controller.text import clean, printable

#: Enough to recognise an error; an error page of a proxy would fill the status.
MAX_FOREIGN_TEXT = 300

#: A longer message contains more than an error.
_MAX_MESSAGE = 4000

#: Where data begins in a message: JSON, also escaped or encoded, HTML, server-sent events. Data may contain secrets.
_DATA = re.compile(
    r"""[{<\\]|%7b|%3c|&(?:quot|lt|\#)|["']\s*:|\[\s*["']|^[^\S\n]*(?:data|event|id|retry):""",
    re.IGNORECASE | re.MULTILINE,
)

#: What a message itself calls a secret.
_NAMED_SECRET = re.compile(
    r"""((?:token|passw(?:or)?d|secret|credentials?|authorization|api.?key)["']?\s*[:=]\s*(?:(?:bearer|basic)\s+)?"""
    r"""|(?:bearer|basic)\s+(?=\S{12}))\S+""",
    re.IGNORECASE,
)

#: Bytes of a page in which its title or its first words are looked for.
_PAGE_BYTES = 4096

_MAX_WORDS = 20

#: A word that cannot be a generated secret. A number is a status, or the errno of a failed connection.
_WORD = re.compile(r"[A-Za-z]{1,24}(?:[-_/'][A-Za-z]{1,24}){0,4}[.,:;!?]{0,3}|[1-9][0-9]{2}[.,:;]?")

#: After these words comes a value.
_ANNOUNCING = ("token", "passw", "secret", "credential", "authorization", "bearer", "basic", "key", "data", "event")

_MASK = "[redacted]"


def first_words(body: bytes, media_type: str) -> str:
    """The title of an HTML page, or the first words of a text: up to the first one that may be a value. "" without any.

    Nothing of a body that may contain data: one that is nearly JSON, or JSON behind a prefix, may contain passwords.
    """
    page = body[:_PAGE_BYTES]
    lower = page.lower()
    if media_type == "text/html" or lower.lstrip().startswith((b"<!doctype html", b"<html")):
        _, opened, rest = lower.partition(b"<title>")
        end = rest.find(b"</title>")
        begin = len(page) - len(rest)
        page = page[begin : begin + end] if opened and end >= 0 else b""
    elif any(mark in page for mark in b'{}[]<>="'):
        return ""
    words = []
    for word in page.decode("ascii", errors="replace").split()[:_MAX_WORDS]:
        if not _WORD.fullmatch(word) or word.lower().startswith(_ANNOUNCING):
            break
        words.append(word)
    return " ".join(words)


def message_without_data(message: str) -> str:
    """A message up to the beginning of data, and without the values that it names as secrets."""
    if len(message) > _MAX_MESSAGE:
        return f"a message of {len(message)} characters"
    data = _DATA.search(message)
    if data is not None:
        message = f"{message[: data.start()].rstrip()} (followed by data)".strip()
    return _NAMED_SECRET.sub(r"\1[redacted]", message)


class Redactor:
    """Masks a set of secret values in texts. A text is masked before it is shortened, so that no part of a secret
    remains.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Longest first, or a secret that contains another one would stay readable around the mask. One pass for all,
        # because a short secret may occur in the mask itself.
        known = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, known))) if known else None

    def clean(self, text: str) -> str:
        """One short line of printable characters, without secrets."""
        whole = "".join(filter(str.isprintable, text))
        if self._mask(whole) != whole and self._mask(text) == text:
            text = whole  # what is not printable was hiding a secret
        return clean(self._mask(printable(self._mask(text))), MAX_FOREIGN_TEXT)

    def _mask(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(_MASK, text)


def _forms(secret: str) -> tuple[str, ...]:
    """The secret as plain text and in the encodings of JSON, URLs and headers. Nothing for an empty secret."""
    if not secret:
        return ()
    encoded = base64.b64encode(secret.encode(errors="replace")).decode()
    return secret, json.dumps(secret)[1:-1], urllib.parse.quote(secret, safe="", errors="replace"), encoded
