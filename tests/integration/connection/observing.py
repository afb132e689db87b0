"""What the tests of the connection look at and wait for."""

from typing import Any

from controller.resources import COMPASS_CONNECTION, CONFIG_MAP, CONNECTION_NAME
from e2e.mock_compass.examples import generate
from e2e.world import CLUSTER_SECRET, CONFIGURATION, Object, World
from informers import NotFound
from tests.integration.connection.conftest import StartAgent
from tests.support.agent_thread import AgentThread


def synchronized(world: World, agent: StartAgent, **settings: str) -> AgentThread:
    """Paired, with three Applications."""
    for application in generate(3):
        world.compass.put_application(application)
    world.configure()
    started = agent(**settings)
    world.wait_for_state("Synchronized")
    return started


def certificate(world: World) -> str:
    return (world.secret(CLUSTER_SECRET) or {}).get("crt", "")


def issued(world: World) -> int:
    """How many certificates the Connector has signed."""
    return len(world.compass.state.certificates())


def wait_for_error(world: World, *parts: str) -> str:
    def reported() -> str:
        error = world.connection_error()
        return error if all(part in error for part in parts) else ""

    return world.wait_for(f"an error with {parts}", reported)


def wait_for_sync_error(world: World, part: str) -> str:
    return world.wait_for(f"an error with {part}", lambda: world.sync_error() if part in world.sync_error() else "")


def wait_for_fetches(world: World, number: int) -> None:
    """That many more whole fetches."""
    end = world.compass.requests.count("director") + number + 1
    world.wait_for(f"{number} more fetches", lambda: world.compass.requests.count("director") >= end)


def events(world: World) -> list[Object]:
    """Those of the present CompassConnection: Events outlive their objects."""
    uid = (world.connection() or {})["metadata"]["uid"]
    return [event for event in world.events() if event["involvedObject"].get("uid") == uid]


def wait_for_event(world: World, *reasons: str) -> None:
    world.wait_for(f"Events {reasons}", lambda: set(reasons) <= {event["reason"] for event in events(world)})


def edit_status(world: World, status: Any) -> None:
    """A merge patch of the status by hand, on either CRD; None wipes it."""
    try:
        world.client.patch(COMPASS_CONNECTION, CONNECTION_NAME, {"status": status}, subresource="status")
    except NotFound:
        world.patch_connection({"status": status})


def delete_configuration(world: World) -> None:
    world.client.delete(CONFIG_MAP, CONFIGURATION.name, namespace=CONFIGURATION.namespace)
