"""URLs of Compass."""

from urllib.parse import urlsplit


def url_problem(url: str) -> str:
    """Why a token may not be sent to this URL, as in "the address ..."; "" if it may."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
        user = parts.username is not None or parts.password is not None
    except ValueError:
        usable = user = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        return "is not an https URL"
    return "must not hold a user name or a password" if user else ""
