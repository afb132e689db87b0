"""The etcd of a control plane: one member, no fsync, plain HTTP on the loopback as in envtest."""

import base64
import shutil
import time
from pathlib import Path
from typing import Any

import requests

from e2e.controlplane.ports import LOOPBACK, ReservedPort
from e2e.controlplane.process import ServerProcess

START_SECONDS = 30.0
POLL_SECONDS = 0.02
REQUEST_SECONDS = 10.0


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
        """Start and wait until it answers. Raises ServerFailed."""
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
        deadline = time.monotonic() + START_SECONDS
        while not self._healthy():
            if not process.running:
                raise process.failure("ended while it was starting")
            if time.monotonic() > deadline:
                raise process.failure(f"was not ready after {START_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)

    def check(self) -> None:
        """Raises ServerFailed when the server ended by itself."""
        if self._process is not None:
            self._process.check()

    def close(self) -> None:
        """Kill etcd and give its ports back."""
        self._kill()
        self._session.close()
        self._client_port.release()
        self._peer_port.release()

    def compact(self) -> int:
        """Forget every revision before the current one; returns the current revision."""
        revision = int(self._call("kv/range", {"key": _encode(b"\0")})["header"]["revision"])
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

    def _healthy(self) -> bool:
        try:
            answer = self._session.get(f"{self.url}/health", timeout=REQUEST_SECONDS)
        except (requests.ConnectionError, requests.Timeout):
            return False
        return answer.ok

    def _call(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        """etcd's gRPC API through its JSON gateway."""
        answer = self._session.post(f"{self.url}/v3/{method}", json=body, timeout=REQUEST_SECONDS)
        answer.raise_for_status()
        result: dict[str, Any] = answer.json()
        return result


def _encode(key: bytes) -> str:
    return base64.b64encode(key).decode()
