"""The control plane that the other tests stand on."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from kubernetes import client, config, watch

from e2e.controlplane import ControlPlane, ControlPlaneError, ManifestError, ServerFailed

END_SECONDS = 20.0


@pytest.fixture(scope="module")
def own() -> Iterator[ControlPlane]:
    """A control plane that may be hurt."""
    with ControlPlane() as running:
        yield running


def api(control_plane: ControlPlane, **user: Any) -> client.CoreV1Api:
    """The official client, configured by nothing but the kubeconfig."""
    return client.CoreV1Api(config.new_client_from_config_dict(yaml.safe_load(control_plane.kubeconfig(**user))))


def config_map(name: str, **data: str) -> client.V1ConfigMap:
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name), data=data)


def test_a_started_control_plane_serves_its_admin(control_plane: ControlPlane) -> None:
    """After start() a first write into the namespace `default` succeeds at once."""
    core = api(control_plane)
    core.create_namespaced_config_map("default", config_map("first-write", key="value"))
    assert core.read_namespaced_config_map("first-write", "default").data == {"key": "value"}


def test_a_user_without_rights_is_refused(control_plane: ControlPlane, namespace: str) -> None:
    """RBAC is on: a user in no group gets 403, and the text names the user."""
    with pytest.raises(client.ApiException) as refused:
        api(control_plane, user="nobody-special", groups=()).list_namespaced_secret(namespace)
    assert refused.value.status == 403
    assert "nobody-special" in refused.value.body


def test_a_user_may_do_what_a_role_grants_and_no_more(control_plane: ControlPlane, namespace: str) -> None:
    """A Role bound to the user name opens exactly its verbs, in its namespace."""
    rbac = client.RbacAuthorizationV1Api(config.new_client_from_config_dict(yaml.safe_load(control_plane.kubeconfig())))
    meta = client.V1ObjectMeta(name="reader")
    rule = client.V1PolicyRule(api_groups=[""], resources=["configmaps"], verbs=["get", "list"])
    rbac.create_namespaced_role(namespace, client.V1Role(metadata=meta, rules=[rule]))
    rbac.create_namespaced_role_binding(
        namespace,
        client.V1RoleBinding(
            metadata=meta,
            role_ref=client.V1RoleRef(api_group="rbac.authorization.k8s.io", kind="Role", name="reader"),
            subjects=[client.RbacV1Subject(kind="User", name="reader", api_group="rbac.authorization.k8s.io")],
        ),
    )
    reader = api(control_plane, user="reader", groups=())
    assert reader.list_namespaced_config_map(namespace).items == []
    with pytest.raises(client.ApiException) as refused:
        reader.create_namespaced_config_map(namespace, config_map("denied"))
    assert refused.value.status == 403
    with pytest.raises(client.ApiException) as refused:
        reader.list_namespaced_config_map("default")
    assert refused.value.status == 403


def test_a_stranger_is_not_trusted(control_plane: ControlPlane) -> None:
    """Without a client certificate the API server answers as to an anonymous user; without our CA, TLS fails."""
    path = f"{control_plane.url}/api/v1/namespaces"
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(path, timeout=5)
    with control_plane.apiserver.session() as session:
        session.cert = None
        assert session.get(path, timeout=5).status_code == 403


def test_a_kubeconfig_file_is_private(control_plane: ControlPlane, tmp_path: Path) -> None:
    """The file holds a key: only its owner may read it, also when it replaces another one."""
    target = tmp_path / "folder" / "kubeconfig"
    target.parent.mkdir()
    target.write_text("old")
    target.chmod(0o644)
    assert control_plane.write_kubeconfig(target) == target
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(target.parent.iterdir()) == [target]


def test_a_killed_api_server_comes_back_with_its_data(own: ControlPlane) -> None:
    """After SIGKILL connections are refused and nobody else gets the port; a new start has it, and the same objects."""
    url = own.url
    api(own).create_namespaced_config_map("default", config_map("survivor", key="value"))
    own.kill_apiserver()
    host, port = url.removeprefix("https://").split(":")
    with socket.socket() as connection, pytest.raises(ConnectionRefusedError):
        connection.connect((host, int(port)))
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((host, int(port)))
    own.start_apiserver()
    assert own.url == url
    assert api(own).read_namespaced_config_map("survivor", "default").data == {"key": "value"}


def test_a_second_api_server_shows_the_same_data(own: ControlPlane) -> None:
    """What is written through one API server is read through the other, which has an address of its own."""
    second = own.start_second_apiserver()
    try:
        assert second.url != own.url
        api(own).create_namespaced_config_map("default", config_map("shared", key="value"))
        assert api(own, server=second).read_namespaced_config_map("shared", "default").data == {"key": "value"}
    finally:
        second.close()
    assert api(own).read_namespaced_config_map("shared", "default")


def watch_status(control_plane: ControlPlane, resource_version: str) -> int:
    """The HTTP code of the Status that a watch of ConfigMaps from this version begins with; 200 for an event."""
    events = watch.Watch().stream(
        api(control_plane).list_namespaced_config_map,
        "default",
        resource_version=resource_version,
        timeout_seconds=5,
    )
    try:
        next(iter(events))
    except client.ApiException as error:
        return int(error.status)
    return 200


def test_a_watch_from_before_a_compaction_gets_410() -> None:
    """History that etcd compacted away is gone for a watch: 410, from an API server without a watch cache."""
    with ControlPlane(apiserver_flags=["--watch-cache=false"]) as control_plane:
        core = api(control_plane)
        before = core.create_namespaced_config_map("default", config_map("old")).metadata.resource_version
        for name in ("lost", "current"):  # the event of the current revision is never compacted away
            core.create_namespaced_config_map("default", config_map(name))
        assert watch_status(control_plane, before) == 200
        assert control_plane.compact() > int(before)
        assert watch_status(control_plane, before) == 410


def test_a_watch_from_before_a_compaction_gets_410_after_a_restart(own: ControlPlane) -> None:
    """With its watch cache on, an API server serves old history until it is started again."""
    core = api(own)
    before = core.create_namespaced_config_map("default", config_map("older")).metadata.resource_version
    for name in ("missed", "newest"):
        core.create_namespaced_config_map("default", config_map(name))
    own.compact()
    assert watch_status(own, before) == 200
    own.kill_apiserver()
    own.start_apiserver()
    assert watch_status(own, before) == 410


CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, listKind: WidgetList, plural: widgets, singular: widget}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""


def test_applied_crds_are_served(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """When apply_crds() returns, objects can be created; a second time changes nothing; other kinds are passed over."""
    other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: passed-over}\n"
    (tmp_path / "widgets.yaml").write_text(f"{CRD}---\n{other}---\n")
    (tmp_path / "notes.txt").write_text("kind: CustomResourceDefinition")
    assert control_plane.apply_crds(tmp_path) == ["widgets.example.com"]
    assert control_plane.apply_crds(tmp_path / "widgets.yaml") == ["widgets.example.com"]
    objects = client.CustomObjectsApi(config.new_client_from_config_dict(yaml.safe_load(control_plane.kubeconfig())))
    body = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
    objects.create_namespaced_custom_object("example.com", "v1", namespace, "widgets", body)
    with pytest.raises(client.ApiException) as missing:
        api(control_plane).read_namespaced_config_map("passed-over", "default")
    assert missing.value.status == 404


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("kind: [", "crd.yaml", id="not YAML"),
        pytest.param("kind: ConfigMap", "no CustomResourceDefinition", id="another kind"),
        pytest.param("kind: CustomResourceDefinition", "without metadata.name", id="no name"),
        pytest.param(CRD.replace("scope: Namespaced", "scope: Everywhere"), "spec.scope", id="refused by the server"),
        pytest.param(None, "crd.yaml", id="no such file"),
    ],
)
def test_a_bad_crd_is_named(control_plane: ControlPlane, tmp_path: Path, content: str | None, expected: str) -> None:
    """What cannot be read or is refused raises ManifestError, which says what and where."""
    file = tmp_path / "crd.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ManifestError, match=expected):
        control_plane.apply_crds(file)


def test_a_server_that_ends_early_shows_its_log() -> None:
    """The error of a start that failed has the end of the server's log; nothing is left running."""
    broken = ControlPlane(apiserver_flags=["--no-such-flag"])
    with pytest.raises(ServerFailed, match=r"(?s)kube-apiserver ended while it was starting.*unknown flag: --no-such"):
        broken.start()


def processes_of(directory: Path) -> dict[int, str]:
    """Servers and supervisors of the control plane that works in this directory: process id to command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_text().replace("\0", " ")
                if str(directory) in command:
                    found[int(entry.name)] = command
    return found


def until(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; fails after END_SECONDS."""
    deadline = time.monotonic() + END_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {END_SECONDS:.0f} s"
        time.sleep(0.02)


def test_a_server_that_dies_by_itself_is_reported() -> None:
    """check() raises when a server is gone that nobody stopped, and not for one that was killed on purpose."""
    with ControlPlane() as control_plane:
        control_plane.kill_apiserver()
        control_plane.check()
        etcd = str(control_plane.assets.etcd)
        processes = processes_of(control_plane.directory)
        (pid,) = [pid for pid, command in processes.items() if command.startswith(etcd)]
        os.kill(pid, signal.SIGKILL)

        def reported() -> bool:
            try:
                control_plane.check()
            except ServerFailed as error:
                return "etcd ended" in str(error)
            return False

        until(reported)


def test_stop_leaves_nothing() -> None:
    """After stop() no process and no file is left; a second stop() does nothing."""
    control_plane = ControlPlane()
    control_plane.start()
    directory = control_plane.directory
    assert len(processes_of(directory)) == 4  # two servers, each with its supervisor
    control_plane.stop()
    control_plane.stop()
    with pytest.raises(ControlPlaneError, match="not started"):
        control_plane.check()
    assert processes_of(directory) == {}
    assert not directory.exists()


def test_a_killed_owner_leaves_nothing() -> None:
    """SIGKILL of the process that owns the control plane ends the servers and removes their files."""
    script = """
        import sys
        from e2e.controlplane import ControlPlane
        with ControlPlane() as control_plane:
            print(control_plane.directory, flush=True)
            sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        directory = Path(owner.stdout.readline().strip())
        assert len(processes_of(directory)) == 4
        owner.kill()
    until(lambda: processes_of(directory) == {} and not directory.exists())


def test_the_servers_outlive_the_thread_that_started_them() -> None:
    """Servers belong to the process, not to the thread that happened to start them."""
    control_plane = ControlPlane()
    thread = threading.Thread(target=control_plane.start)
    thread.start()
    thread.join()
    try:
        control_plane.check()
        assert api(control_plane).read_namespace("default")
    finally:
        control_plane.stop()


def test_a_proxy_in_the_environment_is_not_for_the_loopback(own: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's proxy settings do not come between the parts of a control plane."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    own.create_namespace("reached")
    assert own.compact() > 0


def test_what_is_not_started_says_so() -> None:
    """Before start() every use raises ControlPlaneError."""
    idle = ControlPlane()
    for use in (idle.kubeconfig, idle.compact, idle.start_apiserver, idle.check):
        with pytest.raises(ControlPlaneError, match="not started"):
            use()


def test_a_second_start_is_refused(own: ControlPlane) -> None:
    """start() of a running control plane raises, and the running one stays as it is."""
    with pytest.raises(ControlPlaneError, match="started already"):
        own.start()
    own.check()
