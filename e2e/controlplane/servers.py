"""The servers of a control plane: etcd with one member, no fsync and plain HTTP, as in envtest; kube-apiserver."""

import base64
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import requests

from e2e.controlplane.process import LOOPBACK, ReservedPort, ServerProcess
from e2e.pki import Authority, service_account_key

REQUEST_SECONDS = 10.0
_START_SECONDS = 60.0
_POLL_SECONDS = 0.02
_SERVICE_NETWORK = "10.0.0.0/24"
_SERVICE_ADDRESS = "10.0.0.1"  # the first one of the network, which the API server takes for the Service `kubernetes`


def _wait_until(ready: Callable[[], bool], process: ServerProcess) -> None:
    """Raises ControlPlaneError when the process ends before, or takes too long."""
    deadline = time.monotonic() + _START_SECONDS
    while not ready():
        if not process.running:
            raise process.failure("ended while it was starting")
        if time.monotonic() > deadline:
            raise process.failure(f"was not ready after {_START_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)


def _answers(session: requests.Session, url: str) -> bool:
    try:
        return session.get(url, timeout=REQUEST_SECONDS).ok
    except (requests.ConnectionError, requests.Timeout):
        return False


class Etcd:
    """An etcd that keeps its data in `directory`."""

    def __init__(self, binary: Path, directory: Path) -> None:
        self._binary = binary
        self._directory = directory
        self._data = directory / "etcd-data"
        self._client_port = ReservedPort()
        self._peer_port = ReservedPort()
        self._process: ServerProcess | None = None
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the environment is not for the loopback
        self.url = f"http://{LOOPBACK}:{self._client_port.number}"

    def start(self) -> None:
        """Start and wait until it answers. Raises ControlPlaneError."""
        peer_url = f"http://{LOOPBACK}:{self._peer_port.number}"
        command: list[str | Path] = [
            self._binary,
            "--name=controlplane",
            f"--data-dir={self._data}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=controlplane={peer_url}",
            "--socket-reuse-port",
            # The data ends with the control plane: nothing has to survive a power cut.
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]
        self._process = process = ServerProcess("etcd", command, directory=self._directory)
        _wait_until(lambda: _answers(self._session, f"{self.url}/health"), process)

    def close(self) -> None:
        """Kill etcd and give its ports back."""
        self._kill()
        self._session.close()
        self._client_port.release()
        self._peer_port.release()

    def compact(self) -> int:
        """Forget every revision before the current one; returns the current revision."""
        revision = int(self._call("kv/range", {"key": base64.b64encode(b"\0").decode()})["header"]["revision"])
        self._call("kv/compaction", {"revision": str(revision), "physical": True})
        return revision

    def back_up(self, target: Path) -> None:
        """Copy the data to a new folder. etcd is restarted for it."""
        self._kill()
        shutil.copytree(self._data, target)
        self.start()

    def restore(self, backup: Path) -> None:
        """Go back to the data of back_up(). Revisions begin again where they were then."""
        self._kill()
        shutil.rmtree(self._data)
        shutil.copytree(backup, self._data)
        self.start()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _call(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        """etcd's gRPC API through its JSON gateway."""
        answer = self._session.post(f"{self.url}/v3/{method}", json=body, timeout=REQUEST_SECONDS)
        answer.raise_for_status()
        result: dict[str, Any] = answer.json()
        return result


class Credentials:
    """Files that all API servers of one control plane share: authority, serving certificate, token signing key."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority("controlplane-ca")
        serving = self.authority.serving(
            "kube-apiserver",
            dns_names=["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"],
            addresses=[LOOPBACK, _SERVICE_ADDRESS],
        )
        private, public = service_account_key()
        admin = self.authority.client("controlplane-probe", ["system:masters"])
        self.ca = _write(directory / "ca.crt", self.authority.certificate_pem)
        self.serving_certificate = _write(directory / "apiserver.crt", serving.certificate_pem)
        self.serving_key = _write(directory / "apiserver.key", serving.key_pem)
        self.token_key = _write(directory / "service-account.key", private)
        self.token_public_key = _write(directory / "service-account.pub", public)
        self.admin_certificate = _write(directory / "admin.crt", admin.certificate_pem)
        self.admin_key = _write(directory / "admin.key", admin.key_pem)


class ApiServer:
    """One kube-apiserver on a port of its own, which it keeps over stop, kill and start."""

    def __init__(
        self, binary: Path, directory: Path, credentials: Credentials, *, name: str, etcd_url: str, flags: Sequence[str]
    ) -> None:
        self._binary = binary
        self._directory = directory
        self._credentials = credentials
        self._name = name
        self._etcd_url = etcd_url
        self._flags = flags
        self._port = ReservedPort()
        self._process: ServerProcess | None = None
        self.url = f"https://{LOOPBACK}:{self._port.number}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def start(self) -> None:
        """Start and wait until /readyz says ok and the namespace `default` exists. Raises ControlPlaneError."""
        if self.running:
            return
        self._process = process = ServerProcess(self._name, self._command(), directory=self._directory)
        with self.session() as session:
            # The API server reports ready before its namespaces are there; a first write would fail now and then.
            for path in ("/readyz", "/api/v1/namespaces/default"):
                _wait_until(lambda path=path: _answers(session, self.url + path), process)  # type: ignore[misc]

    def stop(self) -> None:
        """End the server gently: it finishes requests and closes watches. start() works again."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """SIGKILL: connections are reset, new ones refused. start() works again."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Kill the server and give its port back."""
        self.kill()
        self._port.release()

    def session(self) -> requests.Session:
        """An HTTP session with all permissions (group system:masters)."""
        session = requests.Session()
        session.trust_env = False  # a proxy of the environment is not for the loopback
        session.verify = str(self._credentials.ca)
        session.cert = (str(self._credentials.admin_certificate), str(self._credentials.admin_key))
        return session

    def _command(self) -> list[str | Path]:
        files = self._credentials
        return [
            self._binary,
            f"--etcd-servers={self._etcd_url}",
            f"--bind-address={LOOPBACK}",
            f"--advertise-address={LOOPBACK}",
            f"--secure-port={self._port.number}",
            "--permit-port-sharing",
            f"--tls-cert-file={files.serving_certificate}",
            f"--tls-private-key-file={files.serving_key}",
            f"--client-ca-file={files.ca}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={files.token_public_key}",
            f"--service-account-signing-key-file={files.token_key}",
            f"--service-cluster-ip-range={_SERVICE_NETWORK}",
            # No controller makes ServiceAccounts here, so a Pod could never be created with the plugin on.
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
            # One client may load the server as much as it can: tests measure the client, not the limits.
            "--enable-priority-and-fairness=false",
            "--max-requests-inflight=0",
            "--max-mutating-requests-inflight=0",
            # Old revisions are forgotten when a test says so, not every five minutes.
            "--etcd-compaction-interval=0",
            "--profiling=false",
            *self._flags,
        ]


def _write(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path
