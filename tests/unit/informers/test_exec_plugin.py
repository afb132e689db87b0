"""Credentials that a program prints: real programs, and a server that refuses what they printed."""

import contextlib
import json
import logging
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import Configuration

from e2e.pki import Authority
from informers import Client, NoCredentials, Stop, Stopped, Unauthorized
from informers.configuration import load
from informers.credentials import Credentials
from tests.clock import VirtualClock
from tests.fake_api_server.server import Answer, FakeAPIServer
from tests.fake_api_server.waiting import eventually

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
            "interactiveMode": "Never",
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


def credentials_of(plugin: Plugin, clock: VirtualClock, **changes: Any) -> Credentials:
    """Those for an https server: none are sent over http."""
    return load(plugin.kubeconfig("https://nowhere:1", **changes), clock=clock)[1]


def client_of(plugin: Plugin, server: FakeAPIServer, clock: VirtualClock, **changes: Any) -> Client:
    return Client(Configuration(host=server.url), credentials_of(plugin, clock, **changes), clock=clock)


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
    "it fails": ("fail", {}, "its exit status is 3: no network"),
    "its answer is no JSON": ("s3cret", {}, "its answer is not JSON"),
    "its answer has no status": ("[]", {}, "its answer has no status"),
    "it prints neither token nor certificate": ("{}", {}, "neither a token nor a client certificate"),
    "a certificate without its key": ('{"clientCertificateData": "s3cret"}', {}, "without its key"),
    "a certificate that is none": (
        '{"clientCertificateData": "s3cret", "clientKeyData": "s3cret"}',
        {},
        "not readable, unencrypted PEM",
    ),
    "a token that is no text": ('{"token": {"s3cret": 1}}', {}, "the token of its answer is no text"),
    "a token on two lines": ('{"token": "s3cret\\nX: y"}', {}, "not one line of printable characters"),
    "a time that is none": ('{"token": "s3cret", "expirationTimestamp": "soon"}', {}, "not a time with a zone"),
    "it is not installed": ("{}", {"command": "no-such-plugin"}, "it is not installed: get it from the shop"),
    "it cannot be started": ("{}", {"command": "/etc/passwd"}, "it is not installed"),
    "a variable that none can have": ("{}", {"env": [{"name": "a=b", "value": "s3cret"}]}, "illegal environment"),
}


@pytest.mark.parametrize(("text", "changes", "why"), BAD.values(), ids=BAD.keys())
def test_failure(
    server: FakeAPIServer, plugin: Plugin, clock: VirtualClock, text: str, changes: dict[str, Any], why: str
) -> None:
    """Nothing is sent without credentials, the error says why and repeats no secret; the next request tries again."""
    plugin.prints_text(text)
    server.inject("other", OK)
    client = client_of(plugin, server, clock, **changes)
    with pytest.raises(NoCredentials, match=rf"the credential plugin .* failed: .*{why}") as caught:
        client.request("GET", "/x")
    assert "s3cret" not in str(caught.value)
    assert not server.requests
    if not changes:
        plugin.prints(token="good")
        client.request("GET", "/x")
        assert tokens(server) == ["Bearer good"]
    client.close()


def test_certificates(plugin: Plugin, clock: VirtualClock) -> None:
    """Are the TLS material after authorization(), which is equal while the certificate is."""
    pairs = [Authority("a").client(name, ()) for name in ("one", "two")]
    credentials = credentials_of(plugin, clock)
    materials = []
    for pair in (pairs[0], pairs[0], pairs[1]):
        plugin.prints(clientCertificateData=pair.certificate_pem.decode(), clientKeyData=pair.key_pem.decode())
        assert credentials.authorization(timeout=60, stop=None) is None
        materials.append(credentials.tls())
        assert materials[-1].certificate == pair.certificate_pem.rstrip() + b"\n" + pair.key_pem
        clock.advance(1)
        credentials.refused(sent_at=clock.monotonic())
    assert materials[0] == materials[1]
    assert materials[0] != materials[2]
    assert "KEY" not in repr(materials[0])
    assert plugin.runs == 3


def test_expired_credentials_run_the_program_once(server: FakeAPIServer, plugin: Plugin, clock: VirtualClock) -> None:
    """For each request: also if it prints such that have expired, by a clock that is wrong for example."""
    plugin.prints(token="token-%d", expirationTimestamp="2020-01-01T00:00:00Z")
    server.inject("other", OK, OK)
    client = client_of(plugin, server, clock)
    client.request("GET", "/x")
    client.request("GET", "/x")
    assert tokens(server) == ["Bearer token-1", "Bearer token-2"]
    client.close()


def test_a_refusal_while_credentials_are_handed_out(plugin: Plugin, clock: VirtualClock) -> None:
    """They are handed out all the same, to the request that asked for them. It was None once."""
    credentials = credentials_of(plugin, clock)

    class Refusal(logging.Handler):
        """Comes between the moment when the credentials are stored and the moment when they are returned."""

        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "Credential plugin returned credentials":
                came.set()
                clock.advance(1)
                credentials.refused(sent_at=clock.monotonic())

    came = threading.Event()
    handler = Refusal()
    logger = logging.getLogger("informers.exec_plugin")
    logger.addHandler(handler)
    try:
        assert credentials.authorization(timeout=60, stop=None) == "Bearer token-1"
    finally:
        logger.removeHandler(handler)
    assert came.is_set()
    assert credentials.authorization(timeout=60, stop=None) == "Bearer token-2"


class TestHanging:
    """A program that waits for something that does not come, in a child of its own."""

    @pytest.fixture
    def hanging(self, tmp_path: Path) -> Plugin:
        plugin = Plugin(tmp_path)
        (tmp_path / "plugin.py").write_text(
            "import os, pathlib, subprocess, sys\n"
            "child = subprocess.Popen(['sleep', '600'])\n"
            "pathlib.Path(__file__).with_name('pids').write_text(f'{os.getpid()} {child.pid}')\n"
            "child.wait()\n"
        )
        return plugin

    def pids(self, tmp_path: Path) -> list[int]:
        file = tmp_path / "pids"
        eventually(lambda: file.exists() and len(file.read_text().split()) == 2)
        return [int(pid) for pid in file.read_text().split()]

    def ended(self, pids: list[int]) -> None:
        """All have ended, the child too, which nobody but the system waits for."""
        eventually(lambda: not any(is_running(pid) for pid in pids))

    def test_is_ended_after_its_time(self, hanging: Plugin, clock: VirtualClock, tmp_path: Path) -> None:
        """Also if it is a later request that notices. The next one starts it again."""
        credentials = credentials_of(hanging, clock)
        with pytest.raises(NoCredentials, match="has not finished in the time of the request"):
            credentials.authorization(timeout=0.1, stop=advancing(clock, 0.1))
        pids = self.pids(tmp_path)
        clock.advance(30)
        with pytest.raises(NoCredentials, match="has not finished in the time of the request"):
            credentials.authorization(timeout=0, stop=None)
        assert all(is_running(pid) for pid in pids)
        clock.advance(30)
        with pytest.raises(NoCredentials, match="did not finish within 60 s and was ended"):
            credentials.authorization(timeout=60, stop=None)
        self.ended(pids)
        (tmp_path / "plugin.py").write_text(PROGRAM)
        assert credentials.authorization(timeout=60, stop=None) == "Bearer token-1"

    def test_goes_on_after_the_request_that_started_it(
        self, plugin: Plugin, clock: VirtualClock, tmp_path: Path
    ) -> None:
        """A program that is slower than a request must come to its end at some time."""
        (tmp_path / "gate").touch()
        gated = "import pathlib, time\nwhile pathlib.Path(__file__).with_name('gate').exists(): time.sleep(0.01)\n"
        (tmp_path / "plugin.py").write_text(gated + PROGRAM)
        credentials = credentials_of(plugin, clock)
        with pytest.raises(NoCredentials, match="has not finished"):
            credentials.authorization(timeout=0.1, stop=advancing(clock, 0.1))
        (tmp_path / "gate").unlink()
        assert credentials.authorization(timeout=60, stop=None) == "Bearer token-1"
        assert plugin.runs == 1

    def test_others_wait_no_longer_than_they_may(self, hanging: Plugin, clock: VirtualClock, tmp_path: Path) -> None:
        """The error says what hangs."""
        credentials = credentials_of(hanging, clock)
        stop = threading.Event()
        first = threading.Thread(target=quietly, args=(credentials, stop))
        first.start()
        self.pids(tmp_path)
        with pytest.raises(NoCredentials, match=f"credential plugin {sys.executable} has not finished"):
            credentials.authorization(timeout=0, stop=None)
        stop.set()
        first.join(60)
        assert not first.is_alive()

    @pytest.mark.parametrize("how", ["stop", "close", "close, with nobody waiting"])
    def test_ends_at_once(self, hanging: Plugin, clock: VirtualClock, tmp_path: Path, how: str) -> None:
        """By the stop of the request that waits for it, and by close()."""
        credentials = credentials_of(hanging, clock)
        stop = threading.Event()
        waiting = threading.Thread(target=quietly, args=(credentials, stop))
        waiting.start()
        pids = self.pids(tmp_path)
        if how == "stop":
            stop.set()
        elif how == "close":
            credentials.close()
        else:
            clock.advance(30)
            waiting.join(60)
            credentials.close()
        waiting.join(60)
        assert not waiting.is_alive()
        self.ended(pids)

    def test_a_request_that_is_stopped_says_so(
        self, hanging: Plugin, server: FakeAPIServer, clock: VirtualClock, tmp_path: Path
    ) -> None:
        client, stop = client_of(hanging, server, clock), Stop()
        threading.Thread(target=lambda: (self.pids(tmp_path), stop.set())).start()  # type: ignore[func-returns-value]
        with pytest.raises(Stopped):
            client.request("GET", "/x", stop=stop)
        client.close()

    def test_starts_no_more_after_close(self, plugin: Plugin, clock: VirtualClock, tmp_path: Path) -> None:
        credentials = credentials_of(plugin, clock)
        credentials.close()
        with pytest.raises(NoCredentials, match="was ended"):
            credentials.authorization(timeout=60, stop=None)
        assert not (tmp_path / "count").exists()


def quietly(credentials: Credentials, stop: threading.Event) -> None:
    with contextlib.suppress(NoCredentials):
        credentials.authorization(timeout=30, stop=stop)


def is_running(pid: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def advancing(clock: VirtualClock, seconds: float) -> threading.Event:
    """An Event that is never set. Who looks at it a second time finds that so much time has passed."""

    class Advancing(threading.Event):
        looks = 0

        def is_set(self) -> bool:
            self.looks += 1
            if self.looks == 2:
                clock.advance(seconds)
            return False

    return Advancing()
