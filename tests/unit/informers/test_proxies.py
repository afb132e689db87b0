"""Which proxy a URL has, and what is an error. The same rules as Go's are compared with kubectl in
tests/integration/informers/test_proxies.py.
"""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from informers.transport.proxies import InvalidProxy, Proxy, from_environment, of_url

HOST = "https://api.example.com:6443"


@pytest.mark.parametrize(
    ("text", "url", "credentials"),
    [
        ("http://proxy.example.com:3128", "http://proxy.example.com:3128", None),
        ("https://proxy.example.com", "https://proxy.example.com:443", None),
        ("http://10.0.0.1:3128", "http://10.0.0.1:3128", None),
        ("http://[2001:DB8::1]:3128", "http://[2001:db8::1]:3128", None),
        ("http://[fe80::1%25eth0]:3128", "http://[fe80::1%25eth0]:3128", None),
        ("http://a%3ab:%2f%40%25%C3%A9@proxy:1", "http://proxy:1", "a:b:/@%é".encode()),
        ("http://bücher.example:1", "http://xn--bcher-kva.example:1", None),
    ],
)
def test_the_url_and_the_authorization_are_apart(text: str, url: str, credentials: bytes | None) -> None:
    authorization = None if credentials is None else f"Basic {base64.b64encode(credentials).decode()}"
    assert of_url(text) == Proxy(url, authorization)
    assert from_environment(HOST, {"HTTPS_PROXY": text}) == Proxy(url, authorization)
    assert authorization is None or authorization not in repr(of_url(text))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("socks5://u:secret@proxy:1080", "names a socks5 proxy"),
        ("socks5h://u:secret@proxy:1080", "names a socks5h proxy"),
        ("ftp://u:secret@proxy:21", "names a ftp proxy"),
        ("http://", "is not the URL of a proxy"),
        ("http:///secret", "is not the URL of a proxy"),
        ("http://u:secret@", "no valid host and port"),
        ("http://u:secret@proxy:", "no valid host and port"),
        ("http://u:secret@proxy:0", "no valid host and port"),
        ("http://u:secret@proxy:65536", "no valid host and port"),
        ("http://u:secret@proxy:http", "no valid host and port"),
        ("http://u:secret@pro xy:1", "no valid host and port"),
        ("http://u:secret@proxy:1\n", "no valid host and port"),
        ("http://u:secret@::1:3128", "no valid host and port"),
        ("http://u:secret@[::1]x", "no valid host and port"),
        ("http://u:secret@[fd00:1]:3128", "no valid host and port"),
        ("http://u:secret@[10.0.0.1]:3128", "no valid host and port"),
        ("http://u:secret@\udcff:1", "no valid host and port"),
        ("http://u:se/cret@proxy:1", "no valid host and port"),
        ("http://u:se cret@proxy:1", "user or password"),
        ("http://u:secrét@proxy:1", "user or password"),
        ("http://u:secret%@proxy:1", "user or password"),
        ("http://u:secret%zz@proxy:1", "user or password"),
        (" http://u:secret@proxy:1", "not the URL"),
        ("http:/u:secret@proxy", "not the URL"),
    ],
)
def test_what_cannot_be_used_is_an_error_without_the_password(text: str, problem: str) -> None:
    with pytest.raises(InvalidProxy, match=rf"^proxy-url .*{problem}") as caught:
        of_url(text)
    assert "cret" not in str(caught.value)
    with pytest.raises(InvalidProxy, match=r"^https_proxy ") as caught:
        from_environment(HOST, {"https_proxy": text})
    assert "cret" not in str(caught.value)


_PARTS = st.text(st.sampled_from("htps:/@[]%2.u\n?#*") | st.characters(), max_size=20)


@given(_PARTS, _PARTS)
def test_any_text_is_a_proxy_or_an_error(before: str, after: str) -> None:
    """The error does not quote it: any part may be a password."""
    for text in (before, f"{before}_secret_{after}"):
        for proxy in (of_url, lambda value: from_environment(HOST, {"HTTPS_PROXY": value})):
            try:
                found = proxy(text)
            except InvalidProxy as error:
                assert "_secret_" not in str(error)  # noqa: PT017 - both ends are valid
            else:
                assert found is None or found.url.isascii()


@given(st.text(st.sampled_from(",.*:[]/0123456789abf ") | st.characters(), max_size=30))
def test_any_text_is_a_valid_no_proxy(text: str) -> None:
    """As in Go, an entry that is no host excludes nothing."""
    for url in (HOST, "https://10.0.0.1", "https://[fd00::1]"):
        from_environment(url, {"HTTPS_PROXY": "proxy", "NO_PROXY": text})


def test_a_proxy_that_is_not_used_is_not_read() -> None:
    unusable = {"HTTPS_PROXY": "socks5://proxy", "NO_PROXY": "example.com"}
    assert from_environment(HOST, unusable) is None
    assert from_environment("https://localhost", {"HTTPS_PROXY": "socks5://proxy"}) is None
    assert from_environment("http://api.example.com", unusable) is None


def test_http_proxy_is_not_used_in_a_cgi_program() -> None:
    """There, a client sets it with a header. HTTPS_PROXY is of the operator."""
    with pytest.raises(InvalidProxy, match=r"^HTTP_PROXY .* CGI"):
        from_environment("http://api.example.com", {"HTTP_PROXY": "proxy", "REQUEST_METHOD": "GET"})
    assert from_environment(HOST, {"HTTPS_PROXY": "proxy", "REQUEST_METHOD": "GET"}) == Proxy("http://proxy:80")
