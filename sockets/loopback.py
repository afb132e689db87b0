"""The own machine, which no proxy of the environment is used for."""

import ipaddress
import urllib.parse


def is_own_machine(url: str) -> bool:
    """Whether Go would ignore HTTPS_PROXY for this URL (net/http/httpproxy). Python's libraries do not."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
