"""The proxy for a URL, as Go chooses it (golang.org/x/net/http/httpproxy; client-go tools/clientcmd, parseProxyURL).

- HTTPS_PROXY is for https and HTTP_PROXY for http. The upper-case variable wins over the lower-case one. ALL_PROXY is
  not read.
- NO_PROXY has host names, with their subdomains, ".domain" for the subdomains alone, addresses, networks in CIDR
  notation, each but a network with an optional port, and "*". localhost and loopback addresses never have a proxy.
- A proxy without a scheme is an http one. User and password of its URL become a Proxy-Authorization header.

Go connects directly if it cannot read the variable. Here that is an error, because a network that needs a proxy would
only show a timeout.
"""

import base64
import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes, urlsplit

_PORTS = {"http": 80, "https": 443}
_MAX_PORT = 65535

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]+)")
_HOST = r"""\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\]|[^\s\[\]:/@%<>"\\^`{|}\x00-\x1f\x7f]+"""
_HOST_PORT = re.compile(rf"(?P<host>{_HOST})(?::(?P<port>[0-9]{{1,5}}))?")
# Go: net/url, validUserinfo; a "%" begins two hexadecimal digits.
_USER_INFORMATION = re.compile(r"(?:[A-Za-z0-9._:~!$&'()*+,;=@-]|%[0-9A-Fa-f]{2})*")
# Go: net.SplitHostPort.
_WITH_PORT = re.compile(r"(?:\[(?P<bracketed>[^\[\]]*)\]|(?P<host>[^\[\]:]*)):(?P<port>[^\[\]:]*)")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class InvalidProxy(ValueError):
    """The proxy cannot be used. The text names the variable or the field, and contains neither user nor password."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """url: "http://host:port", without user information, or https. authorization: the Proxy-Authorization header."""

    url: str
    authorization: str | None = field(default=None, repr=False)


def from_environment(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for requests to `url`; None to connect directly. Raises InvalidProxy."""
    parts = urlsplit(url)
    variable = next((name for name in _variables(parts.scheme) if environ.get(name)), None)
    if variable is None:
        return None
    if parts.scheme == "http" and environ.get("REQUEST_METHOD"):
        # In a CGI program this variable is the header "Proxy" of a request, which anybody can send.
        raise InvalidProxy(f"{variable} is not used in a CGI program (REQUEST_METHOD is set): use a proxy of https")
    host = _ascii(parts.hostname or "")
    if not _needs_proxy(host, str(parts.port or _PORTS[parts.scheme]), environ):
        return None
    text = environ[variable]
    return _parse(text if "://" in text else f"http://{text}", variable)


def of_url(text: str) -> Proxy:
    """The proxy of a kubeconfig's proxy-url, for every host. It must have a scheme. Raises InvalidProxy."""
    return _parse(text, "proxy-url")


def _variables(scheme: str) -> tuple[str, ...]:
    return (f"{scheme.upper()}_PROXY", f"{scheme}_proxy") if scheme in _PORTS else ()


def _parse(text: str, source: str) -> Proxy:
    found = _URL.match(text)
    if found is None:
        raise InvalidProxy(f"{source} is not the URL of a proxy, such as http://proxy.example.com:3128")
    scheme = found["scheme"].lower()
    if scheme not in _PORTS:
        raise InvalidProxy(f"{source} names a {scheme} proxy, which is not supported: use one of http or https")
    user_information, at, address = found["authority"].rpartition("@")
    located = _HOST_PORT.fullmatch(address)
    host = _ascii(located["host"]) if located else ""
    port = int(located["port"] or _PORTS[scheme]) if located else 0
    if not host.isascii() or not 0 < port <= _MAX_PORT or (host[:1] == "[" and not _is_ipv6(host[1:-1])):
        raise InvalidProxy(f"{source} has no valid host and port after the scheme and the user information")
    if not _USER_INFORMATION.fullmatch(user_information):
        raise InvalidProxy(
            f"{source} has characters in its user or password that are not allowed there: write them as %XX"
        )
    authorization = None
    if at:
        user, _, password = user_information.partition(":")
        credentials = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
        authorization = f"Basic {base64.b64encode(credentials).decode()}"
    return Proxy(f"{scheme}://{host}:{port}", authorization)


def _needs_proxy(host: str, port: str, environ: Mapping[str, str]) -> bool:
    address = _address(host.partition("%")[0])  # without the zone
    if host == "localhost" or (address is not None and address.is_loopback):
        return False
    excluded = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    return not any(_matches(entry, host, port, address) for entry in _entries(excluded))


def _entries(excluded: str) -> Iterator[str]:
    return filter(None, (entry.strip().lower() for entry in excluded.split(",")))


def _matches(entry: str, host: str, port: str, address: _Address | None) -> bool:
    """Whether an entry of NO_PROXY is about this host or address."""
    if entry == "*":
        return True
    network = _network(entry)
    if network is not None:
        return address in network if address is not None else False
    with_port = _WITH_PORT.fullmatch(entry)
    if with_port:
        entry = with_port["bracketed"] or with_port["host"] or ""
        if with_port["port"] not in ("", port):
            return False
    excluded_address = _address(entry)
    if excluded_address is not None or address is not None:
        return excluded_address == address
    domain = _ascii(entry.removeprefix("*") if entry.startswith("*.") else entry)
    if domain.startswith("."):
        return host.endswith(domain)
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _address(text: str) -> _Address | None:
    """The address; an IPv4 address that is written as an IPv6 one is the same address."""
    try:
        address = ipaddress.ip_address(text) if "%" not in text else None
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_ipv6(text: str) -> bool:
    return ":" in text and _address(text.partition("%")[0]) is not None


def _network(text: str) -> _Network | None:
    base, slash, length = text.partition("/")
    if not slash or "%" in base or not length.isascii() or not length.isdigit():
        return None
    try:
        network = ipaddress.ip_network((base, int(length)), strict=False)
    except ValueError:
        return None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    return network if mapped is None else ipaddress.ip_network((mapped, network.prefixlen - 96), strict=False)


def _ascii(host: str) -> str:
    """The host name in lower case as the DNS has it. One that has no such form is unchanged, and is not resolved."""
    if host.isascii():
        return host.lower()
    try:
        return host.encode("idna").decode().lower()
    except UnicodeError:
        return host.lower()
