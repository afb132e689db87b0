"""How many client keys an agent makes."""

from typing import Any

import pytest

from e2e.world import World
from tests.integration.connection.conftest import StartAgent
from tests.support import agent_thread


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All keys that are made, in their order."""
    keys: list[Any] = []
    new = agent_thread.small_key

    def noted(bits: int) -> Any:
        keys.append(new(bits))
        return keys[-1]

    monkeypatch.setattr(agent_thread, "small_key", noted)
    return keys


def test_a_pairing_takes_one_key_and_a_restart_none(world: World, agent: StartAgent, made: list[Any]) -> None:
    """The one that was made while the start was going on; where there are credentials, none is made."""
    world.configure()
    first = agent()
    world.wait_for_state("Synchronized")
    first.stop()
    assert len(made) == 1
    second = agent()
    fetches = len(world.compass.requests.all())
    world.wait_for("a fetch by the second agent", lambda: len(world.compass.requests.all()) > fetches + 2)
    second.stop()
    assert len(made) == 1


def test_without_a_configuration_no_key_is_made(world: World, agent: StartAgent, made: list[Any]) -> None:
    """It is made when it is needed."""
    waiting = agent()
    world.wait_for("an error", lambda: "no pairing configuration" in str((world.connection() or {}).get("status")))
    assert not made
    world.configure()
    world.wait_for_state("Synchronized")
    waiting.stop()
    assert len(made) == 1
