"""Failures that go on are told once: ids that differ in each answer of Compass, and its random order, are no news."""

import copy
import uuid
from dataclasses import replace
from typing import Any

from controller.compass.http import HttpAnswer
from tests.support.compass_border import RUNTIME, DirectorBorder, truthful
from tests.support.sync import Agent, Cluster

APPLICATIONS = 16
FAILING = 12  # more than the status names
CYCLES = 10

_TIMES = {
    "lastAttempt",
    "lastSuccessfulFetch",
    "lastSuccessfulApplication",
    "lastSync",
    "lastSuccess",
    "lastTransitionTime",
}


def _synchronised() -> tuple[Agent, DirectorBorder]:
    director = DirectorBorder(APPLICATIONS)
    agent = Agent(Cluster(), director.client())  # type: ignore[arg-type]
    agent.credentials.registration = replace(agent.credentials.registration, runtime_id=RUNTIME)
    agent.settle()
    assert agent.state == "Synchronized"
    agent.recorder.events.clear()
    agent.cluster.requests.clear()
    return agent, director


def _failing(document: dict[str, Any]) -> HttpAnswer:
    """The bundles of the first Applications cannot be read, each with an id of its own, as the Director words it."""
    data = copy.deepcopy(document["data"])
    if "applicationsForRuntime" not in data:
        return truthful(document)
    errors = []
    for position, item in enumerate(data["applicationsForRuntime"]["data"][:FAILING]):
        item["bundles"] = None
        message = f"Internal Server Error [errorID={uuid.uuid4()}, reason: the database is asleep]"
        path = ["applicationsForRuntime", "data", position, "bundles"]
        errors.append({"message": message, "path": path, "extensions": {"error_code": 10, "error": "InternalError"}})
    return truthful({"data": data, "errors": errors[::-1] if uuid.uuid4().int % 2 else errors})


def _meaning(value: Any) -> Any:
    """A document without its moments."""
    if isinstance(value, dict):
        return {key: _meaning(item) for key, item in value.items() if key not in _TIMES}
    return [_meaning(item) for item in value] if isinstance(value, list) else value


def test_applications_that_fail_in_each_cycle_are_one_event_each() -> None:
    """The status says the same all the time, in one write a cycle, and no Application is written but for the first."""
    agent, director = _synchronised()
    director.intervene = _failing
    agent.cycle(60)
    meaning, writes = _meaning(agent.status), agent.connections.writes
    assert meaning["applications"]["failed"] == FAILING
    assert agent.cluster.requests["update Application"] == FAILING  # the annotation that says so
    agent.cluster.requests.clear()
    for _ in range(CYCLES):
        agent.cycle(60)
        assert _meaning(agent.status) == meaning
    assert agent.connections.writes - writes == CYCLES
    assert not agent.cluster.requests
    told = agent.recorder.of("Incomplete")
    assert len(told) == len({name for name, _ in told}) == FAILING
    assert {reason for _, _, reason, _ in agent.recorder.events} == {"Incomplete", "ResourceApplicationFailed"}


def test_a_fetch_that_fails_with_another_id_each_time_is_one_event() -> None:
    """The Event has the text without ids, so the recorder counts it; the status has the number of the last call."""
    agent, director = _synchronised()

    def failing(_: dict[str, Any]) -> HttpAnswer:
        message = f"Internal Server Error [errorID={uuid.uuid4()}, reason: the database is asleep]"
        return truthful({"data": None, "errors": [{"message": message, "extensions": {"error_code": 10}}]})

    director.intervene = failing
    for _ in range(CYCLES):
        agent.cycle(60)
    assert len(set(agent.recorder.events)) == 1
    assert "the database is asleep" in agent.sync_error
    assert "x-request-id" in agent.sync_error
