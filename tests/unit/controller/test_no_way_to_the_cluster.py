"""A proxy that cannot be used and a credential plugin that fails: a command says which, and the agent goes on."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import controller.__main__
import kubectl_compass.__main__
from tests.fake_api_server.waiting import eventually
from tests.support.kept_logging import kept_logging

Main = Callable[[list[str]], int]
AGENT: Main = controller.__main__.main
PLUGIN: Main = kubectl_compass.__main__.main
COMMANDS = [(AGENT, name) for name in ("run", "status", "doctor", "revoke")]
COMMANDS += [(PLUGIN, name) for name in ("status", "doctor", "resync", "renew", "reconnect", "revoke", "logs")]


def use_kubeconfig(folder: Path, monkeypatch: pytest.MonkeyPatch, user: dict[str, Any], **cluster: str) -> None:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "https://api.example.invalid", **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (folder / "kubeconfig").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))


@pytest.mark.parametrize(("main", "command"), COMMANDS)
@pytest.mark.parametrize("source", ["HTTPS_PROXY", "https_proxy", "proxy-url"])
@pytest.mark.parametrize("proxy", ["socks5://user:s3cret@proxy:1080", "http://user:s3cret@proxy:port"])
def test_a_proxy_that_cannot_be_used_is_named_by_each_command(
    main: Main,
    command: str,
    source: str,
    proxy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By its variable or field, and without its password."""
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    use_kubeconfig(tmp_path, monkeypatch, {"token": "t"}, **({source: proxy} if source == "proxy-url" else {}))
    if source != "proxy-url":
        monkeypatch.setenv(source, proxy)
    with kept_logging():
        assert main([command]) == 2
    printed = "".join(capsys.readouterr())
    assert source in printed
    assert "s3cret" not in printed
    assert "Traceback" not in printed


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that grows by a byte with each run of a credential plugin, which fails."""
    runs = tmp_path / "runs"
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "sh",
        "args": ["-c", f"printf x >> {runs}; echo no network >&2; exit 3"],
        "interactiveMode": "Never",
    }
    use_kubeconfig(tmp_path, monkeypatch, {"exec": plugin})
    return runs


@pytest.mark.parametrize(("command", "status"), [("status", 3), ("doctor", 3), ("revoke", 1)])
def test_a_plugin_that_fails_is_named(
    runs: Path, command: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with kept_logging():
        assert controller.__main__.main([command]) == status
    printed = "".join(capsys.readouterr())
    assert "the credential plugin sh failed: its exit status is 3: no network" in printed
    assert "Traceback" not in printed
    assert runs.exists()


def test_the_agent_asks_a_plugin_that_fails_again_until_it_is_stopped(runs: Path, tmp_path: Path) -> None:
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
