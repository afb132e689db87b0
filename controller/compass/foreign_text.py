"""Text from outside, made suitable for an error, a log, an Event or a status: short, one line, no data inside."""

import hashlib
import re

from controller.text import clean

#: Enough to recognise an error; an error page of a proxy would fill the status.
MAX_FOREIGN_TEXT = 300

#: Maximum length of a displayed name. Kubernetes allows 253 characters, and a list of names has to be readable.
_MAX_NAME = 253
_MAX_SHOWN_NAME = 60

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


def one_line(text: str, limit: int = MAX_FOREIGN_TEXT) -> str:
    """The text as one line of at most `limit` characters."""
    return clean(text, limit)


def shown_name(name: str) -> str:
    """A name for display. One that is too long for Kubernetes is shortened and made unique by a digest."""
    if len(name) <= _MAX_NAME and name.isprintable():
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{one_line(name, _MAX_SHOWN_NAME)} ({len(name)} characters, {digest})"


def message_without_data(message: str) -> str:
    """A message up to the beginning of data, and without the values that it names as secrets."""
    if len(message) > _MAX_MESSAGE:
        return f"a message of {len(message)} characters"
    data = _DATA.search(message)
    if data is not None:
        message = f"{message[: data.start()].rstrip()} (followed by data)".strip()
    return _NAMED_SECRET.sub(r"\1[redacted]", message)
