"""Where the API server is, and who we are there."""

import os
import traceback
from pathlib import Path
from typing import Any

import pytest
import yaml

from informers import Client, ConfigurationError
from informers.configuration import load
from informers.testing.server import Answer, FakeAPIServer
from workqueue.testing import VirtualClock


def kubeconfig(path: Path, server: str, user: dict[str, Any] | None = None) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config))
    return str(path)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def account(tmp_path: Path) -> Path:
    directory = tmp_path / "account"
    directory.mkdir()
    (directory / "token").write_text("pod-token\n")
    (directory / "ca.crt").write_text("certificates\n")
    return directory


POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


def test_order(tmp_path: Path, home: Path, account: Path) -> None:
    """Argument, then KUBECONFIG, then the Pod's account, then the home directory."""
    argument = kubeconfig(tmp_path / "argument", "http://argument:1")
    variable = {"KUBECONFIG": kubeconfig(tmp_path / "variable", "http://variable:1")}
    kubeconfig(home / ".kube" / "config", "http://home:1")

    def host(path: str | None, environ: dict[str, str], service_account: Path) -> str:
        configuration, _ = load(path, clock=VirtualClock(), environ=environ, service_account=service_account)
        return str(configuration.host)

    assert host(argument, variable | POD, account) == "http://argument:1"
    assert host(None, variable | POD, account) == "http://variable:1"
    assert host(None, POD, account) == "https://10.0.0.1:443"
    assert host(None, {}, account) == "http://home:1"
    assert host(None, POD, tmp_path / "nowhere") == "http://home:1"


def test_several_files(tmp_path: Path) -> None:
    """KUBECONFIG may name several; those that do not exist are passed over."""
    path = kubeconfig(tmp_path / "b", "http://b:1")
    environ = {"KUBECONFIG": f"{tmp_path / 'a'}{os.pathsep}{path}"}
    configuration, _ = load(None, clock=VirtualClock(), environ=environ)
    assert configuration.host == "http://b:1"


def test_nothing(home: Path, tmp_path: Path) -> None:
    """Without any the error lists what was looked at."""
    with pytest.raises(ConfigurationError) as caught:
        load(None, clock=VirtualClock(), environ={}, service_account=tmp_path)
    for place in ("KUBECONFIG", str(tmp_path), str(home / ".kube/config")):
        assert place in str(caught.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "empty"),
        ("- a\n- b\n", "not a kubeconfig"),
        ("{}", "current-context"),
        ("a: 's3cret", "not valid YAML at line 1"),
        ("users: [{name: u, user: {token: s3cret}}", "not valid YAML at line"),
    ],
    ids=["empty", "a list", "no context", "an open quote", "an open bracket"],
)
def test_bad_file(tmp_path: Path, content: str, text: str) -> None:
    """The error names file and fault, and repeats nothing of the content, however it is printed."""
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=text) as caught:
        load(str(path), clock=VirtualClock())
    assert str(path) in str(caught.value)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_missing_file(tmp_path: Path) -> None:
    """A kubeconfig that was named must exist."""
    with pytest.raises(ConfigurationError, match="missing does not exist"):
        load(str(tmp_path / "missing"), clock=VirtualClock())


def test_pod_without_certificates(account: Path) -> None:
    """An incomplete account is an error, not a fallback to something else."""
    (account / "ca.crt").unlink()
    with pytest.raises(ConfigurationError, match="certification file does not exist"):
        load(None, clock=VirtualClock(), environ=POD, service_account=account)


def test_tokens(tmp_path: Path, account: Path) -> None:
    """Of the Pod, of a file that the kubeconfig names, in the kubeconfig itself, or none."""
    clock = VirtualClock()
    _, pod = load(None, clock=clock, environ=POD, service_account=account)
    assert pod.authorization() == "Bearer pod-token"
    (tmp_path / "token-file").write_text("file-token")
    _, by_file = load(kubeconfig(tmp_path / "a", "http://a:1", {"tokenFile": "token-file"}), clock=clock)
    assert by_file.authorization() == "Bearer file-token"
    (tmp_path / "token-file").write_text("rotated")
    clock.advance(60)
    assert by_file.authorization() == "Bearer rotated"
    _, literal = load(kubeconfig(tmp_path / "b", "http://b:1", {"token": "literal-token"}), clock=clock)
    assert literal.authorization() == "Bearer literal-token"
    _, none = load(kubeconfig(tmp_path / "c", "http://c:1"), clock=clock)
    assert none.authorization() is None


class TestImpersonation:
    """`as` and what belongs to it: each request says whom it acts as."""

    def test_headers(self, tmp_path: Path, server: FakeAPIServer) -> None:
        """User, uid, each group, and extra fields with their names quoted."""
        user = {
            "as": "jane",
            "as-uid": "u1",
            "as-groups": ["a", "b"],
            "as-user-extra": {"example.com/team": ["x", "y"]},
        }
        clock = VirtualClock()
        server.inject("other", Answer(200, body=b"{}"))
        client = Client(*load(kubeconfig(tmp_path / "config", server.url, user), clock=clock))
        client.request("GET", "/x")
        client.close()
        sent = [(name, value) for name, value in server.requests[-1].header_list if name.startswith("Impersonate")]
        assert sent == [
            ("Impersonate-User", "jane"),
            ("Impersonate-Uid", "u1"),
            ("Impersonate-Group", "a"),
            ("Impersonate-Group", "b"),
            ("Impersonate-Extra-example.com%2Fteam", "x"),
            ("Impersonate-Extra-example.com%2Fteam", "y"),
        ]

    @pytest.mark.parametrize(
        ("user", "text"),
        [
            ({"as-groups": ["a"]}, "but not as: whom to act as"),
            ({"as-uid": "u1"}, "but not as: whom to act as"),
            ({"as": "jane\r\nX-Injected: 1"}, "as is not a text"),
            ({"as": "jane", "as-groups": [1]}, "as-groups is not a text"),
            ({"as": "jane", "as-user-extra": {"a": [""]}}, "as-user-extra is not a text"),
            ({"as": "jane", "as-user-extra": ["a"]}, "not a kubeconfig"),
        ],
    )
    def test_nonsense(self, tmp_path: Path, user: dict[str, Any], text: str) -> None:
        """Is refused when the file is read, never ignored."""
        with pytest.raises(ConfigurationError, match=text):
            load(kubeconfig(tmp_path / "config", "http://a:1", user), clock=VirtualClock())
