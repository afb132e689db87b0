"""The proxy of the API server is the one that kubectl uses: the same environment and kubeconfig for both."""

import base64
import os
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.compass.http import proxy_for
from e2e import pki
from e2e.controlplane.assets import find_assets
from informers import ApiError, Client, ConfigurationError
from informers.transport.proxies import Proxy

PROXY = "<proxy>"
"""In a row: host and port of the recording proxy."""

USED = {"HTTPS_PROXY": f"http://{PROXY}"}
# Hosts that answer nobody, and at once: a name without an address, and groups of no member.
NAME, IPV4, IPV6 = "https://api.example.invalid:6443", "https://239.1.2.3:6443", "https://[ff0e::1:2]:6443"


@dataclass(frozen=True)
class Note:
    """What the proxy is asked for, and with which user and password."""

    target: str
    credentials: bytes | None = None


class RecordingProxy(socketserver.ThreadingTCPServer):
    """Records each request and answers it with 502. With `context` it is an https proxy."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.context = context
        self.notes: set[Note] = set()
        self.address = f"127.0.0.1:{self.server_address[1]}"

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.context:
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not trust this proxy is not an error of the test."""
        if not isinstance(sys.exception(), ssl.SSLError):
            super().handle_error(request, client_address)


class _Handler(socketserver.StreamRequestHandler):
    server: RecordingProxy

    def handle(self) -> None:
        request = self.rfile.readline().split()
        credentials = None
        while (line := self.rfile.readline().strip()) != b"":
            name, _, value = line.partition(b": ")
            if name.lower() == b"proxy-authorization":
                credentials = base64.b64decode(value.removeprefix(b"Basic "))
        self.server.notes.add(Note(request[1].partition(b"?")[0].decode(), credentials))
        self.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@contextmanager
def running(server: RecordingProxy) -> Iterator[RecordingProxy]:
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def proxy() -> Iterator[RecordingProxy]:
    with running(RecordingProxy()) as server:
        yield server


@pytest.fixture(scope="session")
def kubectl() -> str:
    return str(find_assets().kubectl)


def excluding(*rules: str, url: str = NAME) -> tuple[str, dict[str, str]]:
    return url, USED | {"NO_PROXY": ",".join(rules)}


ROWS: dict[str, tuple[str, dict[str, str]]] = {
    # Which variable
    "nothing set": (NAME, {}),
    "HTTPS_PROXY": (NAME, USED),
    "https_proxy": (NAME, {"https_proxy": f"http://{PROXY}"}),
    "upper case wins": (NAME, {"HTTPS_PROXY": f"http://upper@{PROXY}", "https_proxy": f"http://lower@{PROXY}"}),
    "empty upper case": (NAME, {"HTTPS_PROXY": "", "https_proxy": f"http://lower@{PROXY}"}),
    "HTTP_PROXY is not for https": (NAME, {"HTTP_PROXY": f"http://{PROXY}"}),
    "HTTPS_PROXY is not for http": ("http://api.example.invalid", USED),
    "HTTP_PROXY": ("http://api.example.invalid", {"HTTP_PROXY": f"http://{PROXY}"}),
    "http_proxy with a user": ("http://api.example.invalid", {"http_proxy": f"http://u:p@{PROXY}"}),
    "ALL_PROXY": (NAME, {"ALL_PROXY": f"http://{PROXY}", "all_proxy": f"http://{PROXY}"}),
    "REQUEST_METHOD is for http only": (NAME, USED | {"REQUEST_METHOD": "GET"}),
    # The URL of the proxy
    "no scheme": (NAME, {"HTTPS_PROXY": PROXY}),
    "scheme in upper case": (NAME, {"HTTPS_PROXY": f"HTTP://{PROXY}"}),
    "path and query": (NAME, {"HTTPS_PROXY": f"http://{PROXY}/path?query#fragment"}),
    "user and password": (NAME, {"HTTPS_PROXY": f"http://u:p@{PROXY}"}),
    "user without password": (NAME, {"HTTPS_PROXY": f"http://u@{PROXY}"}),
    "empty user": (NAME, {"HTTPS_PROXY": f"http://@{PROXY}"}),
    "user without scheme": (NAME, {"HTTPS_PROXY": f"u:p@{PROXY}"}),
    "percent-encoded": (NAME, {"HTTPS_PROXY": f"http://a%3Ab:%2f%40%25%c3%a9@{PROXY}"}),
    "a plus is a plus": (NAME, {"HTTPS_PROXY": f"http://u+v:p+q@{PROXY}"}),
    "at sign in the password": (NAME, {"HTTPS_PROXY": f"http://u:p@q@{PROXY}"}),
    "colon in the password": (NAME, {"HTTPS_PROXY": f"http://u:p:q@{PROXY}"}),
    # Loopback
    "localhost": ("https://localhost:1", USED),
    "localhost in a domain": ("https://localhost.example.invalid", USED),
    "127.0.0.1": ("https://127.0.0.1:1", USED),
    "127.9.9.9": ("https://127.9.9.9:1", USED),
    "::1": ("https://[::1]:1", USED),
    "mapped loopback": ("https://[::ffff:127.0.0.1]:1", USED),
    "an address": (IPV4, USED),
    "an IPv6 address": (IPV6, USED),
    # NO_PROXY: names
    "everything": excluding("*"),
    "everything, among others": excluding("other", " * "),
    "no_proxy": (NAME, USED | {"no_proxy": "example.invalid"}),
    "NO_PROXY wins": (NAME, USED | {"NO_PROXY": "other", "no_proxy": "example.invalid"}),
    "the name": excluding("api.example.invalid"),
    "the name in upper case": excluding("API.example.INVALID"),
    "host in upper case": excluding("api.example.invalid", url="https://API.Example.invalid"),
    "parent domain": excluding("example.invalid"),
    "top-level domain": excluding("invalid"),
    "part of a label": excluding("ple.invalid"),
    "leading dot": excluding(".example.invalid"),
    "leading dot of the name itself": excluding(".api.example.invalid"),
    "star and dot": excluding("*.example.invalid"),
    "star and dot of the name itself": excluding("*.api.example.invalid"),
    "star in the middle": excluding("api.*.invalid"),
    "star without dot": excluding("*example.invalid"),
    "trailing dot": excluding("example.invalid."),
    "empty entries and spaces": excluding("", " ", " example.invalid ", ","),
    "spaces do not separate": excluding("other example.invalid"),
    "name and port": excluding("api.example.invalid:6443"),
    "domain and port": excluding("example.invalid:6443"),
    "leading dot and port": excluding(".example.invalid:6443"),
    "another port": excluding("example.invalid:443"),
    "default port": excluding("example.invalid:443", url="https://api.example.invalid"),
    "empty port": excluding("example.invalid:"),
    "port alone": excluding(":6443"),
    "with a scheme": excluding("https://api.example.invalid"),
    "a dot": excluding("."),
    "not in ASCII": excluding("bücher.invalid", url="https://bücher.invalid"),
    "not in ASCII, encoded": excluding("xn--bcher-kva.invalid", url="https://api.bücher.invalid"),
    # NO_PROXY: addresses
    "address": excluding("239.1.2.3", url=IPV4),
    "address and port": excluding("239.1.2.3:6443", url=IPV4),
    "address and another port": excluding("239.1.2.3:443", url=IPV4),
    "part of an address": excluding("239.1.2", url=IPV4),
    "mapped address": excluding("::ffff:239.1.2.3", url=IPV4),
    "address with a leading zero": excluding("239.1.2.03", url=IPV4),
    "a domain is no address": excluding("2.3", url=IPV4),
    "everything, an address": excluding("*", url=IPV4),
    "network": excluding("239.0.0.0/8", url=IPV4),
    "network with bits of a host": excluding("239.9.9.9/8", url=IPV4),
    "another network": excluding("239.1.2.4/30", url=IPV4),
    "all addresses": excluding("0.0.0.0/0", url=IPV4),
    "a network is not for names": excluding("0.0.0.0/0", "::/0"),
    "netmask": excluding("239.0.0.0/255.0.0.0", url=IPV4),
    "length out of range": excluding("239.0.0.0/33", url=IPV4),
    "network with port": excluding("239.0.0.0/8:6443", url=IPV4),
    "mapped network": excluding("::ffff:239.0.0.0/104", url=IPV4),
    "IPv6 address": excluding("ff0e::1:2", url=IPV6),
    "IPv6 address, written longer": excluding("FF0E:0::1:2", url=IPV6),
    "IPv6 address in brackets": excluding("[ff0e::1:2]", url=IPV6),
    "IPv6 address and port": excluding("[ff0e::1:2]:6443", url=IPV6),
    "IPv6 address and another port": excluding("[ff0e::1:2]:443", url=IPV6),
    "IPv6 network": excluding("ff0e::/16", url=IPV6),
    "another IPv6 network": excluding("ff0f::/16", url=IPV6),
    "all IPv4 addresses": excluding("0.0.0.0/0", url=IPV6),
}


@pytest.mark.parametrize("row", ROWS)
def test_environment(
    row: str, proxy: RecordingProxy, kubectl: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, environ = ROWS[row]
    environ = {name: value.replace(PROXY, proxy.address) for name, value in environ.items()}
    path = kubeconfig(tmp_path, url)
    ours = of_client(proxy, path, environ, monkeypatch)
    assert ours == of_kubectl(proxy, kubectl, path, environ)
    if url.startswith("https:"):
        # Compass is reached by the same rules.
        chosen = proxy_for(url)
        assert (chosen and authorization(chosen)) == next((note.credentials for note in ours), None)
        assert (chosen is not None) == bool(ours)


@pytest.mark.parametrize("url", [NAME, IPV4, "https://localhost:1", "https://127.0.0.1:1"])
@pytest.mark.parametrize("text", [f"http://u:p%2f@{PROXY}", f"HTTP://{PROXY}", f"http://{PROXY}/path"])
def test_proxy_url_wins(
    text: str, url: str, proxy: RecordingProxy, kubectl: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """proxy-url of a kubeconfig is for each host, also the own machine, whatever the environment has."""
    environ = {"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "*"}
    path = kubeconfig(tmp_path, url, text.replace(PROXY, proxy.address))
    notes = of_client(proxy, path, environ, monkeypatch)
    assert notes
    assert notes == of_kubectl(proxy, kubectl, path, environ)


def test_an_https_proxy_is_verified_with_the_authority_of_the_cluster(
    kubectl: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in Go, which has one TLS configuration for both. Nothing is sent to a proxy of another authority."""
    authority, other = pki.Authority("cluster"), pki.Authority("other")
    pair = authority.serving("proxy", dns_names=(), addresses=("127.0.0.1",))
    (tmp_path / "proxy.pem").write_bytes(pair.certificate_pem + pair.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "proxy.pem")
    with running(RecordingProxy(context)) as proxy:
        for trusted, notes in ((authority, {Note("api.example.invalid:6443", b"u:p")}), (other, set())):
            ca = base64.b64encode(trusted.certificate_pem).decode()
            path = kubeconfig(tmp_path, NAME, f"https://u:p@{proxy.address}", **{"certificate-authority-data": ca})
            assert of_client(proxy, path, {}, monkeypatch) == notes
            assert of_kubectl(proxy, kubectl, path, {}) == notes


@pytest.mark.parametrize("text", [PROXY, f"u:p@{PROXY}", f"//{PROXY}", f"ftp://{PROXY}", "http://a b"])
def test_an_unusable_proxy_url_is_refused(
    text: str, proxy: RecordingProxy, kubectl: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kubeconfig(tmp_path, NAME, text.replace(PROXY, proxy.address))
    assert of_kubectl(proxy, kubectl, path, USED) == set()
    with pytest.raises(ConfigurationError, match="proxy-url"):
        of_client(proxy, path, USED, monkeypatch)


@pytest.mark.parametrize("text", ["http://u:%zz@proxy", " http://proxy", "http://pröxy\n"])
def test_kubectl_connects_directly_where_an_unreadable_proxy_is_an_error_here(
    text: str, proxy: RecordingProxy, kubectl: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only difference: a direct connection would be a timeout without a reason, or pass by the proxy."""
    path = kubeconfig(tmp_path, NAME)
    environ = {"HTTPS_PROXY": text}
    assert "api.example.invalid" in run_kubectl(kubectl, path, environ)
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY"):
        of_client(proxy, path, environ, monkeypatch)


def kubeconfig(folder: Path, server: str, proxy_url: str | None = None, **more: str) -> Path:
    cluster = {"server": server, **more} | ({"proxy-url": proxy_url} if proxy_url else {})
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def of_client(
    proxy: RecordingProxy, path: Path, environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> set[Note]:
    """What the proxy notes of our client, whose process has only these variables from now on."""
    for name in [name for name in os.environ if "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    proxy.notes = set()
    client = Client.load(str(path))
    try:
        with pytest.raises(ApiError):
            client.request("GET", "/version", timeout=2.0)
    finally:
        client.close()
    return proxy.notes


def of_kubectl(proxy: RecordingProxy, kubectl: str, path: Path, environ: Mapping[str, str]) -> set[Note]:
    proxy.notes = set()
    run_kubectl(kubectl, path, environ)
    return proxy.notes


def run_kubectl(kubectl: str, path: Path, environ: Mapping[str, str]) -> str:
    """The error of a request; each row has one."""
    command = [kubectl, f"--kubeconfig={path}", "--request-timeout=2s", "get", "--raw", "/version"]
    done = subprocess.run(command, env=dict(environ), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    return done.stderr


def authorization(proxy: Proxy) -> bytes | None:
    return base64.b64decode(proxy.authorization.removeprefix("Basic ")) if proxy.authorization else None
