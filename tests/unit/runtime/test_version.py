"""An operator can tell which build runs: from the command line, the log and the metrics."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from controller.metrics import AgentMetrics
from controller.runtime.version import COMMIT, VERSION

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"BUILD_VERSION": "1.2.3", "BUILD_REVISION": "0abc"}, "compass-runtime-agent 1.2.3 (commit 0abc)"),
        ({}, f"compass-runtime-agent {VERSION} (commit {COMMIT})"),
    ],
    ids=["image", "source"],
)
def test_the_command_line_tells_version_and_commit(environment: dict[str, str], expected: str) -> None:
    """From the environment that the image has, else from the package and the source folder."""
    command = [sys.executable, "-m", "controller", "--version"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BUILD_")}
    result = subprocess.run(
        command, env=clean | environment, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == expected


def test_a_metric_tells_version_and_commit() -> None:
    """For dashboards: which build runs where, and since when."""
    registry = CollectorRegistry()
    AgentMetrics(registry)
    labels = {"version": VERSION, "commit": COMMIT}
    assert registry.get_sample_value("compass_runtime_agent_build_info", labels) == 1
