"""The first moments of the process."""

import signal
import subprocess
import sys

import pytest

#: Ignores a signal as the kernel does for PID 1, starts the agent, and hangs where it imports its parts.
PROGRAM = """
import runpy, signal, sys, time

signal.signal(int(sys.argv[1]), signal.SIG_IGN)

class Hang:
    def find_spec(self, name, path=None, target=None):
        if name == "controller.agent":
            print("importing", flush=True)
            while True:  # a single wait could begin just after the signal, which Python handles at its end only
                time.sleep(0.01)

sys.meta_path.insert(0, Hang())
sys.argv = ["compass-runtime-agent"]
runpy.run_module("controller", run_name="__main__")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_imports_ends_it(number: int) -> None:
    """Also as PID 1 of a container, for which the kernel ignores signals without a handler."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(number)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    try:
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, err) == (128 + number, "")
