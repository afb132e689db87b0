"""Which proxy the environment names for an address: HTTPS_PROXY, else ALL_PROXY, unless NO_PROXY has the host.

Names in lower case win. NO_PROXY holds hosts, with or without a port, domains, IP addresses, and networks such as
10.0.0.0/8.
"""

import ipaddress
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import urllib3


def proxy_for(url: str) -> str | None:
    """The address of the proxy, None for none."""
    environment = getproxies_environment()
    proxy = environment.get("https") or environment.get("all")
    if not proxy or _is_bypassed(url, environment):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def proxy_headers(proxy: str) -> dict[str, str]:
    """What the user and the password in the address of a proxy become."""
    parts = urlsplit(proxy)
    if not parts.username:
        return {}
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {**urllib3.make_headers(proxy_basic_auth=credentials)}


def _is_bypassed(url: str, environment: dict[str, str]) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if any(proxy_bypass(name) for name in (host, f"{host}:{parts.port or 443}")):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in _networks(environment.get("no", "")))


def _networks(no_proxy: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    found = []
    for entry in no_proxy.split(","):
        try:
            found.append(ipaddress.ip_network(entry.strip(), strict=False))
        except ValueError:
            continue  # a name
    return found
