"""Whether a value may be sent to Compass: in a header, or as its URL. The texts are for people; "" if it may."""

from urllib.parse import urlsplit

_MAX_VALUE = 4096  # longer values would not fit into a header


def fault_of(value: str) -> str:
    """Why the value cannot be sent in a header."""
    if not value:
        return "is empty"
    if len(value) > _MAX_VALUE or not value.isprintable() or not value.isascii() or value != value.strip():
        return f"is not one line of printable ASCII of at most {_MAX_VALUE} characters"
    return ""


def fault_of_url(value: str) -> str:
    """Why nothing may be sent to this URL."""
    if fault := fault_of(value):
        return fault
    try:
        parts = urlsplit(value)
        usable = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0 and parts.username is None
    except ValueError:
        usable = False
    return "" if usable and " " not in value else "must be a URL that starts with https:// and has no user name"
