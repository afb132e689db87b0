"""The main job, by an agent that is a process: pair, synchronise, follow changes."""

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
