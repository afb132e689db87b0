"""The answer of each write is compared with the desired object, in the fields of the agent."""

from typing import Any

import pytest

from controller.applications.objects import NotApplied
from controller.compass.types import IncompleteApplication
from controller.resources import APPLICATION, SECRET, SYNC_STATUS
from informers.errors import Forbidden
from informers.resource import Resource
from tests.support.sync import NAMESPACE, Agent, Cluster, Director, application
from tests.unit.applications.conftest import NAME, SECRET_NAME

Object = dict[str, Any]


def _describe(resource: Resource, obj: Object) -> None:
    if resource is APPLICATION:
        obj["spec"]["description"] = "the policy's"


def _prune_services(resource: Resource, obj: Object) -> None:
    if resource is APPLICATION:
        obj["spec"].pop("services", None)


def _drop_label(resource: Resource, obj: Object) -> None:
    if resource is APPLICATION:
        obj["metadata"]["labels"] = {}


def _empty_secret(resource: Resource, obj: Object) -> None:
    if resource is SECRET:
        obj["data"] = {"username": "eA=="}


@pytest.mark.parametrize(
    ("mutate", "field"),
    [
        (_describe, "spec.description"),
        (_prune_services, "spec.services"),
        (_drop_label, "metadata.labels.applicationconnector.kyma-project.io/managed-by"),
        (_empty_secret, "data.password, data.username"),
    ],
)
def test_a_field_that_the_cluster_changes_is_named(
    agent: Agent, director: Director, cluster: Cluster, mutate: Any, field: str
) -> None:
    """The next writes have pauses, and there is one Event."""
    cluster.mutate = mutate
    director.applications = [application(NAME), application("other", secret=None)]
    agent.settle()
    assert agent.state == "ResourceApplicationFailed"
    assert f"{NAME}: " in agent.sync_error
    assert f"the cluster changes {field} of the" in agent.sync_error
    assert "exclude objects of Compass from the policy, or apply the CRD of this release" in agent.sync_error
    assert agent.status["applications"]["synced"] < 2
    assert cluster.applications()[NAME]["metadata"]["annotations"][SYNC_STATUS] != "Synced"
    assert "user" not in agent.sync_error.replace("username", "")
    writes = sum(cluster.requests.values())
    for _ in range(20):
        agent.enqueue(NAME)
        agent.settle()
    assert sum(cluster.requests.values()) == writes, "written again without a pause"
    agent.cycle()
    assert sum(cluster.requests.values()) == writes + agent.status["applications"]["failed"]
    assert len(set(agent.recorder.of("ApplicationFailed"))) <= 2, "one Event for each Application"
    cluster.mutate = lambda _resource, _obj: None
    agent.cycle()
    assert agent.state == "Synchronized"
    assert cluster.applications()[NAME]["metadata"]["annotations"][SYNC_STATUS] == "Synced"


def test_a_status_that_the_cluster_does_not_keep_is_named(synced: Agent, director: Director, cluster: Cluster) -> None:
    """The annotation of an Application with a problem: it is written with pauses, too."""
    agent = synced
    cluster.mutate = lambda _, obj: obj["metadata"].pop("annotations", None)
    director.applications.append(application(NAME, identifier="another"))
    agent.cycle()
    assert "the cluster changes metadata.annotations of the Application" in agent.sync_error
    writes = cluster.requests["update Application"]
    for _ in range(20):
        agent.enqueue(NAME)
        agent.settle()
    assert cluster.requests["update Application"] == writes
    for _ in range(20):  # the pauses grow to minutes
        agent.cycle()
    writes = cluster.requests["update Application"]
    director.applications = []
    director.incomplete = [IncompleteApplication("id", NAME, "cut off")]
    agent.cycle()
    assert cluster.requests["update Application"] == writes + 1, "another status is written at once"


@pytest.mark.parametrize("mutate", [_describe, _empty_secret])
def test_new_content_is_written_without_a_pause(
    agent: Agent, director: Director, cluster: Cluster, mutate: Any
) -> None:
    """The pauses have grown to minutes, and they are for one content."""
    cluster.mutate = mutate
    director.applications = [application(NAME)]
    for _ in range(20):
        agent.cycle()
    cluster.mutate = lambda _resource, _obj: None
    agent.cycle()
    assert agent.state == "ResourceApplicationFailed"
    director.applications = [application(NAME, description="changed", secret="changed")]
    agent.cycle()
    assert agent.state == "Synchronized"


def test_the_status_after_an_override_includes_secrets(agent: Agent, director: Director, cluster: Cluster) -> None:
    """The cluster keeps the Application again, and refuses its Secret."""
    cluster.mutate = _describe
    director.applications = [application(NAME)]
    agent.settle()
    cluster.mutate = lambda _resource, _obj: None
    cluster.remove(SECRET, SECRET_NAME, NAMESPACE)
    agent.deliver()
    cluster.failure = lambda _, resource, __: Forbidden("no", status=403) if resource is SECRET else None
    agent.clock.advance(30.0)
    assert isinstance(agent.step(NAME), NotApplied)
    assert cluster.applications()[NAME]["metadata"]["annotations"][SYNC_STATUS] == "SecretsFailed"
