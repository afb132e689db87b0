import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from controller.compass import certificates, tls
from controller.compass.graphql import Transport
from tests.unit.compass.https_server import Authority, Server, pem, server_context


@pytest.fixture(scope="session")
def client_key() -> rsa.RSAPrivateKey:
    """One key of the real size for all tests: making one takes a second."""
    return certificates.new_key(2048)


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority("Test CA")


@pytest.fixture(scope="session")
def ca_file(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_bytes(pem(authority.certificate))
    return path


@pytest.fixture(scope="session")
def client_pair(client_key: rsa.RSAPrivateKey, authority: Authority) -> certificates.Credentials:
    leaf = authority.issue("client", client_key.public_key())
    return certificates.Credentials(client_key, (leaf, authority.certificate))


@pytest.fixture(scope="session")
def trusting(ca_file: Path) -> ssl.SSLContext:
    """A client's context that trusts the authority. Reading the roots of the system takes a while."""
    return tls.client_context(ca_file=ca_file)


@pytest.fixture
def server(authority: Authority) -> Iterator[Server]:
    running = Server(server_context(authority))
    yield running
    running.close()


@pytest.fixture
def transport(trusting: ssl.SSLContext) -> Iterator[Transport]:
    transport = Transport(trusting)
    yield transport
    transport.close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever proxy the machine has is none of the tests' business."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
