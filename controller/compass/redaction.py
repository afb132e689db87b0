"""Text of others, made fit for a log, an Event or a status."""

import json
import re
from collections.abc import Iterable
from typing import Any

#: Enough to recognise an error by; a proxy's error page would fill a status otherwise.
MAX_FOREIGN_TEXT = 300

#: Deeper than any answer of Compass goes; a JSON parser lets a thousand levels through.
_MAX_DEPTH = 50

_MASK = "[redacted]"

#: Field names whose values are secrets, in what Compass answers. Compared in lower case.
_SECRET_FIELDS = frozenset(
    {
        "token",
        "username",
        "password",
        "clientid",
        "clientsecret",
        "certificate",
        "additionalheaders",
        "additionalqueryparams",
        "connector-token",
        "authorization",
    }
)

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")


#: Plain texts that proxies answer with. A body is quoted only when it has no other words than these texts have, so that
#: nothing else that a body may hold gets into an error or a log by way of a quotation.
_PROXY_TEXTS = (
    # Envoy and Istio
    "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
    "retried and the latest reset reason: local connection failure, transport failure reason: delayed connect error",
    "reset reason: connection termination, connection timeout, remote reset, local reset, overflow, protocol error",
    "no healthy upstream",
    "upstream request timeout",
    "stream timeout",
    "local_rate_limited",
    "fault filter abort",
    "RBAC: access denied",
    "Jwt is missing",
    "Jwt is expired",
    "Jwt verification fails",
    "request headers too large",
    # nginx, Go's net/http, and whoever answers with the name of the status
    "404 page not found",
    "default backend - 404",
    "Bad Request",
    "Unauthorized",
    "Forbidden",
    "Method Not Allowed",
    "Request Timeout",
    "Payload Too Large",
    "Request Entity Too Large",
    "Too Many Requests",
    "Internal Server Error",
    "Bad Gateway",
    "Service Unavailable",
    "Service Temporarily Unavailable",
    "Gateway Timeout",
)
_PROXY_WORDS = frozenset(word.rstrip(".,:").lower() for text in _PROXY_TEXTS for word in text.split())
_NUMBER = re.compile("[1-9][0-9]{2}")
_MAX_PLAIN_BYTES = 200


def plain_words(body: bytes) -> str:
    """The body as text when every word of it is one that proxies use, else "".

    Nothing else is harmless for certain: a body that is nearly JSON, or JSON behind a prefix, holds passwords in clear.
    """
    if len(body) > _MAX_PLAIN_BYTES or not body.isascii():
        return ""
    words = body.decode("ascii").split()
    others = [word for word in words if word.rstrip(".,:").lower() not in _PROXY_WORDS]
    # One other word may be a number, such as the status or the errno of a failed connection.
    harmless = not others or (len(others) == 1 and _NUMBER.fullmatch(others[0]))
    return " ".join(words) if harmless else ""


class Redactor:
    """Masks a set of secret values in text. Text is cleaned before it is cut: half a secret is one still."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Longest first, or a secret that contains another one would stay readable around the mask. One pass for all,
        # as a short secret may well occur in the mask itself.
        known = sorted({form for secret in secrets if secret for form in _forms(secret)}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, known))) if known else None

    def clean(self, text: str) -> str:
        """One line of at most MAX_FOREIGN_TEXT characters without secrets and control characters."""
        # Masked on both sides of the stripping: it may break a secret up, or put one together.
        text = self.mask(_UNPRINTABLE.sub(" ", self.mask(text)).strip())
        text = self.mask(_UNPRINTABLE.sub("", text))
        return text if len(text) <= MAX_FOREIGN_TEXT else text[: MAX_FOREIGN_TEXT - 1] + "\u2026"

    def mask(self, text: str) -> str:
        """The text with every secret masked, uncut."""
        return text if self._pattern is None else self._pattern.sub(_MASK, text)


def _forms(secret: str) -> tuple[str, str]:
    """The secret as it is and as it looks inside JSON."""
    return secret, json.dumps(secret)[1:-1]


def secrets_within(value: Any) -> set[str]:
    """Every text below a field that holds secrets, at any depth of an answer."""
    found: set[str] = set()
    pending = [(value, False)]
    while pending:
        item, secret = pending.pop()
        if isinstance(item, dict):
            pending.extend((inner, secret or key.lower() in _SECRET_FIELDS) for key, inner in item.items())
        elif isinstance(item, list):
            pending.extend((inner, secret) for inner in item)
        elif secret and isinstance(item, str):
            found.add(item)
    return found


def masked(value: Any) -> str:
    """An answer or a set of headers as JSON with every secret field masked whole, for query logging."""

    def mask(item: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            return "..."
        if isinstance(item, dict):
            return {
                key: _MASK if key.lower() in _SECRET_FIELDS and inner is not None else mask(inner, depth + 1)
                for key, inner in item.items()
            }
        if isinstance(item, list):
            return [mask(inner, depth + 1) for inner in item]
        return item

    return json.dumps(mask(value, 0))
