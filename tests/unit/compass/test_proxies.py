"""Which proxy the environment names for an address."""

import base64

import pytest

from controller.compass import Unavailable, client_context
from controller.compass.http import HttpClient
from controller.compass.proxies import proxy_for, proxy_headers

URL = "https://compass.example.com/graphql"
PROXY = "http://proxy.example.com:3128"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """None of this machine's own."""
    for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": PROXY}, PROXY),
        ({"https_proxy": PROXY}, PROXY),
        ({"HTTPS_PROXY": "http://other:1", "https_proxy": PROXY}, PROXY),
        ({"ALL_PROXY": PROXY}, PROXY),
        ({"ALL_PROXY": "http://other:1", "HTTPS_PROXY": PROXY}, PROXY),
        ({"HTTP_PROXY": PROXY}, None),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTPS_PROXY": "proxy.example.com:3128"}, PROXY),
    ],
)
def test_the_proxy(environment: pytest.MonkeyPatch, variables: dict[str, str], proxy: str | None) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    assert proxy_for(URL) == proxy


@pytest.mark.parametrize(
    ("no_proxy", "url", "bypassed"),
    [
        ("compass.example.com", URL, True),
        ("other.example, compass.example.com", URL, True),
        ("example.com", URL, True),
        (".example.com", URL, True),
        ("ample.com", URL, False),
        ("*", URL, True),
        ("compass.example.com:443", URL, True),
        ("compass.example.com:8443", URL, False),
        ("compass.example.com:8443", "https://compass.example.com:8443/graphql", True),
        ("10.0.0.0/8", "https://10.1.2.3/", True),
        ("10.0.0.0/8", "https://11.1.2.3/", False),
        ("10.1.2.3", "https://10.1.2.3:8443/", True),
        ("fd00::/8", "https://[fd00::1]:8443/", True),
        ("fd00::/8", "https://[::1]/", False),
        ("10.0.0.0/8", URL, False),
        ("", URL, False),
        (", ,", URL, False),
        ("10.0.0.0/99", "https://10.1.2.3/", False),
    ],
)
def test_hosts_that_need_none(environment: pytest.MonkeyPatch, no_proxy: str, url: str, bypassed: bool) -> None:
    environment.setenv("HTTPS_PROXY", PROXY)
    environment.setenv("NO_PROXY", no_proxy)
    assert proxy_for(url) == (None if bypassed else PROXY)


def test_user_and_password_become_a_header() -> None:
    """Percent-encoded in the address, plain in the header."""
    ((name, value),) = proxy_headers("http://us%40er:p%3Aass@proxy:3128").items()
    assert name == "proxy-authorization"
    assert base64.b64decode(value.removeprefix("Basic ")) == b"us@er:p:ass"
    assert proxy_headers(PROXY) == {}


@pytest.mark.parametrize("proxy", ["ftp://proxy:1", "socks5://proxy:1", "http://[::1", "http://", "http://proxy:port"])
def test_a_proxy_that_cannot_be_used_is_an_outage(environment: pytest.MonkeyPatch, proxy: str) -> None:
    """Whoever corrects the environment has it work again; nothing is taken for refused."""
    environment.setenv("HTTPS_PROXY", proxy)
    client = HttpClient(client_context(), max_bytes=1000)
    try:
        with pytest.raises(Unavailable, match="prox"):
            client.post(URL, b"", headers={}, timeout=5)
    finally:
        client.close()
