"""What the plugin takes from the Deployment."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.settings import ObjectName
from informers import ConnectionFailed
from kubectl_compass.arguments import Connect, connect, parser
from kubectl_compass.cluster import Cluster, open_cluster
from tests.fake_api_server.server import FakeAPIServer, NoAnswer
from tests.unit.kubectl_compass.bench import Object, Server


def cluster(env: list[Object] | None) -> Cluster:
    container = {"name": "compass-runtime-agent", "env": env}
    other = {"name": "istio-proxy", "env": [{"name": "APP_LOG_LEVEL", "value": "debug"}]}
    pod = {"containers": [other, container], "serviceAccountName": "robot"}
    server = Server(Deployment=None if env is None else {"spec": {"template": {"spec": pod}}})
    here = {"APP_AGENT_CONFIGURATION_SECRET": "here/secret"}
    return Cluster(server, Connect(namespace="there"), environment=here)  # type: ignore[arg-type]


def test_the_settings_are_those_of_the_deployment() -> None:
    """Of the agent's container. A file of the Pod, in any spelling, is not looked for on this machine."""
    found = cluster(
        [
            {"name": "APP_AGENT_CONFIGURATION_SECRET", "value": "there/other"},
            {"name": "APP_COMPASS_CA_FILE", "value": "/only/in/the/Pod"},
            {"name": "app_compasscafile", "value": "/only/in/the/Pod"},
            {"name": "APP_POD_UID", "valueFrom": {}},
        ]
    )
    assert found.settings.configuration == ObjectName("there", "other")
    assert found.settings.log_level == "info"
    assert found.service_account == "robot"


def test_without_a_deployment_they_are_those_of_this_process() -> None:
    found = cluster(None)
    assert found.settings.configuration == ObjectName("here", "secret")
    assert (found.service_account, found.replicas) == ("compass-runtime-agent", None)


def options(server: FakeAPIServer, path: Path, **user: Any) -> list[str]:
    """Those that name the server, in another context than the current one."""
    config = {
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "none",
    }
    path.write_text(yaml.safe_dump(config))
    return ["--kubeconfig", str(path), "--context=x"]


@pytest.mark.parametrize("words", [["status", "--as=jane"], ["--as", "jane", "status"]])
def test_another_user_is_impersonated(words: list[str], tmp_path: Path) -> None:
    """Instead of the one that the kubeconfig names; its groups stay, as for kubectl."""
    with FakeAPIServer() as server:
        user = {"as": "somebody", "as-groups": ["admins"]}
        given = [*options(server, tmp_path / "kubeconfig", **user), *words]
        with open_cluster(connect(parser().parse_args(given)), {}) as cluster:
            assert cluster.connection() is None
        (request,) = server.requests
    assert [header for header in request.header_list if header[0].startswith("Impersonate")] == [
        ("Impersonate-User", "jane"),
        ("Impersonate-Group", "admins"),
    ]


@pytest.mark.parametrize("text", ["200ms", "1"])
def test_a_request_ends_within_its_timeout(text: str, tmp_path: Path) -> None:
    with FakeAPIServer() as server:
        server.inject("other", NoAnswer())
        given = [*options(server, tmp_path / "kubeconfig"), "status", f"--request-timeout={text}"]
        began = time.monotonic()
        with open_cluster(connect(parser().parse_args(given)), {}) as cluster, pytest.raises(ConnectionFailed):
            cluster.connection()
        assert time.monotonic() - began < 10
