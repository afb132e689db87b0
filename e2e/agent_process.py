"""The agent as operators run it: a process with environment variables and a log."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

AGENT_COMMAND = (sys.executable, "-m", "controller")
_STOP_SECONDS = 35.0  # the agent's own grace period is 30


class AgentProcess:
    """Starts, stops and kills one agent. Its log goes to a file, which outlives it."""

    def __init__(
        self,
        *,
        kubeconfig: Path,
        environment: Mapping[str, str],
        log: Path,
        command: Sequence[str] = AGENT_COMMAND,
    ) -> None:
        """`command`: what is run as the agent."""
        self._command = list(command)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.upper().startswith("APP_")},
            "KUBECONFIG": str(kubeconfig),
            **environment,
        }
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> None:
        """Start it; the log is appended to."""
        if self._process is not None and self._process.poll() is None:
            raise RuntimeError("the agent runs already")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self.environment, stdout=log, stderr=log)

    def stop(self) -> int:
        """End it as Kubernetes does; gives the exit status."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        return process.wait(_STOP_SECONDS)

    def kill(self) -> None:
        """End it as a lost node does."""
        process = self._running()
        process.kill()
        process.wait(_STOP_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        self._running().send_signal(number)

    def command(self, *arguments: str) -> str:
        """Run a command of the agent beside it, with the same settings; gives what it prints."""
        command = [*self._command, *arguments]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout

    def ended(self) -> int | None:
        """The exit status once it has ended, else None."""
        return None if self._process is None else self._process.poll()

    def close(self) -> None:
        """Make sure that it is gone."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the agent was not started")
        return self._process


def free_port() -> int:
    """A free one of the loopback, for a server of an agent."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
