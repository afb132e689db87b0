"""The log answers who changed an object, when and why: a line for each write, with the fetch behind it."""

import copy
import re

import pytest

from controller.compass.errors import Unavailable
from controller.resources import APPLICATION, SECRET
from tests.support.fuzzing import log
from tests.support.sync import Agent, Cluster, Director, application
from tests.unit.applications.conftest import NAME, SECRET_NAME

PASSWORDS = ("hunter2-one", "hunter2-two")


def _lines(text: str, messages: str) -> list[str]:
    """Those with one of the messages, which are a pattern."""
    found = re.compile(rf" INFO controller\.applications\.\w+ ({messages}) ")
    return [line for line in text.splitlines() if found.search(line)]


def _value(line: str, key: str) -> str:
    found = re.search(rf' {key}=("(?:[^"\\]|\\.)*"|\S+)', line)
    assert found is not None, f"no {key} in: {line}"
    return found[1].strip('"').replace('\\"', '"')


def test_each_write_is_one_line_with_the_fetch_behind_it(agent: Agent, director: Director, cluster: Cluster) -> None:
    """Creation, change, drift, replacement and deletion; never a value."""
    with log() as logged:
        _change_everything(agent, director, cluster)
    text = logged.getvalue()
    lines = _lines(text, "Created|Updated|Deleted")
    writes = [
        (re.search(r" (Created|Updated|Deleted) ", line)[1], _value(line, "kind"), _value(line, "object"))  # type: ignore[index]
        for line in lines
    ]
    secret = f"kyma-system/{SECRET_NAME}"
    assert writes == [
        ("Created", "Application", NAME),
        ("Created", "Secret", secret),
        ("Updated", "Secret", secret),
        ("Updated", "Application", NAME),
        ("Deleted", "Secret", secret),
        ("Created", "Secret", secret),
        ("Updated", "Application", NAME),
        ("Deleted", "Application", NAME),
        ("Deleted", "Secret", secret),
    ]
    assert len(writes) == sum(count for what, count in cluster.requests.items() if not what.startswith("get"))
    assert _value(lines[2], "fields") == '["data.password"]'
    assert _value(lines[3], "fields") == '["spec.description"]'
    assert _value(lines[6], "fields") == '["spec.services[id-shop-bundle].entries[id-shop-api].targetUrl"]'
    assert all(_value(line, "reason") for line in lines)
    fetches = [_value(line, "requestID") for line in _lines(text, "Fetched from the Director")]
    assert len(set(fetches)) == len(fetches) == 3
    assert [fetches.index(_value(line, "requestID")) for line in lines] == [0, 0, 1, 1, 1, 1, 1, 2, 2]
    assert not [value for value in (*PASSWORDS, "what it is for", "elsewhere") if value in text]


def _change_everything(agent: Agent, director: Director, cluster: Cluster) -> None:
    director.applications = [application(NAME, secret=PASSWORDS[0])]
    agent.settle()
    director.applications = [application(NAME, secret=PASSWORDS[1], description="what it is for")]
    agent.cycle()
    edited = copy.deepcopy(cluster.applications()[NAME])
    edited["spec"]["services"][0]["entries"][0]["targetUrl"] = "https://elsewhere"
    cluster.put(APPLICATION, edited)
    immutable = copy.deepcopy(cluster.secrets()[SECRET_NAME]) | {"immutable": True, "data": {}}
    cluster.put(SECRET, immutable)
    agent.cycle(0)
    director.applications = []
    agent.cycle()


def test_a_quiet_cycle_is_one_line(agent: Agent, director: Director) -> None:
    director.applications = [application(f"app-{number}") for number in range(5)]
    agent.settle()
    with log() as logged:
        agent.cycle()
    (line,) = _lines(logged.getvalue(), ".*")
    assert "Fetched from the Director" in line


def test_each_failed_call_is_a_warning_with_its_request_id(
    agent: Agent, director: Director, caplog: pytest.LogCaptureFixture
) -> None:
    """Fetches and reports of labels: the id is what the people of Compass search for."""
    director.label_error = Unavailable("read only")
    agent.settle()
    director.error = Unavailable("HTTP 502")
    agent.cycle()
    ids: dict[str, list[str]] = {}
    for record in caplog.records:
        ids.setdefault(record.getMessage(), []).append(getattr(record, "requestID", ""))
    for message in ("Report of a label failed", "Fetch from the Director failed"):
        assert ids[message]
        assert all(request_id.startswith("runtime_") for request_id in ids[message])
