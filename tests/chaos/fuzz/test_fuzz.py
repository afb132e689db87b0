"""The tests that throw anything at the agent, with other examples than `make test` tries, for ten minutes.

A failure prints the command that repeats it. What it finds becomes a row of a table in the test that failed.
"""

import os
import resource
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SECONDS = float(os.environ.get("FUZZ_SECONDS", "600"))
MAX_RSS = 700 * 1024  # KiB, of a process that runs all of these tests

TESTS = [
    "tests/unit/controller/test_any_answer.py",
    "tests/unit/controller/test_any_object.py",
    "tests/unit/controller/test_cluster_metrics.py",
    "tests/unit/controller/test_status_command.py",
]


@pytest.mark.slow
def test_any_answer_and_any_object_for_ten_minutes() -> None:
    """No exception leaves a reconcile, no secret is shown, memory stays bounded."""
    deadline = time.monotonic() + SECONDS
    rounds = 0
    while time.monotonic() < deadline or not rounds:
        seed = str(secrets.randbelow(1 << 32))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--show-capture=no", f"--hypothesis-seed={seed}", *TESTS]
        ran = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "FUZZ_SEED": seed}, capture_output=True, text=True, check=False
        )
        repeat = f"FUZZ_SEED={seed} pytest -x --hypothesis-seed={seed} {' '.join(TESTS)}"
        assert ran.returncode == 0, f"{repeat}\n{ran.stdout[-10_000:]}"
        rounds += 1
        print(f"round {rounds}: seed {seed}, {ran.stdout.splitlines()[-1]}", flush=True)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < MAX_RSS
