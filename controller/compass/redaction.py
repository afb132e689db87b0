"""Removes secrets of a request and of its answer from the texts that are shown."""

import base64
import json
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Raw

from controller.compass.decoder import decode
from controller.compass.foreign_text import one_line
from controller.text import printable

_MASK = "[redacted]"

#: Headers whose values are no secrets.
_SHOWN_HEADERS = frozenset({"Tenant"})

#: Fields of an answer below which all texts are secrets, so that this includes kinds of credentials that do not exist
#: yet.
SECRET_FIELDS = frozenset({"token", "credential", "additionalHeaders", "additionalQueryParams"})

#: Fields below these that are no secrets.
_HARMLESS_FIELDS = frozenset({"__typename", "url"})

#: A secret of more characters is found by its beginning.
_LONGEST = 200

#: Levels of an answer; credentials are on the eleventh. Each level is read once more for each level above it.
_MAX_DEPTH = 20


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
        return one_line(self._mask(printable(self._mask(text))))

    def _mask(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(_MASK, text)


def _forms(secret: str) -> tuple[str, ...]:
    """The secret as plain text and in the encodings of JSON, URLs and headers. Nothing for an empty secret."""
    if not secret:
        return ()
    encoded = base64.b64encode(secret.encode(errors="replace")).decode()
    return secret, json.dumps(secret)[1:-1], urllib.parse.quote(secret, safe="", errors="replace"), encoded


def sent_secrets(headers: Mapping[str, str]) -> frozenset[str]:
    """The secret values of headers."""
    return frozenset(value for name, value in headers.items() if name not in _SHOWN_HEADERS)


def repeated_secrets(data: Raw | None, text: str) -> set[str]:
    """The parts of `text` that are secrets of the data of an answer, or the beginnings of long ones.

    The time is linear in the size of the data, for a text of limited length. The data of an answer that is too large to
    be read as a whole is read in parts.
    """
    secrets = {form[:_LONGEST] for secret in set(_secret_texts(data)) for form in _forms(secret)} if data else set()
    return {
        part
        for length in {len(secret) for secret in secrets}
        for start in range(len(text) - length + 1)
        if (part := text[start : start + length]) in secrets
    }


def _secret_texts(data: Raw) -> Iterator[str]:
    """Reads one level of the data at a time, so that little of it is in memory."""
    pending = [(data, False, 0)]
    while pending:
        text, is_secret, depth = pending.pop()
        first = bytes(memoryview(text)[:1]) if depth < _MAX_DEPTH else b""
        if first == b"{":
            pending += [
                (item, name not in _HARMLESS_FIELDS and (is_secret or name in SECRET_FIELDS), depth + 1)
                for name, item in decode(text, dict[str, Raw]).items()
            ]
        elif first == b"[":
            pending += [(item, is_secret, depth + 1) for item in decode(text, list[Raw])]
        elif first == b'"' and is_secret:
            yield decode(text, str)
