"""Signals, sent to a real process."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading
from controller.runtime import logs, stop_on_signals
logs.setup()
stop = stop_on_signals()
print("ready", flush=True)
stop.wait()
print("stopping", flush=True)
if "hang" in sys.argv:
    threading.Event().wait()
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_to_stop(number: int) -> None:
    """The event is set, and the process ends by itself."""
    process = start()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("stopping\n", 0)
    assert f"signal={signal.Signals(number).name}" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_at_once(number: int) -> None:
    """Whatever still runs, with status 1."""
    process = start("hang")
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "stopping\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Received a second signal" in err
