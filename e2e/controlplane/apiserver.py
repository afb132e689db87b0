"""A kube-apiserver of a control plane."""

import time
from collections.abc import Sequence
from pathlib import Path

import requests

from e2e.controlplane import pki
from e2e.controlplane.ports import LOOPBACK, ReservedPort
from e2e.controlplane.process import ServerProcess

START_SECONDS = 60.0
POLL_SECONDS = 0.05
REQUEST_SECONDS = 10.0
SERVICE_NETWORK = "10.0.0.0/24"
SERVICE_ADDRESS = "10.0.0.1"
"""The first address of SERVICE_NETWORK, which the API server takes for the Service `kubernetes`."""


class Credentials:
    """Files that all API servers of one control plane share: authority, serving certificate, token signing key."""

    def __init__(self, directory: Path) -> None:
        self.authority = pki.Authority("controlplane-ca")
        serving = self.authority.serving(
            "kube-apiserver",
            dns_names=["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"],
            addresses=[LOOPBACK, SERVICE_ADDRESS],
        )
        private, public = pki.service_account_key()
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
        """Start and wait until /readyz says ok and the namespace `default` exists. Raises ServerFailed."""
        if self.running:
            return
        self._process = process = ServerProcess(self._name, self._command(), directory=self._directory)
        deadline = time.monotonic() + START_SECONDS
        with self.session() as session:
            # The API server reports ready before its namespaces are there; a first write would fail now and then.
            for path in ("/readyz", "/api/v1/namespaces/default"):
                while not self._answers(session, path):
                    if not process.running:
                        raise process.failure("ended while it was starting")
                    if time.monotonic() > deadline:
                        raise process.failure(f"was not ready after {START_SECONDS:.0f} s")
                    time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """End the server gently: it finishes requests and closes watches. start() works again."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """SIGKILL: connections are reset, new ones refused. start() works again."""
        if self._process is not None:
            self._process.kill()

    def check(self) -> None:
        """Raises ServerFailed when the server ended by itself."""
        if self._process is not None:
            self._process.check()

    def close(self) -> None:
        """Kill the server and give its port back."""
        self.kill()
        self._port.release()

    def session(self) -> requests.Session:
        """An HTTP session with all rights (group system:masters)."""
        session = requests.Session()
        session.trust_env = False  # a proxy of the environment is not for the loopback
        session.verify = str(self._credentials.ca)
        session.cert = (str(self._credentials.admin_certificate), str(self._credentials.admin_key))
        return session

    def _answers(self, session: requests.Session, path: str) -> bool:
        try:
            return session.get(f"{self.url}{path}", timeout=REQUEST_SECONDS).ok
        except (requests.ConnectionError, requests.Timeout):
            return False

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
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
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
