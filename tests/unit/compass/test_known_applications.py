"""What a fetch has read before is not parsed again, and makes no difference to what it gives."""

import json
from typing import Any, TypeVar

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.compass.answers import Answer, decode
from controller.compass.errors import CompassError, InvalidAnswer, TooLarge
from controller.compass.fetch import ApplicationReader, Fetch, KnownApplications
from controller.compass.http import HttpAnswer
from controller.compass.limits import Limits
from controller.compass.queries import PAGE, Operation
from controller.compass.types import Application, Assignment, items
from tests.support.compass_border import RUNTIME, DirectorBorder, truthful
from tests.support.fuzzing import PLACES, VALUES, planted, quickly

T = TypeVar("T")

AUTH = {"credential": {"__typename": "BasicCredentialData", "username": "u", "password": "p"}}


def listed(items: list[Any], more: bool = False) -> dict[str, Any]:
    return {
        "data": items,
        "pageInfo": {"hasNextPage": more, "endCursor": "next" if more else ""},
        "totalCount": len(items) + more,
    }


def application(number: int = 1, **more: Any) -> dict[str, Any]:
    apis = [{"id": f"api-{number}-{n}", "name": f"API {n}", "targetURL": "https://t"} for n in range(3)]
    events = [{"id": f"event-{number}-{n}", "name": f"Event {n}"} for n in range(3)]
    bundles = [
        {
            "id": f"bundle-{number}-{n}",
            "name": f"Bundle {n}",
            "defaultInstanceAuth": AUTH,
            "apiDefinitions": listed(apis),
            "eventDefinitions": listed(events),
        }
        for n in range(2)
    ]
    auths = [{"id": "auth-1"}, {"id": "auth-2"}]
    return {"id": f"app-{number}", "name": f"app {number}", "auths": auths, "bundles": listed(bundles), **more}


class Director:
    """Answers with its applications in one page."""

    def __init__(self, *applications: dict[str, Any]) -> None:
        self.applications = [*applications]
        self.known: KnownApplications = {}
        self.follow_up: dict[str, Any] = {}

    def __call__(self, operation: Operation[T], variables: dict[str, Any], *, timeout: float) -> Answer[T]:
        data: dict[str, Any] = {"runtime": {"labels": {}}, "applicationsForRuntime": listed(self.applications)}
        text = json.dumps(data if operation is PAGE else self.follow_up).encode()
        return Answer(decode(text, operation.data), size=len(text))

    def fetch(self) -> Assignment:
        return Fetch(self, "runtime", per_page=500, limits=Limits(), known=self.known).run()


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the applications that were decoded."""
    ids: list[str] = []
    read = ApplicationReader.read

    def noted(reader: ApplicationReader, found: Application) -> Application:
        ids.append(found.id)
        return read(reader, found)

    monkeypatch.setattr(ApplicationReader, "read", noted)
    return ids


def test_only_what_has_changed_is_parsed(parsed: list[str]) -> None:
    """And what was read before is the very same value."""
    director = Director(*(application(number) for number in range(3)))
    first = director.fetch()
    parsed.clear()
    director.applications[1]["description"] = "new"
    second = director.fetch()
    assert parsed == ["app-1"]
    assert [a is b for a, b in zip(first.applications, second.applications, strict=True)] == [True, False, True]
    assert second.applications[1].description == "new"
    parsed.clear()
    third = director.fetch()
    assert parsed == []
    assert third.applications == second.applications


@st.composite
def orders(draw: st.DrawFn) -> dict[str, Any]:
    """The application with every list in it in some order."""

    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shuffled(item) for key, item in value.items()}
        return [shuffled(item) for item in draw(st.permutations(value))] if isinstance(value, list) else value

    found: dict[str, Any] = shuffled(application())
    return found


@given(order=orders())
def test_another_order_of_nested_lists_is_no_change(order: dict[str, Any]) -> None:
    """The value from before is kept, so nobody has to compare it."""
    director = Director(application())
    (before,) = director.fetch().applications
    director.applications = [order]
    assert director.fetch().applications[0] is before


def test_more_pages_are_read_each_time(parsed: list[str]) -> None:
    """What the first page says is not all of it."""
    more = application()
    more["bundles"] = listed([], more=True)
    director = Director(more)
    for name in ("one", "two"):
        bundle = {"id": "b", "name": name, "apiDefinitions": listed([]), "eventDefinitions": listed([])}
        director.follow_up = {"application": {"id": "app-1", "bundles": listed([bundle])}}
        (found,) = director.fetch().applications
        assert [bundle.name for bundle in items(found.bundles)] == [name]
    assert parsed == ["app-1", "app-1"]


def test_what_is_gone_is_forgotten(parsed: list[str]) -> None:
    """What is kept is what the last fetch had, and not all that ever was."""
    director = Director(application(1), application(2))
    director.fetch()
    gone = director.applications.pop()
    director.fetch()
    director.applications.append(gone)
    parsed.clear()
    director.fetch()
    assert parsed == ["app-2"]


def test_a_fetch_that_fails_forgets_nothing(parsed: list[str]) -> None:
    """After an outage nothing has to be parsed that has not changed."""
    director = Director(application(1), application(2))
    director.fetch()
    parsed.clear()
    director.applications.append(5)  # type: ignore[arg-type]
    with pytest.raises(InvalidAnswer, match="is a number"):
        director.fetch()
    director.applications.pop()
    director.fetch()
    assert set(parsed) == set()


def test_the_memory_of_what_was_read_before_counts() -> None:
    """Twenty applications that take more than twenty may: refused at first, and as much when all of them are known."""
    director = Director(*(application(number) for number in range(20)))
    for known in ({}, director.known):
        with pytest.raises(TooLarge):
            Fetch(director, "runtime", per_page=500, limits=Limits(applications=20), known=known).run()
        director.fetch()


def outcome(fetch: Any) -> Any:
    try:
        found = fetch()
    except CompassError as error:
        return type(error)
    return {(type(app), app) for app in (*found.applications, *found.incomplete)}


@quickly
@given(changes=st.lists(st.tuples(PLACES, VALUES), max_size=6))
def test_whatever_comes_is_read_as_if_nothing_had_been_read_before(changes: list[tuple[list[int], Any]]) -> None:
    """A Director client that remembers, beside a new one for each answer: all that changes is the work."""
    border = DirectorBorder(3)
    client = border.client()
    for way, value in changes:
        border.intervene = lambda document, way=way, value=value: truthful(planted(document, way, value))  # type: ignore[misc]
        assert outcome(lambda: client.fetch(RUNTIME, request_id="r")) == outcome(
            lambda: border.client().fetch(RUNTIME, request_id="r")
        )
        border.intervene = truthful
        assert len(client.fetch(RUNTIME, request_id="r").applications) == 3


def test_an_application_with_invalid_text_is_incomplete() -> None:
    """Bytes that are no UTF-8 concern their application only."""
    border = DirectorBorder(2)

    def broken(document: dict[str, Any]) -> HttpAnswer:
        found = document["data"]["applicationsForRuntime"]["data"]
        found[1]["description"] = "what?"
        return HttpAnswer(200, orjson.dumps(document).replace(b"what?", b"\xff"), "")

    border.intervene = broken
    result = border.client().fetch(RUNTIME, request_id="r")
    assert len(result.applications) == 1
    assert [item.reason for item in result.incomplete] == ["is not JSON"]


def test_items_that_are_no_objects_fail_the_fetch() -> None:
    director = Director(application(1))
    director.applications.append(5)  # type: ignore[arg-type]
    with pytest.raises(InvalidAnswer, match=r"applicationsForRuntime.data\[1\]: is a number instead of an object"):
        director.fetch()
