"""Which API servers are trusted, on every Python: those that client-go trusts."""

import base64
import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from informers import Client, ConnectionFailed, Resource
from tests.unit.compass.https_server import Authority

CONFIG_MAPS = Resource(group="", version="v1", plural="configmaps", kind="ConfigMap")


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("cluster")


@pytest.fixture
def url(authority: Authority, tmp_path: Path) -> Iterator[str]:
    """A server whose certificate, and whose authority's, have no key identifiers."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority.issue("localhost", key.public_key())
    for one in (certificate, authority.certificate):
        with pytest.raises(x509.ExtensionNotFound):
            one.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    (tmp_path / "server.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


def client(tmp_path: Path, cluster: dict[str, Any]) -> Client:
    config = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    return Client.load(str(tmp_path / "kubeconfig"))


def test_an_authority_needs_no_key_identifiers(url: str, authority: Authority, tmp_path: Path) -> None:
    """Some providers make such clusters. Python 3.13 refuses them unless it is told not to."""
    pem = authority.certificate.public_bytes(serialization.Encoding.PEM)
    trusting = client(tmp_path, {"server": url, "certificate-authority-data": base64.b64encode(pem).decode()})
    assert trusting.list(CONFIG_MAPS)["metadata"]["resourceVersion"] == "7"
    trusting.close()


def test_another_authority_is_not_trusted(url: str, tmp_path: Path) -> None:
    pem = Authority("somebody").certificate.public_bytes(serialization.Encoding.PEM)
    other = client(tmp_path, {"server": url, "certificate-authority-data": base64.b64encode(pem).decode()})
    with pytest.raises(ConnectionFailed, match="the certificate of the server is not trusted"):
        other.list(CONFIG_MAPS, timeout=1)
    other.close()


def test_without_an_authority_those_of_the_system_count(
    url: str, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL's default paths, SSL_CERT_FILE included."""
    (tmp_path / "roots.pem").write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    trusting = client(tmp_path, {"server": url})
    assert trusting.list(CONFIG_MAPS)["metadata"]["resourceVersion"] == "7"
    trusting.close()


def test_verification_can_be_turned_off(url: str, tmp_path: Path) -> None:
    careless = client(tmp_path, {"server": url, "insecure-skip-tls-verify": True})
    assert careless.list(CONFIG_MAPS)["metadata"]["resourceVersion"] == "7"
    careless.close()
