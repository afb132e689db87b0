"""What a fetch has read before is not parsed again, and makes no difference to what it gives."""

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from controller.compass import fetch as fetching
from controller.compass.errors import CompassError, InvalidAnswer, TooLarge
from controller.compass.fetch import ApplicationReader, KnownApplications
from controller.compass.http import HttpAnswer
from controller.compass.limits import Limits
from controller.compass.types import Application, items
from tests.support.compass_border import RUNTIME, DirectorBorder, truthful
from tests.support.fuzzing import PLACES, VALUES, planted, quickly
from tests.unit.compass.fake_director import FakeDirector, application, bundle, fetch

AUTH = {"credential": {"__typename": "BasicCredentialData", "username": "u", "password": "p"}}


def assigning(count: int) -> FakeDirector:
    return FakeDirector(
        [application(n, *(bundle(f"{n}-{b}", apis=3, events=3, auth=AUTH) for b in range(2))) for n in range(count)]
    )


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
    fake = assigning(3)
    director = fake.client()
    first = fetch(director)
    parsed.clear()
    fake.applications[1]["description"] = "new"
    second = fetch(director)
    assert parsed == ["app-0001"]
    assert [a is b for a, b in zip(first.applications, second.applications, strict=True)] == [True, False, True]
    assert second.applications[1].description == "new"
    parsed.clear()
    assert fetch(director).applications == second.applications
    assert parsed == []


def test_more_pages_are_read_each_time(parsed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first page says is not all of it."""
    monkeypatch.setattr(fetching, "NESTED_PER_PAGE", 1)
    fake = FakeDirector([application(1, bundle(0), bundle(1))])
    director = fake.client()
    for name in ("one", "two"):
        fake.applications[0]["bundles"][1]["name"] = name
        (found,) = fetch(director).applications
        assert [bundle.name for bundle in items(found.bundles)] == ["Bundle 0", name]
    assert parsed == ["app-0001", "app-0001"]


def test_unassigned_applications_are_forgotten(parsed: list[str]) -> None:
    """What is kept is what the last fetch had, and not all that ever was."""
    fake = assigning(2)
    director = fake.client()
    fetch(director)
    gone = fake.applications.pop()
    fetch(director)
    fake.applications.append(gone)
    parsed.clear()
    fetch(director)
    assert parsed == ["app-0001"]


def test_a_fetch_that_fails_forgets_nothing(parsed: list[str]) -> None:
    """After an outage nothing has to be parsed that has not changed."""
    fake = assigning(2)
    director = fake.client()
    fetch(director)
    parsed.clear()

    def with_a_number(document: dict[str, Any]) -> dict[str, Any]:
        document["data"]["applicationsForRuntime"]["data"][1] = 5
        return document

    fake.after = with_a_number
    with pytest.raises(InvalidAnswer, match=r"applicationsForRuntime.data\[1\]: is a number instead of an object"):
        fetch(director)
    fake.after = lambda document: document
    fetch(director)
    assert parsed == []


def test_the_memory_of_what_was_read_before_counts() -> None:
    """Twenty applications that take more than twenty may: refused at first, and as much when all of them are known."""
    fake, known = assigning(20), KnownApplications()
    for _ in range(2):
        with pytest.raises(TooLarge):
            fetch(fake.client(known=known, limits=Limits(applications=20)))
        fetch(fake.client(known=known))


def outcome(fetch: Any) -> Any:
    try:
        found = fetch()
    except CompassError as error:
        return type(error)
    return {(type(app), app) for app in (*found.applications, *found.incomplete)}


@quickly
@given(changes=st.lists(st.tuples(PLACES, VALUES), max_size=6))
@example(changes=[([], 2**64), ([0, 1, 0, 0, 3], 2**64)])
def test_earlier_answers_do_not_change_what_is_read(changes: list[tuple[list[int], Any]]) -> None:
    """A client that remembers gives the same as a new client for each answer."""
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
