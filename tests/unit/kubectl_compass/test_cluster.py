"""What the plugin takes from the Deployment."""

from typing import Any

from controller.settings import ObjectName
from kubectl_compass.arguments import Connect
from kubectl_compass.cluster import DEPLOYMENTS, Cluster
from tests.support.object_store import ObjectStore

Object = dict[str, Any]


def cluster(env: list[Object] | None) -> Cluster:
    store = ObjectStore()
    if env is not None:
        container = {"name": "compass-runtime-agent", "env": env}
        other = {"name": "istio-proxy", "env": [{"name": "APP_LOG_LEVEL", "value": "debug"}]}
        spec = {"template": {"spec": {"containers": [other, container], "serviceAccountName": "robot"}}}
        name = {"name": "compass-runtime-agent", "namespace": "there"}
        store.create(DEPLOYMENTS, {"metadata": name, "spec": spec}, namespace="there")
    here = {"APP_AGENT_CONFIGURATION_SECRET": "here/secret"}
    return Cluster(store, Connect("", "", "there"), environment=here)  # type: ignore[arg-type]


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
