"""A server process: on a reserved port, started under a supervisor, its log kept, ended for certain."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from e2e.controlplane import supervisor

LOOPBACK = "127.0.0.1"

LOG_TAIL_LINES = 15
STOP_SECONDS = 10.0
"""How long a server may take to end by itself. Both need well under a second; a hanging one is killed."""


class ControlPlaneError(Exception):
    """The control plane cannot do what it was asked for. If a server failed, the text has the end of its log."""


class ReservedPort:
    """A free port, kept for its owner until release(), also while no server listens on it.

    The socket is bound but never listens; SO_REUSEPORT lets a server of the same user bind beside it when it sets the
    option too, and keeps everyone else away. So there is no gap between finding a free port and using it, and a server
    that was killed gets its port back. While nothing listens, clients are refused, as for a dead server.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((LOOPBACK, 0))
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        self._socket.close()


class ServerProcess:
    """One run of a server. Not restarted: a new run is a new object."""

    def __init__(self, name: str, command: Sequence[str | Path], *, directory: Path) -> None:
        """Start `command`; output goes to `directory/name.log`.

        Raises ControlPlaneError when the command cannot be executed.
        """
        self.name = name
        self._log = directory / f"{name}.log"
        executable = Path(command[0])
        if not os.access(executable, os.X_OK):
            raise ControlPlaneError(f"{name}: {executable} is not an executable file")
        child_end, lifeline = os.pipe()
        self._lifeline: int | None = lifeline
        with self._log.open("ab") as log, os.fdopen(child_end) as stdin:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                # -I and -S keep the start short: the supervisor needs the standard library alone
                [sys.executable, "-I", "-S", supervisor.__file__, str(directory), *map(str, command)],
                stdin=stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal must reach the owner only, which then stops the servers in order.
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """End the server, gently first. Does nothing when it has ended."""
        self._end(supervisor.TERMINATE)

    def kill(self) -> None:
        """SIGKILL; returns when the server is gone and its sockets are closed."""
        self._end(supervisor.KILL)

    def _end(self, order: bytes) -> None:
        if self._lifeline is None:
            return
        self._order(order)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._order(supervisor.KILL)
            self._process.wait()
        # Not earlier: a supervisor that sees the end of the pipe removes the directory.
        os.close(self._lifeline)
        self._lifeline = None

    def _order(self, order: bytes) -> None:
        if self._lifeline is not None:
            with contextlib.suppress(BrokenPipeError):  # the server has ended by itself
                os.write(self._lifeline, order)

    def failure(self, what: str) -> ControlPlaneError:
        """An error that says `what` and shows the end of the log of this run."""
        code = self._process.poll()
        state = "still running" if code is None else f"exit code {code}"
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()
        tail = "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:]) or "  (no output)"
        return ControlPlaneError(f"{self.name} {what} ({state}); the end of its log:\n{tail}")
