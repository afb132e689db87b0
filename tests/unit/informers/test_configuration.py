"""Where the API server is, and who we are there. What kubeconfigs mean: tests/integration/informers/test_kubectl.py."""

import logging
import pwd
import traceback
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.pki import Authority
from informers import ConfigurationError
from informers.configuration import load
from tests.clock import VirtualClock


def kubeconfig(path: Path, server: str, user: dict[str, Any] | None = None) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"} if user is None else user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config))
    return str(path)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def account(tmp_path: Path) -> Path:
    directory = tmp_path / "account"
    directory.mkdir()
    (directory / "token").write_text("pod-token\n")
    (directory / "ca.crt").write_bytes(Authority("pod").certificate_pem)
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
    own = {"HOME": str(home)}
    assert host(None, own | POD, account) == "https://10.0.0.1:443"
    assert host(None, own, account) == "http://home:1"
    assert host(None, own | POD, tmp_path / "nowhere") == "http://home:1"


def test_nothing(home: Path, tmp_path: Path) -> None:
    """Without any the error lists what was looked at."""
    with pytest.raises(ConfigurationError) as caught:
        load(None, clock=VirtualClock(), environ={"HOME": str(home)}, service_account=tmp_path)
    for place in ("KUBECONFIG", str(tmp_path), str(home / ".kube/config")):
        assert place in str(caught.value)


BAD_FILES = {
    "empty": ("", "empty"),
    "a list": ("- a\n- b\n", "no object"),
    "no context": ("{}", "current-context"),
    "an open quote": ("a: 's3cret", "not valid YAML at line 1"),
    "an open bracket": ("users: [{name: u, user: {token: s3cret}}", "not valid YAML at line"),
    "a wrong type": ("users: [{name: u, user: {token: [s3cret]}}]", "users: 'u': token: it is no text"),
    "a NUL": ("\x00", "not valid YAML"),
    "a NUL in a path": ('users: [{user: {tokenFile: "s3cret\\0"}}]', "a character that no text has"),
    "half a character": ('{"users": [{"user": {"token": "s3cret\\ud800"}}]}', "not valid YAML"),
    "a deep nesting": ("[" * 5000, "not valid YAML"),
    "nothing as an entry": ("users: [null, {name: ''}]", "the name '' occurs twice"),
    "nothing as a variable": ("users: [{user: {exec: {env: [null]}}}]", "current-context"),
    "an entry that contains itself": ("users: &a [{user: *a}]", "users: '': it is no object"),
    "letters in base64": ("clusters: [{cluster: {certificate-authority-data: s3cret\u00e4}}]", "it is not base64"),
}


@pytest.mark.parametrize(("content", "text"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file(tmp_path: Path, content: str, text: str) -> None:
    """The error names file and fault, and repeats nothing of the content, however it is printed."""
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=text) as caught:
        load(str(path), clock=VirtualClock())
    assert str(path) in str(caught.value)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("content", [None, "", "no PEM"], ids=["missing", "empty", "no PEM"])
def test_pod_without_certificates(account: Path, content: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """The authorities of the system are trusted, as in client-go, and the log says so."""
    if content is None:
        (account / "ca.crt").unlink()
    else:
        (account / "ca.crt").write_text(content)
    configuration, credentials = load(None, clock=VirtualClock(), environ=POD, service_account=account)
    assert configuration.verify_ssl
    assert (credentials.tls().ca, credentials.tls().verify) == (None, True)
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "no usable ca.crt" in record.message


@pytest.mark.parametrize("content", [None, ""], ids=["missing", "empty"])
def test_pod_without_a_token(account: Path, home: Path, content: str | None) -> None:
    """An incomplete account is an error, not a fallback to something else. Without a token file there is no account."""
    kubeconfig(home / ".kube" / "config", "https://home:1")
    if content is None:
        (account / "token").unlink()
        environ = POD | {"HOME": str(home)}
        configuration, _ = load(None, clock=VirtualClock(), environ=environ, service_account=account)
        assert configuration.host == "https://home:1"
    else:
        (account / "token").write_text(content)
        with pytest.raises(ConfigurationError, match=r"service account of this Pod cannot be used: .*empty"):
            load(None, clock=VirtualClock(), environ=POD, service_account=account)


def test_pod(account: Path) -> None:
    """Its token, and its authority, at any address."""
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    configuration, credentials = load(None, clock=VirtualClock(), environ=environ, service_account=account)
    assert configuration.host == "https://[fd00::1]:443"
    assert credentials.authorization(timeout=1, stop=None) == "Bearer pod-token"
    assert credentials.tls().ca == (account / "ca.crt").read_bytes()


def test_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Pod may have a user id that no file knows, and no HOME."""

    def unknown(uid: int) -> Any:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(ConfigurationError, match="no API server is configured"):
        load(None, clock=VirtualClock(), environ={}, service_account=tmp_path)


def test_named_files_that_are_missing_do_not_lead_to_another_cluster(account: Path, home: Path) -> None:
    """kubectl would go on to the service account. A controller must not write to a cluster that nobody named."""
    kubeconfig(home / ".kube" / "config", "https://home:1")
    with pytest.raises(ConfigurationError, match="/missing does not exist"):
        load(
            None,
            clock=VirtualClock(),
            environ=POD | {"HOME": str(home), "KUBECONFIG": "/missing"},
            service_account=account,
        )


def test_a_context_is_one_of_a_kubeconfig(account: Path, home: Path) -> None:
    """Not of the service account."""
    kubeconfig(home / ".kube" / "config", "https://home:1")
    environ = POD | {"HOME": str(home)}
    configuration, _ = load(None, context="x", clock=VirtualClock(), environ=environ, service_account=account)
    assert configuration.host == "https://home:1"


def test_namespace(tmp_path: Path, account: Path) -> None:
    """That of the context, or of the Pod."""
    clock = VirtualClock()

    def namespace(path: str | None, environ: dict[str, str]) -> str:
        return load(path, clock=clock, environ=environ, service_account=account)[1].namespace

    path = Path(kubeconfig(tmp_path / "config", "https://a:1"))
    assert namespace(str(path), {}) == "default"
    path.write_text(path.read_text().replace("cluster: c\n", "cluster: c\n    namespace: shop\n"))
    assert namespace(str(path), {}) == "shop"
    assert namespace(None, POD) == "default"
    (account / "namespace").write_text("pods\n")
    assert namespace(None, POD) == "pods"
    assert namespace(None, POD | {"POD_NAMESPACE": "told"}) == "told"


def test_no_credentials_over_http(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As kubectl, and the log says so: http means a proxy on this machine that has credentials of its own."""
    _, credentials = load(kubeconfig(tmp_path / "config", "http://a:1", {"token": "s3cret"}), clock=VirtualClock())
    assert credentials.authorization(timeout=1, stop=None) is None
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "no credentials are sent" in record.message
    assert "s3cret" not in caplog.text
