"""The probe of doctor says which step to a server fails."""

import socket
import ssl

import pytest

from controller.commands.probe import Probe, Step, probe
from controller.compass import tls
from tests.unit.compass.https_server import Server, http


def probed(url: str, context: ssl.SSLContext) -> Probe:
    return probe("Connector", url, context, timeout=20, now=lambda: 1000.0)


def test_any_status_is_an_answer(server: Server, trusting: ssl.SSLContext) -> None:
    """It carries no token, and brings the server's clock back."""
    server.answer = lambda _: http("no", status=400, Date="Thu, 01 Jan 1970 00:16:00 GMT")
    found = probed(server.url, trusting)
    assert found == Probe("Connector", server.url, status=400, date=960.0, received=1000.0)
    assert "connector-token" not in server.requests[0].headers


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_a_server_without_a_clock(server: Server, trusting: ssl.SSLContext, date: str) -> None:
    server.answer = lambda _: http("", Date=date)
    assert probed(server.url, trusting).date is None


NAMES = [
    ("https://compass.invalid/graphql", "", "the host name compass.invalid cannot be resolved"),
    (
        "https://compass.invalid/graphql",
        "http://proxy.invalid:3128",
        "through the proxy http://proxy.invalid:3128: the h",
    ),
    ("https://host:port/", "", ""),
]


@pytest.mark.parametrize(("url", "proxy", "text"), NAMES)
def test_a_name_that_cannot_be_resolved(
    trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, url: str, proxy: str, text: str
) -> None:
    """With a proxy, as the agent uses it, its name is the one to resolve."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    found = probed(url, trusting)
    assert found.failed is Step.NAME
    assert found.text.startswith(text)


def test_a_port_without_a_server(trusting: ssl.SSLContext) -> None:
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        found = probed(f"https://127.0.0.1:{bound.getsockname()[1]}/", trusting)
    assert found.failed is Step.CONNECTION
    assert "refused" in found.text


def test_a_server_of_another_authority(server: Server) -> None:
    found = probed(server.url, tls.client_context())
    assert found.failed is Step.TRUST
    assert found.text.startswith("the certificate of the server is not trusted: ")


def test_an_answer_that_is_not_http(server: Server, trusting: ssl.SSLContext) -> None:
    server.answer = lambda _: b"nonsense\r\n"
    assert probed(server.url, trusting).failed is Step.ANSWER


def test_a_server_that_turns_the_client_certificate_down(server: Server, trusting: ssl.SSLContext) -> None:
    """In TLS 1.3 its alert comes instead of the answer."""
    server.context.verify_mode = ssl.CERT_REQUIRED
    found = probed(server.url, trusting)
    assert found.failed is Step.TLS
    assert "TLS alert: certificate required" in found.text
