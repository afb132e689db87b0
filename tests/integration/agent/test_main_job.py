"""The main job: pair, sync, follow changes, undo drift, leave alone what is not ours."""

import copy

from controller.resources import APPLICATION, SECRET
from e2e.mock_compass.examples import landscape
from e2e.world import CA_SECRET, CLUSTER_SECRET, World


def _synchronized(world: World) -> None:
    for application in landscape():
        world.compass.put_application(application)
    world.configure()
    world.agent().start()
    world.wait_for_state("Synchronized")


def test_a_runtime_is_paired_and_follows_the_director(world: World) -> None:
    """Everything that is assigned appears; what is changed changes; what is unassigned goes, Secrets included."""
    _synchronized(world)
    assigned = world.compass.state.applications_of(world.compass.runtime_id)
    assert len(world.applications()) == len(assigned) == 7
    assert world.secret(CLUSTER_SECRET)
    assert world.secret(CA_SECRET)
    assert world.compass.state.runtime(world.compass.runtime_id).labels["runtime_consoleUrl"]  # type: ignore[union-attr]

    changed = assigned[0]
    world.compass.state.change_application(changed["id"], {"description": "changed"})
    world.wait_for(
        "the changed description",
        lambda: "changed" in [a["spec"]["description"] for a in world.applications().values()],
    )

    for application in assigned:
        world.compass.state.unassign(application["id"], world.compass.runtime_id)
    world.wait_for("no Application left", lambda: not world.applications())
    world.wait_for("no Secret left", lambda: not world.secrets())


def test_drift_is_undone_and_what_users_own_survives(world: World) -> None:
    """Edits of the agent's fields, deleted Applications and Secrets are put right; labels of users stay."""
    _synchronized(world)
    before = world.applications()
    calls = world.compass.requests
    name = "mp-harbour-logistics-erp"
    edited = copy.deepcopy(before[name])
    edited["spec"]["description"] = "edited by hand"
    edited["metadata"]["labels"]["team"] = "harbour"
    edited["spec"]["encodeUrl"] = True
    world.client.update(APPLICATION, edited)
    world.wait_for(
        "the description to be put right",
        lambda: world.applications()[name]["spec"]["description"] == before[name]["spec"]["description"],
        timeout=5,
    )
    after = world.applications()[name]
    assert after["metadata"]["labels"]["team"] == "harbour"
    assert after["spec"]["encodeUrl"] is True

    uid = after["metadata"]["uid"]
    world.client.delete(APPLICATION, name)
    world.wait_for("the Application to be back", lambda: world.applications().get(name), timeout=5)
    again = world.applications()[name]
    assert again["metadata"]["uid"] != uid
    world.wait_for(
        "the Secrets to belong to the new Application",
        lambda: all(
            secret["metadata"]["ownerReferences"][0]["uid"] == again["metadata"]["uid"]
            for secret in world.secrets().values()
            if secret["metadata"]["labels"]["app"] == name
        ),
        timeout=5,
    )

    secret = next(iter(world.secrets()))
    world.client.delete(SECRET, secret, namespace="kyma-system")
    world.wait_for("the Secret to be back", lambda: secret in world.secrets(), timeout=5)
    assert calls is world.compass.requests


def test_applications_of_users_are_never_touched(world: World) -> None:
    """An Application without compassMetadata stays as it is, also when Compass assigns one of the same name."""
    mine = world.put(APPLICATION, {"metadata": {"name": "mp-city-weather"}, "spec": {"description": "mine"}})
    for application in landscape():
        world.compass.put_application(application)
    world.configure()
    world.agent().start()
    world.wait_for_state("ResourceApplicationFailed")
    assert "mp-city-weather" in world.sync_error()
    assert world.applications()["mp-city-weather"] == mine
    assert len(world.applications()) == 7
    world.client.delete(APPLICATION, "mp-city-weather")
    world.wait_for_state("Synchronized")
