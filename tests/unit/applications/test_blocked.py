"""The status shows what blocks an Application, and the remedy: finalizers and hanging webhooks."""

import copy
import threading

import pytest

from controller.resources import APPLICATION, SECRET
from informers.errors import ApiError
from informers.resource import Resource
from tests.support.sync import Agent, Cluster, Director, application
from tests.unit.applications.conftest import NAME, SECRET_NAME


@pytest.mark.parametrize("assigned", [True, False])
def test_an_unwanted_secret_that_a_finalizer_keeps_is_named(
    assigned: bool, synced: Agent, director: Director, cluster: Cluster
) -> None:
    """It has credentials, so its Application is not in sync; it is deleted once."""
    (secret,) = copy.deepcopy(cluster.secrets()).values()
    secret["metadata"]["finalizers"] = ["example.com/one", "example.com/two"]
    cluster.put(SECRET, secret)
    director.applications = [application(NAME, secret=None)] if assigned else []
    synced.cycle()
    assert not synced.recorder.of("ApplicationFailed"), "usual for some seconds"
    for _ in range(3):
        synced.cycle(15.0)
        assert synced.state == "ResourceApplicationFailed"
        assert f"{NAME}: Secret {SECRET_NAME}: its deletion is not complete (" in synced.sync_error
        assert "(example.com/one, example.com/two)" in synced.sync_error
    assert cluster.requests["delete Secret"] == 1
    (event,) = [event for event in synced.recorder.events if event[2] == "ApplicationFailed"]
    assert event[:2] == (NAME, "Warning")
    assert f"{NAME}: {event[3]}" in synced.sync_error
    cluster.remove(SECRET, secret["metadata"]["name"], secret["metadata"]["namespace"])
    synced.cycle(2.0)
    assert synced.state == "Synchronized"


@pytest.mark.parametrize("assigned", [True, False])
def test_an_application_that_a_finalizer_keeps_is_named(
    assigned: bool, synced: Agent, director: Director, cluster: Cluster
) -> None:
    """Whether a user deletes it, so that it is created again, or it is unassigned."""
    cluster.edit(APPLICATION, NAME, lambda obj: obj["metadata"].update(finalizers=["example.com/theirs"]))
    if assigned:
        cluster.delete(APPLICATION, NAME, uid=cluster.applications()[NAME]["metadata"]["uid"])
        synced.settle()
    else:
        director.applications = []
        synced.cycle()
        assert not cluster.secrets(), "its credentials go at once"
    synced.clock.advance(9.5)
    assert synced.step(NAME) is None
    assert not synced.recorder.of("ApplicationFailed"), "usual for some seconds"
    synced.cycle(0.5)
    assert synced.state == "ResourceApplicationFailed"
    assert "example.com/theirs" in synced.sync_error
    for _ in range(3):
        synced.cycle()
        assert "example.com/theirs" in synced.sync_error
    assert cluster.requests["delete Application"] == 1
    assert len(synced.recorder.of("ApplicationFailed")) == 1
    cluster.remove(APPLICATION, NAME)
    synced.cycle(2.0)
    assert synced.state == "Synchronized"
    assert cluster.applications().keys() == ({NAME} if assigned else set())


def test_a_write_that_hangs_is_in_the_status_while_it_hangs(
    synced: Agent, director: Director, cluster: Cluster
) -> None:
    """An admission webhook may take half a minute for each write."""
    arrived, answer = threading.Event(), threading.Event()

    def hang(method: str, resource: Resource, name: str) -> ApiError | None:
        if (method, name) == ("update", NAME):
            arrived.set()
            assert answer.wait(30)
        return None

    cluster.failure = hang
    director.applications = [application(NAME, description="new")]
    synced.clock.advance(30.0)
    again = synced.step_sync()
    assert again is not None
    assert again <= 5.0
    worker = threading.Thread(target=synced.step, args=(NAME,))
    worker.start()
    try:
        assert arrived.wait(30)
        synced.clock.advance(again)
        synced.step_sync()
        synced.step_sync()
        assert synced.state == "ResourceApplicationFailed"
        assert f"{NAME}: the API server has not answered" in synced.sync_error
    finally:
        answer.set()
        worker.join()
    synced.clock.advance(5.0)
    synced.settle()
    assert synced.state == "Synchronized"
