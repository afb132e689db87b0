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
    r"""[{<\\]|%7b|%3c|&(?:quot|lt|\#)|["']\s*:|\[\s*["']|^\s*(?:data|event|id|retry):""", re.IGNORECASE | re.MULTILINE
)

#: What a message itself calls a secret.
_NAMED_SECRET = re.compile(
    r"""((?:token|passw(?:or)?d|secret|credentials?|authorization|api.?key)["']?\s*[:=]\s*(?:(?:bearer|basic)\s+)?"""
    r"""|(?:bearer|basic)\s+(?=\S{12}))\S+""",
    re.IGNORECASE,
)

#: Texts of proxies. A body is quoted only if it consists of words in these texts, so that it cannot disclose anything.
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
    """The body as text if each of its words is used by proxies, else "".

    Nothing else is certainly harmless: a body that is nearly JSON, or JSON behind a prefix, may contain passwords.
    """
    if len(body) > _MAX_PLAIN_BYTES or not body.isascii():
        return ""
    words = body.decode("ascii").split()
    others = [word for word in words if word.rstrip(".,:").lower() not in _PROXY_WORDS]
    # One other word may be a number, such as the status or the errno of a failed connection.
    harmless = not others or (len(others) == 1 and _NUMBER.fullmatch(others[0]))
    return " ".join(words) if harmless else ""


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
