"""Names of Kubernetes objects and path segments, byte for byte as in the Go agent and the Application Gateway."""

import hashlib
import re

from controller.text import clean

#: The name of a Secret contains this many bytes of the application's name before "-" and the bundle's id: 63 with a
#: UUID.
_NAME_BYTES = 26

#: The gateway truncates the keys of its lookups to this many bytes.
_SEGMENT_BYTES = 57

_PREFIX = "mp-"
_PARAMS_PREFIX = "params-"

_NOT_IN_NAMES = re.compile(r"[^-a-z0-9]")
_DASHES = re.compile(r"-+")
_NOT_IN_SEGMENTS = re.compile(r"[^A-Za-z0-9]+")

#: RFC 1123 subdomain, the form of most object names, and its maximum length.
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SUBDOMAIN_LENGTH = 253

#: Of a longer name, so many characters are displayed: a list of names has to be readable.
_SHOWN_CHARACTERS = 60

_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_LABEL_VALUE_LENGTH = 63


def application_name(name: str) -> str:
    """The name that the Go agent derives when the Director has not normalised the name.

    A name that is normalised already stays unchanged; "mp-Foo" is not normalised and becomes "mp-mp-foo".
    """
    if name.startswith(_PREFIX) and _normal(name) == name:
        return name
    return _normal(_PREFIX + name)


def _normal(name: str) -> str:
    # By code point: U+0130 becomes a plain "i"; str.lower() would add a combining dot.
    lower = name.lower() if name.isascii() else "".join(character.lower()[0] for character in name)
    return _DASHES.sub("-", _NOT_IN_NAMES.sub("-", lower)).removesuffix("-")


def segment(name: str) -> str:
    """A name as a path segment of the gateway. It may be empty, and may end in "-" where it was truncated."""
    dashed = _NOT_IN_SEGMENTS.sub("-", name).lower().removesuffix("-")
    return dashed[:_SEGMENT_BYTES].removeprefix("-")  # ASCII only, so characters are bytes


def service_name(bundle_segment: str, bundle_id: str) -> str:
    """The name of a bundle's service: the segment of its name, and five hex digits that make equal names unique."""
    digest = hashlib.sha1(bundle_id.encode(), usedforsecurity=False).hexdigest()
    return f"{bundle_segment}-{digest[:5]}".removeprefix("-")


def secret_name(application: str, bundle_id: str) -> str:
    """The name of the Secret with a bundle's credentials."""
    return f"{_cut(application)}-{bundle_id}"


def params_secret_name(application: str, bundle_id: str) -> str:
    """The name of the Secret with a bundle's request parameters."""
    return f"{_cut(_PARAMS_PREFIX + application)}-{bundle_id}"


def _cut(text: str) -> str:
    return text.encode()[:_NAME_BYTES].decode(errors="replace")


def shown_name(name: str) -> str:
    """A name for display. One that is too long for Kubernetes is shortened and made unique by a digest."""
    if len(name) <= _SUBDOMAIN_LENGTH and name.isprintable():
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{clean(name, _SHOWN_CHARACTERS)} ({len(name)} characters, {digest})"


def name_problem(name: str) -> str | None:
    """Why Kubernetes refuses this object name; None if it is valid."""
    if len(name) > _SUBDOMAIN_LENGTH:
        return f"is longer than {_SUBDOMAIN_LENGTH} characters"
    if not _SUBDOMAIN.fullmatch(name):
        return "may only hold lower-case letters, digits, '-' and '.', each part beginning and ending without '-'"
    return None


def label_value_problem(value: str) -> str | None:
    """Why Kubernetes refuses this label value; None if it is valid."""
    if len(value) > _LABEL_VALUE_LENGTH:
        return f"is longer than {_LABEL_VALUE_LENGTH} characters"
    if not _LABEL_VALUE.fullmatch(value):
        return "may only hold letters, digits, '-', '_' and '.', and must begin and end with a letter or digit"
    return None
