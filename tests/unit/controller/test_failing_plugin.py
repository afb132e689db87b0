"""A credential plugin of the kubeconfig that fails for a time is an outage, not the end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import controller.__main__
from tests.fake_api_server.waiting import eventually
from tests.support.kept_logging import kept_logging


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that grows by a byte with each run of the plugin."""
    runs = tmp_path / "runs"
    script = f"printf x >> {runs}; echo no network >&2; exit 3"
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "sh",
        "args": ["-c", script],
        "interactiveMode": "Never",
    }
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "https://api.example.invalid"}}],
        "users": [{"name": "u", "user": {"exec": plugin}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    return runs


@pytest.mark.parametrize(("command", "status"), [("status", 3), ("doctor", 3), ("revoke", 1)])
def test_commands(runs: Path, command: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Say what failed."""
    with kept_logging():
        assert controller.__main__.main([command]) == status
    printed = "".join(capsys.readouterr())
    assert "the credential plugin sh failed: its exit status is 3: no network" in printed
    assert "Traceback" not in printed
    assert runs.exists()


def test_agent_goes_on(runs: Path, tmp_path: Path) -> None:
    """It asks the plugin again and again, and ends when it is told to."""
    ports = {"APP_METRICS_PORT": "0", "APP_HEALTH_PORT": "0"}
    with (tmp_path / "log").open("wb") as log:
        agent = subprocess.Popen(
            [sys.executable, "-m", "controller"], env=os.environ | ports, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        # More than one for each component.
        eventually(lambda: agent.poll() is not None or (runs.exists() and len(runs.read_text()) > 30))
        assert agent.poll() is None, (tmp_path / "log").read_text()
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(60) == 0
    finally:
        agent.kill()
        agent.wait()
