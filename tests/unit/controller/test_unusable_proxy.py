"""A proxy that cannot be used ends each command with status 2 and the name of the variable or field."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import controller.__main__
import kubectl_compass.__main__
from tests.support.kept_logging import kept_logging

Main = Callable[[list[str]], int]
AGENT: Main = controller.__main__.main
PLUGIN: Main = kubectl_compass.__main__.main
COMMANDS = [(AGENT, name) for name in ("run", "status", "doctor", "revoke")]
COMMANDS += [(PLUGIN, name) for name in ("status", "doctor", "resync", "renew", "reconnect", "revoke", "logs")]


def kubeconfig(folder: Path, **cluster: str) -> str:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "https://api.example.invalid", **cluster}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return str(path)


@pytest.mark.parametrize(("main", "command"), COMMANDS)
@pytest.mark.parametrize("source", ["HTTPS_PROXY", "https_proxy", "proxy-url"])
@pytest.mark.parametrize("proxy", ["socks5://user:s3cret@proxy:1080", "http://user:s3cret@proxy:port"])
def test_each_command(
    main: Main,
    command: str,
    source: str,
    proxy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    if source == "proxy-url":
        monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, **{source: proxy}))
    else:
        monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path))
        monkeypatch.setenv(source, proxy)
    with kept_logging():
        assert main([command]) == 2
    printed = "".join(capsys.readouterr())
    assert source in printed
    assert "s3cret" not in printed
    assert "Traceback" not in printed
