"""Command line and metrics show which build runs."""

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from controller.metrics import AgentMetrics
from controller.runtime.version import COMMIT, VERSION

ROOT = Path(__file__).parents[3]


def test_the_command_line_shows_version_and_commit() -> None:
    """From the environment that the image has."""
    result = subprocess.run(
        [sys.executable, "-m", "controller", "--version"],
        env=os.environ | {"BUILD_VERSION": "1.2.3", "BUILD_REVISION": "0abc"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stdout.strip() == "compass-runtime-agent 1.2.3 (commit 0abc)"


def test_a_metric_shows_version_and_commit() -> None:
    """For dashboards: which build runs where, and since when."""
    registry = CollectorRegistry()
    AgentMetrics(registry)
    labels = {"version": VERSION, "commit": COMMIT}
    assert registry.get_sample_value("compass_runtime_agent_build_info", labels) == 1
