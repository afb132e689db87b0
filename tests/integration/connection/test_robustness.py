"""What went wrong between the parts of the connection, on a real API server with real TLS."""

from pathlib import Path

from e2e.mock_compass import MockCompass
from e2e.mock_compass.examples import generate
from e2e.world import World
from tests.integration.connection.conftest import StartAgent
from tests.integration.connection.observing import (
    issued,
    wait_for_error,
    wait_for_event,
)


def test_a_certificate_of_another_runtime_changes_nothing_until_the_id_is_corrected(
    world: World, agent: StartAgent
) -> None:
    """The Director would serve the other Runtime: it is neither asked for it nor told of labels."""
    good = world.configuration()
    other = world.compass.state.register_runtime(tenant=world.compass.tenant)
    for application in generate(2):
        world.compass.state.put_application(application, assign_to=(other,))
    world.configure({**good, "RUNTIME_ID": other})
    agent()
    error = wait_for_error(world, world.compass.runtime_id, other)
    assert f"RUNTIME_ID in ConfigMap kyma-system/compass-agent-configuration is {other}" in error
    assert world.state() == "ConnectionFailed"
    wait_for_event(world, "WrongRuntime")
    operations = {call.operation for call in world.compass.requests.all() if call.target == "director"}
    assert operations == {"viewer"}
    assert world.applications() == {}

    world.configure(good)  # the token is used, and not needed
    world.wait_for_state("Synchronized")
    assert world.connection_error() == ""
    assert world.applications() == {}
    assert issued(world) == 1


def test_a_changed_file_of_authorities_is_used_without_a_restart(
    world: World, agent: StartAgent, tmp_path: Path
) -> None:
    """Compass moves to another authority: first nobody is trusted, then the file has the right one."""
    right = world.ca_file.read_text()
    with MockCompass(state_directory=tmp_path / "another") as another:
        world.ca_file.write_text(another.ca_pem)
    world.configure()
    agent()
    wait_for_error(world, "not trusted")
    world.ca_file.write_text(right)
    world.wait_for_state("Synchronized")
    assert issued(world) == 1
