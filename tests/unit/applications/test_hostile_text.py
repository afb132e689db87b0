"""Any name from Compass is short and printable where people read it."""

import json

import pytest

from controller.compass.types import IncompleteApplication
from tests.support.fuzzing import strings
from tests.support.sync import Agent, Cluster, Director, application

HOSTILE = "\x1b[2Jgone\r\nFORGED\x9b31m\u202e"
HUGE = "x" * 2_000_000


@pytest.mark.parametrize("name", [HOSTILE, HUGE, HUGE + HOSTILE], ids=["hostile", "huge", "both"])
def test_names_reach_the_status_short_and_printable(
    agent: Agent, director: Director, cluster: Cluster, name: str
) -> None:
    """An invalid name, a clash, an incomplete application: each is named as far as it goes, and the rest as well."""
    director.labels = {"isNormalized": "true"}
    director.applications = [
        application(name, identifier="1"),
        application(f"twin {name}", identifier="2"),
        application(f"twin {name}", identifier="3"),
        application("fine"),
    ]
    director.incomplete = [IncompleteApplication("4", f"incomplete {name}", f"because of {name}")]
    agent.settle()
    assert cluster.applications().keys() == {"fine"}
    assert len(json.dumps(agent.connection)) < 10_000
    assert [text for text in strings(agent.connection) if not text.isprintable()] == []
    assert len(agent.status["applications"]["failing"]) == 3
