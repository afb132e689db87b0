"""Credentials that a program prints: real programs, and a server that refuses what they printed."""

import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from informers import Client, ConfigurationError, Unauthorized
from informers.configuration import load
from informers.testing.server import Answer, FakeAPIServer
from workqueue.testing import VirtualClock

OK = Answer(200, body=b"{}")
REFUSED = Answer(401, "Unauthorized")
API_VERSION = "client.authentication.k8s.io/v1"

# Prints what lies in the file `status`, with %d for how often it has run, and counts.
PROGRAM = f"""
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
count = here / "count"
runs = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(runs))
status = (here / "status").read_text().replace("%d", str(runs))
if status.startswith("fail"):
    print("no network", file=sys.stderr)
    sys.exit(3)
assert json.loads(os.environ["KUBERNETES_EXEC_INFO"])["kind"] == "ExecCredential"
print('{{"apiVersion": "{API_VERSION}", "kind": "ExecCredential", "status": ' + status + "}}")
"""


class Plugin:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        (directory / "plugin.py").write_text(PROGRAM)
        self.prints(token="token-%d")

    def prints(self, **status: Any) -> None:
        self.prints_text(json.dumps(status))

    def prints_text(self, text: str) -> None:
        (self._directory / "status").write_text(text)

    @property
    def runs(self) -> int:
        return int((self._directory / "count").read_text())

    def kubeconfig(self, server: str, **changes: Any) -> str:
        exec_config = {
            "apiVersion": API_VERSION,
            "command": sys.executable,
            "args": [str(self._directory / "plugin.py")],
            "installHint": "get it from the shop",
        }
        config = {
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"exec": exec_config | changes}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path = self._directory / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return str(path)


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def client_of(plugin: Plugin, server: FakeAPIServer, clock: VirtualClock, **changes: Any) -> Client:
    return Client(*load(plugin.kubeconfig(server.url, **changes), clock=clock), clock=clock)


def tokens(server: FakeAPIServer) -> list[str | None]:
    return [request.headers.get("Authorization") for request in server.requests]


def test_runs_once_for_all_requests(server: FakeAPIServer, plugin: Plugin, clock: VirtualClock) -> None:
    """Also for those that come together."""
    server.inject("other", *[OK] * 8)
    client = client_of(plugin, server, clock)
    threads = [threading.Thread(target=client.request, args=("GET", "/x")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert tokens(server) == ["Bearer token-1"] * 8
    client.close()


def test_refused_credentials_are_obtained_anew(server: FakeAPIServer, plugin: Plugin, clock: VirtualClock) -> None:
    """After a 401, without an expiry, and once for all requests that were refused."""
    server.inject("other", OK, REFUSED, REFUSED, OK, OK)
    client = client_of(plugin, server, clock)
    client.request("GET", "/x")
    clock.advance(1)
    with pytest.raises(Unauthorized):
        client.request("GET", "/x")
    client._credentials.refused(sent_at=0.0)  # one that was sent before and is answered late
    with pytest.raises(Unauthorized):
        client.request("GET", "/x")
    client._credentials.refused(sent_at=1.0)
    client.request("GET", "/x")
    assert tokens(server) == ["Bearer token-1"] * 2 + ["Bearer token-2"] * 2
    assert plugin.runs == 2
    client.close()


def test_expired_credentials_are_obtained_anew(server: FakeAPIServer, plugin: Plugin, clock: VirtualClock) -> None:
    """When the time that the program named has come."""
    plugin.prints(token="token-%d", expirationTimestamp="2026-01-01T01:00:00Z")
    server.inject("other", *[OK] * 3)
    client = client_of(plugin, server, clock)
    client.request("GET", "/x")
    clock.advance(3599)
    client.request("GET", "/x")
    clock.advance(1)
    client.request("GET", "/x")
    assert tokens(server) == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]
    client.close()


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "it fails": ("fail", {}, r"process returned 3\. no network"),
    "its answer is no JSON": ("s3cret", {}, "failed to decode process output"),
    "its answer has no status": ("[]", {}, "its status is no object"),
    "it prints neither token nor certificate": ("{}", {}, "neither a token nor a client certificate"),
    "a certificate without its key": ('{"clientCertificateData": "s3cret"}', {}, "without its key"),
    "a token that is no text": ('{"token": {"s3cret": 1}}', {}, "its token is no text"),
    "a time that is none": ('{"token": "s3cret", "expirationTimestamp": "soon"}', {}, "its answer cannot be used"),
    "it is not installed": ("{}", {"command": "no-such-plugin"}, "it is not installed: get it from the shop"),
}


@pytest.mark.parametrize(("text", "changes", "why"), BAD.values(), ids=BAD.keys())
def test_failure(
    server: FakeAPIServer, plugin: Plugin, clock: VirtualClock, text: str, changes: dict[str, Any], why: str
) -> None:
    """Nothing is sent without credentials, the error says why and repeats no secret; the next request tries again."""
    plugin.prints_text(text)
    server.inject("other", OK)
    client = client_of(plugin, server, clock, **changes)
    with pytest.raises(ConfigurationError, match=rf"the credential plugin .* failed: .*{why}") as caught:
        client.request("GET", "/x")
    assert "s3cret" not in str(caught.value)
    assert not server.requests
    if not changes:
        plugin.prints(token="good")
        client.request("GET", "/x")
        assert tokens(server) == ["Bearer good"]
    client.close()


def test_without_a_command(server: FakeAPIServer, plugin: Plugin, clock: VirtualClock) -> None:
    """Is told when the kubeconfig is read."""
    path = Path(plugin.kubeconfig(server.url))
    path.write_text(path.read_text().replace("command:", "commando:"))
    with pytest.raises(ConfigurationError, match=r"kubeconfig .* cannot be used: .*'command'"):
        load(str(path), clock=clock)


def test_certificates(plugin: Plugin, clock: VirtualClock) -> None:
    """Lie in files that only this user reads, two generations at most; the same one lies there once."""
    plugin.prints(clientCertificateData="C%d", clientKeyData="K%d")
    _, credentials = load(plugin.kubeconfig("https://nowhere:1"), clock=clock)
    seen = []
    for _ in range(4):
        certificate = credentials.certificate()
        assert certificate is not None
        assert credentials.authorization() is None
        seen.append(certificate)
        clock.advance(1)
        credentials.refused(sent_at=clock.monotonic())
    assert [Path(certificate).exists() for certificate, _ in seen] == [False, False, True, True]
    certificate, key = map(Path, seen[-1])  # type: ignore[assignment]
    assert (certificate.read_text(), key.read_text()) == ("C4", "K4")  # type: ignore[union-attr]
    assert key.stat().st_mode & 0o077 == 0
    plugin.prints(clientCertificateData="C4", clientKeyData="K4")
    assert credentials.certificate() == seen[-1]
    assert plugin.runs == 5
