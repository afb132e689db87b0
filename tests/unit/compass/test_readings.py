"""What a fetch has read before is not parsed again, and makes no difference to what it gives."""

import copy
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from controller.compass import Application, Assignment, CompassError, InvalidAnswer, TooLarge, pages, plain
from controller.compass.answers import Answer, Received
from controller.compass.fetch import Fetch
from controller.compass.http import HttpAnswer
from controller.compass.limits import Limits
from controller.compass.nested import ApplicationReader
from controller.compass.queries import Operation
from controller.compass.readings import Readings
from tests.support.director_border import RUNTIME, DirectorBorder, truthful
from tests.support.fuzzing import PLACES, VALUES, planted, quickly

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
        self.readings = Readings()
        self.follow_up: dict[str, Any] = {}

    def __call__(
        self, operation: Operation, variables: dict[str, Any], *, timeout: float, answer_part: float
    ) -> Answer:
        data: dict[str, Any] = {"runtime": {"labels": {}}, "applicationsForRuntime": listed(self.applications)}
        if not operation.whole_applications:
            data = self.follow_up
        http = HttpAnswer(200, json.dumps({"data": data}).encode(), "")
        received = Received.read(http, max_memory=10**9, whole_applications=operation.whole_applications)
        return Answer(received.document["data"], (), "")

    def fetch(self) -> Assignment:
        return Fetch(self, "runtime", per_page=500, limits=Limits(), readings=self.readings).run()


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the applications that were parsed, at once or field by field."""
    ids: list[str] = []
    read, read_plain = ApplicationReader.read, plain.read

    def noted(reader: ApplicationReader, application_id: str, name: str, item: dict[str, Any]) -> Any:
        ids.append(application_id)
        return read(reader, application_id, name, item)

    def noted_plain(text: Raw) -> Application | None:
        found = read_plain(text)
        ids.extend([found.id] if found else [])
        return found

    monkeypatch.setattr(ApplicationReader, "read", noted)
    monkeypatch.setattr(plain, "read", noted_plain)
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


def paths(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the texts of a document are."""
    if isinstance(value, dict):
        return [path for key, item in value.items() for path in paths(item, (*way, key))]
    if isinstance(value, list):
        return [path for number, item in enumerate(value) for path in paths(item, (*way, number))]
    return [way] if isinstance(value, str) and way[-1] not in ("endCursor", "__typename") else []


@pytest.mark.parametrize("path", paths(application()), ids=lambda path: ".".join(map(str, path)))
def test_any_other_change_is_one(path: tuple[Any, ...]) -> None:
    """Of each text in an application, by a single character."""
    director = Director(application())
    (before,) = director.fetch().applications
    place: Any = director.applications[0]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] += "x"
    assert director.fetch().applications != (before,)


def test_what_goes_over_to_another_bundle_is_a_change() -> None:
    """All texts are the same, and only their order differs: but not within one list."""
    director = Director(application())
    (before,) = director.fetch().applications
    one, other = (bundle["apiDefinitions"] for bundle in director.applications[0]["bundles"]["data"])
    other["data"] = [*other["data"], {**one["data"][0], "id": "moved"}]
    other["totalCount"] += 1
    (between,) = director.fetch().applications
    one["data"], other["data"] = other["data"], one["data"]
    one["totalCount"], other["totalCount"] = other["totalCount"], one["totalCount"]
    (after,) = director.fetch().applications
    assert len({id(before), id(between), id(after)}) == 3
    assert between != after


def test_more_pages_are_read_each_time(parsed: list[str]) -> None:
    """What the first page says is not all of it."""
    more = application()
    more["bundles"] = listed([], more=True)
    director = Director(more)
    for name in ("one", "two"):
        bundle = {"id": "b", "name": name, "apiDefinitions": listed([]), "eventDefinitions": listed([])}
        director.follow_up = {"application": {"id": "app-1", "bundles": listed([bundle])}}
        (found,) = director.fetch().applications
        assert [bundle.name for bundle in found.bundles] == [name]
    assert parsed == ["app-1", "app-1"]


def test_what_cannot_be_read_is_told_each_time() -> None:
    """Nothing is remembered of it, so it is a problem as long as it is sent."""
    director = Director(application(1), application(2, description=5))
    reasons = [[incomplete.reason for incomplete in director.fetch().incomplete] for _ in range(3)]
    assert reasons == [["description: is a number instead of a text"]] * 3


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
    director.applications.append(application(2))
    with pytest.raises(InvalidAnswer, match="an application came twice"):
        director.fetch()
    director.applications.pop()
    director.fetch()
    assert set(parsed) == set()


def test_the_memory_of_what_was_read_before_counts() -> None:
    """Twenty applications that take more than twenty may: refused at first, and as much when all of them are known."""
    director = Director(*(application(number) for number in range(20)))
    for readings in (Readings(), director.readings):
        with pytest.raises(TooLarge):
            Fetch(director, "runtime", per_page=500, limits=Limits(applications=20), readings=readings).run()
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


@quickly
@given(way=PLACES, value=VALUES)
def test_a_document_is_the_same_with_its_applications_as_text(way: list[int], value: Any) -> None:
    """Or it is not of the form, and is parsed as a whole."""
    data = {"runtime": {"labels": {"a": "b"}}, "applicationsForRuntime": listed([application(1), application(2)])}
    body = orjson.dumps(planted({"data": data, "errors": [{"message": "m"}]}, way, value))
    try:
        found = pages.document(body)
    except ValueError:
        return
    whole = orjson.loads(body)
    found, whole = copy.deepcopy(_asked_for(found)), _asked_for(whole)
    if isinstance(found.get("data"), dict) and found["data"].get("applicationsForRuntime"):
        items = found["data"]["applicationsForRuntime"]["data"]
        if items is not None:
            found["data"]["applicationsForRuntime"]["data"] = [orjson.loads(memoryview(item)) for item in items]
    assert found == whole


def _asked_for(document: Any) -> Any:
    """The document as far as it was asked for, where null and absent mean the same."""
    data = document.get("data")
    found = {key: document[key] for key in ("data", "errors") if key in document}
    if isinstance(data, dict):
        listed = data.get("applicationsForRuntime")
        if isinstance(listed, dict):
            listed = {key: listed.get(key) for key in ("data", "totalCount", "pageInfo")}
        found["data"] = {"applicationsForRuntime": listed}
        if "runtime" in data:
            found["data"]["runtime"] = data["runtime"]
    return found


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{} {}",
        b"\xff",
        b'{"data": {"applicationsForRuntime": {"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}}",
        b'{"data": {"applicationsForRuntime": {"data": [{"a": \xff}]}}}',
        b'{"data": {"applicationsForRuntime": {"data": 5}}}',
    ],
    ids=lambda body: body[:20],
)
def test_what_is_of_another_form_is_parsed_as_a_whole(body: bytes) -> None:
    """So it is told in the same words as ever what it is."""
    answer = HttpAnswer(200, body, "")
    one, other = (Received.read(answer, max_memory=10**9, whole_applications=whole) for whole in (True, False))
    assert (one.document, one.description) == (other.document, other.description)


def test_text_that_only_a_parser_finds_wrong_fails_the_fetch() -> None:
    """Whoever sends bytes that are no text is not believed in anything: nothing is taken for gone."""
    border = DirectorBorder(2)

    def broken(document: dict[str, Any]) -> HttpAnswer:
        return HttpAnswer(200, orjson.dumps(document).replace(b"Application 1", b"Application \xff"), "")

    border.intervene = broken
    with pytest.raises(InvalidAnswer, match=r"applicationsForRuntime.data\[\d\]: is not JSON"):
        border.client().fetch(RUNTIME, request_id="r")


def test_items_that_are_no_objects_fail_the_fetch() -> None:
    director = Director(application(1))
    director.applications.append(5)  # type: ignore[arg-type]
    with pytest.raises(InvalidAnswer, match=r"applicationsForRuntime.data\[1\]: is a number instead of an object"):
        director.fetch()
