"""A supervised process: ended for certain, its last words kept."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.controlplane import ServerFailed, process, supervisor
from e2e.controlplane.ports import LOOPBACK, ReservedPort
from e2e.controlplane.process import ServerProcess

WAIT_SECONDS = 20.0


@pytest.fixture
def started() -> Iterator[list[ServerProcess]]:
    """Processes to kill at the end of the test."""
    processes: list[ServerProcess] = []
    yield processes
    for each in processes:
        each.kill()


def script(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_end_of_the_log_is_in_the_error(tmp_path: Path, started: list[ServerProcess]) -> None:
    """failure() shows the exit code and the last lines of this run, not of an earlier one."""
    (tmp_path / "server.log").write_text("from an earlier run\n")
    server = ServerProcess("server", script("for i in range(99): print('line', i)\nexit(3)"), directory=tmp_path)
    started.append(server)
    server._process.wait(WAIT_SECONDS)
    text = str(server.failure("ended"))
    assert "server ended (exit code 3)" in text
    assert text.endswith("line 98")
    assert len(text.splitlines()) == 1 + process.LOG_TAIL_LINES
    server = ServerProcess("server", script("exit(4)"), directory=tmp_path)
    started.append(server)
    server._process.wait(WAIT_SECONDS)
    assert "(exit code 4); the end of its log:\n  (no output)" in str(server.failure("ended"))


def test_output_can_be_attached(
    tmp_path: Path, started: list[ServerProcess], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the environment variable that envtest knows, a server writes to our stderr; the error points there."""
    monkeypatch.setenv(process.ATTACH_OUTPUT, "true")
    server = ServerProcess("server", script("print('hello'); exit(3)"), directory=tmp_path)
    started.append(server)
    server._process.wait(WAIT_SECONDS)
    assert capfd.readouterr().err == "hello\n"
    assert str(server.failure("ended")) == "server ended (exit code 3); its output is above"


def test_a_missing_binary_is_named(tmp_path: Path) -> None:
    """The error names the path; no process is started."""
    with pytest.raises(ServerFailed, match=r"server: .*/nowhere is not an executable file"):
        ServerProcess("server", [tmp_path / "nowhere"], directory=tmp_path)


def test_stop_lets_a_server_end_by_itself(tmp_path: Path, started: list[ServerProcess]) -> None:
    """SIGTERM first: a server that handles it has its say. A second stop() does nothing."""
    fifo = tmp_path / "ready"
    os.mkfifo(fifo)
    code = f"""
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
open({str(fifo)!r}, "w").close()
signal.sigwait([signal.SIGTERM])
sys.exit("said goodbye")
"""
    server = ServerProcess("server", script(code), directory=tmp_path)
    started.append(server)
    fifo.read_text()  # until it waits for the signal
    assert server.running
    server.stop()
    server.stop()
    assert not server.running
    assert "said goodbye" in (tmp_path / "server.log").read_text()  # type: ignore[unreachable]  # stop() changed what mypy has narrowed


def test_a_server_that_does_not_end_is_killed(
    tmp_path: Path, started: list[ServerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """stop() is not held up for ever by a server that ignores SIGTERM."""
    monkeypatch.setattr(process, "STOP_SECONDS", 0.1)
    fifo = tmp_path / "ready"
    os.mkfifo(fifo)
    code = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen({str(fifo)!r}, 'w')\nsignal.pause()"
    server = ServerProcess("server", script(code), directory=tmp_path)
    started.append(server)
    fifo.read_text()
    server.stop()
    assert server._process.returncode == 128 + 9


def test_check_tells_an_accident_from_a_stop(tmp_path: Path, started: list[ServerProcess]) -> None:
    """check() raises for a server that ended by itself, and not for one that was ended."""
    accident = ServerProcess("accident", script("exit(5)"), directory=tmp_path)
    started.append(accident)
    accident._process.wait(WAIT_SECONDS)
    with pytest.raises(ServerFailed, match=r"accident ended \(exit code 5\)"):
        accident.check()
    server = ServerProcess("server", script("import signal\nsignal.pause()"), directory=tmp_path)
    started.append(server)
    server.check()
    server.kill()
    server.check()


def test_the_end_of_the_parent_ends_the_command_and_its_files(tmp_path: Path) -> None:
    """When the pipe closes the supervisor kills the command and removes the directory."""
    directory = tmp_path / "work"
    directory.mkdir()
    (directory / "data").write_text("data")
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    code = f"import signal\nfile = open({str(fifo)!r}, 'w')\nsignal.pause()"
    with subprocess.Popen(
        [sys.executable, "-I", "-S", supervisor.__file__, str(directory), *script(code)], stdin=subprocess.PIPE
    ) as supervising:
        with fifo.open() as alive:
            assert supervising.stdin is not None
            supervising.stdin.close()
            assert alive.read() == ""  # the end of the file: its only writer is gone
        assert supervising.wait(WAIT_SECONDS) == 128 + 9
    assert not directory.exists()


def test_a_reserved_port_is_for_its_owner_alone() -> None:
    """Others cannot bind it; a server that asks for SO_REUSEPORT can, and until then clients are refused."""
    port = ReservedPort()
    try:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((LOOPBACK, port.number))
        with socket.socket() as early, pytest.raises(ConnectionRefusedError):
            early.connect((LOOPBACK, port.number))
        with socket.socket() as server, socket.socket() as client:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            server.bind((LOOPBACK, port.number))
            server.listen()
            client.connect((LOOPBACK, port.number))
    finally:
        port.release()
