"""Fetching from a Director that pages by offset, changes between pages, and answers in parts."""

import base64
import copy
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from controller.compass import fetch as fetching
from controller.compass.director import DirectorClient
from controller.compass.errors import CompassError, GraphQLError, InvalidAnswer, Refused, Unavailable, UnexpectedAnswer
from controller.compass.graphql import Transport
from controller.compass.types import (
    ApiDefinition,
    Application,
    Assignment,
    Auth,
    Client,
    Credential,
    Csrf,
    EventDefinition,
    IncompleteApplication,
    RequestAuth,
    Viewer,
    items,
)
from tests.support import assigned
from tests.support.assigned import basic, listed, oauth
from tests.unit.compass.https_server import Request, Server, http

PASSWORD = "p4ssw0rd-Xyz"
DEFINITIONS = ("apiDefinitions", "eventDefinitions")
SCOPES = {
    "message": "insufficient scopes provided [actual=; required=application:read]",
    "extensions": {"error_code": 23},
}


def definition(number: int | str, **extra: Any) -> dict[str, Any]:
    return {"id": f"def-{number}", "name": f"Definition {number}", **extra}


def bundle(number: int | str, *, apis: int = 0, events: int = 0, auth: Any = None, **extra: Any) -> dict[str, Any]:
    return {
        "id": f"bundle-{number}",
        "name": f"Bundle {number}",
        "description": None,
        "instanceAuthRequestInputSchema": None,
        "defaultInstanceAuth": auth,
        "apiDefinitions": [definition(f"{number}-a{n}", targetURL=f"https://t/{n}") for n in range(apis)],
        "eventDefinitions": [definition(f"{number}-e{n}") for n in range(events)],
        **extra,
    }


def application(number: int, *bundles: dict[str, Any], **extra: Any) -> dict[str, Any]:
    return {
        "id": f"app-{number:04}",
        "name": f"shop {number}",
        "description": None,
        "auths": [{"id": f"auth-{number}"}],
        "bundles": list(bundles),
        **extra,
    }


def page(items: list[Any], first: int, after: str | None) -> dict[str, Any]:
    """A page as the Director makes it: offset cursors, "" at the end."""
    start = int(base64.b64decode(after)[11:]) if after else 0
    end = start + first
    more = end < len(items)
    cursor = base64.b64encode(f"DpKtJ4j9jDq{end}".encode()).decode() if more else ""
    return {
        "data": items[start:end],
        "pageInfo": {"startCursor": "", "endCursor": cursor, "hasNextPage": more},
        "totalCount": len(items),
    }


@dataclass
class FakeDirector:
    """Answers by the variables of the operation. `before` sees each request first and may change the state."""

    applications: list[dict[str, Any]] = field(default_factory=list)
    labels: Any = field(default_factory=dict)
    before: Callable[["FakeDirector", Request], None] = lambda _self, _request: None
    after: Callable[[dict[str, Any]], Any] = lambda document: document
    raw: bytes | None = None
    seen: list[str] = field(default_factory=list, repr=False)
    readings: int = 0
    shuffle: Callable[[list[Any]], None] = lambda _items: None

    def __call__(self, request: Request) -> bytes:
        self.raw = None
        self.seen.append(request.query.split()[1].split("(")[0])
        self.readings += self.seen[-1] == "Page" and "after" not in request.variables
        self.before(self, request)
        for app in self.applications:
            self._shuffle(app)
        return self.raw or http(self.after(self._answer(self.seen[-1], request.variables)))  # type: ignore[redundant-expr]

    def _shuffle(self, app: dict[str, Any]) -> None:
        """Everything inside an application comes in a new order for each request; applications are sorted by id."""
        bundles = app["bundles"] if isinstance(app["bundles"], list) else []
        for found in [bundles, *(bundle[name] for bundle in bundles for name in DEFINITIONS)]:
            if isinstance(found, list):
                self.shuffle(found)

    def _answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        if operation == "AssignedIds":
            ids = [{"id": app["id"]} for app in self.applications]
            return {"data": {"applicationsForRuntime": page(ids, given["first"], given.get("after"))}}
        if operation == "Page":
            found = page(self.applications, given["first"], given.get("after"))
            found["data"] = [self._application(app, given["nested"]) for app in found["data"]]
            return {"data": {"runtime": {"labels": self.labels}, "applicationsForRuntime": found}}
        app = next((app for app in self.applications if app["id"] == given["application"]), None)
        if app is None:
            message = "The operation is not allowed [reason=requesting runtime should be in same scenario]"
            return {"data": {"application": None}, "errors": [{"message": message, "extensions": {"error_code": 27}}]}
        result: dict[str, Any] = {"id": app["id"], "name": "raw name"}
        if operation == "MoreBundles":
            found = page(app["bundles"], given["nested"], given.get("after"))
            found["data"] = [self._bundle(item, given["nested"]) for item in found["data"]]
            result["bundles"] = found
        else:
            name = "apiDefinitions" if operation == "MoreApis" else "eventDefinitions"
            item = next((item for item in app["bundles"] if item["id"] == given["bundle"]), None)
            result["bundle"] = item and {
                "id": item["id"],
                "name": item["name"],
                name: page(item[name], given["nested"], given.get("after")),
            }
        return {"data": {"application": result}}

    def _application(self, app: dict[str, Any], nested: int) -> dict[str, Any]:
        bundles = app["bundles"]
        if not isinstance(bundles, list):
            return app
        found = page(bundles, nested, None)
        found["data"] = [self._bundle(item, nested) for item in found["data"]]
        return {**app, "bundles": found}

    def _bundle(self, item: dict[str, Any], nested: int) -> dict[str, Any]:
        lists = {name: page(item[name], nested, None) for name in DEFINITIONS if isinstance(item[name], list)}
        return {**item, **lists}


@pytest.fixture
def fake(server: Server) -> FakeDirector:
    fake = FakeDirector()
    server.answer = fake
    return fake


@pytest.fixture
def director(transport: Transport, server: Server) -> DirectorClient:
    return DirectorClient(transport, server.url, tenant="tenant-1", applications_per_page=3)


def fetch(director: DirectorClient) -> Assignment:
    return director.fetch("runtime-1", request_id="r_1")


def test_all_fields_are_read(director: DirectorClient, fake: FakeDirector, server: Server) -> None:
    """What the Director sends becomes values."""
    auths = [
        {
            "credential": {"__typename": "BasicCredentialData", "username": "u", "password": PASSWORD},
            "additionalHeaders": {"X": ["1", "2"]},
            "additionalQueryParams": {},
            "requestAuth": {"csrf": {"tokenEndpointURL": "https://csrf"}},
        },
        {
            "credential": {
                "__typename": "OAuthCredentialData",
                "clientId": "c",
                "clientSecret": "s",
                "url": "https://o",
            },
            "additionalHeaders": None,
            "additionalQueryParams": {"q": None},
            "requestAuth": {"csrf": None},
        },
        {
            "credential": {"__typename": "CertificateOAuthCredentialData"},
            "accessStrategy": "sap:cmp-mtls:v1",
            "requestAuth": None,
        },
        {"credential": None, "additionalHeaders": {}},
    ]
    bundles = [bundle(n, auth=auth) for n, auth in enumerate(auths)]
    bundles[0] |= bundle(0, apis=1, events=2, auth=auths[0], description="d", instanceAuthRequestInputSchema="{}")
    fake.applications = [application(1, *bundles, description="D"), application(2, auths=None, bundles=None)]
    fake.labels = {"isNormalized": "true", "scenarios": ["DEFAULT"]}
    result = fetch(director)
    full = assigned.bundle(
        "bundle-0",
        "Bundle 0",
        basic(
            "u",
            PASSWORD,
            additionalHeaders={"X": ["1", "2"]},
            additionalQueryParams={},
            requestAuth=RequestAuth(Csrf("https://csrf")),
        ),
        apis=(ApiDefinition("def-0-a0", "Definition 0-a0", "https://t/0"),),
        events=(
            EventDefinition("def-0-e0", "Definition 0-e0"),
            EventDefinition("def-0-e1", "Definition 0-e1"),
        ),
        description="d",
        instanceAuthRequestInputSchema="{}",
    )
    others = [
        oauth(url="https://o", additionalQueryParams={"q": None}, requestAuth=RequestAuth()),
        Auth(Credential("CertificateOAuthCredentialData"), accessStrategy="sap:cmp-mtls:v1"),
        Auth(additionalHeaders={}),
    ]
    bundles_read = [assigned.bundle(f"bundle-{n}", f"Bundle {n}", auth) for n, auth in enumerate(others, 1)]
    assert result.applications == (
        Application("app-0001", "shop 1", "D", (Client("auth-1"),), listed(full, *bundles_read)),
        Application("app-0002", "shop 2"),
    )
    assert result.incomplete == ()
    assert result.labels == {"isNormalized": "true"}
    assert PASSWORD not in repr(result)
    assert server.requests[0].headers["tenant"] == "tenant-1"
    assert server.requests[0].headers["x-request-id"] == "r_1"
    assert server.requests[0].variables == {"runtime": "runtime-1", "first": 3, "nested": 200}


@pytest.mark.parametrize(
    ("labels", "normalized"),
    [
        ({"isNormalized": "true"}, True),
        *(({"isNormalized": v}, False) for v in ("false", "True", True, 1, None)),
        ({}, False),
        (None, False),
    ],
)
def test_only_the_text_true_says_normalized(
    director: DirectorClient, fake: FakeDirector, labels: Any, normalized: bool
) -> None:
    """The boolean does not count, neither does an absent label."""
    fake.labels = labels
    assert fetch(director).names_are_normalized is normalized


def test_no_tenant_is_no_header(transport: Transport, server: Server, fake: FakeDirector) -> None:
    """Over mTLS the header is optional."""
    fetch(DirectorClient(transport, server.url, tenant=""))
    assert "tenant" not in server.requests[0].headers


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9, 10])
def test_every_page_is_read(director: DirectorClient, fake: FakeDirector, count: int) -> None:
    """More than one page is confirmed by a single reading of the ids."""
    fake.applications = [application(n) for n in range(count)]
    result = fetch(director)
    assert [app.id for app in result.applications] == [app["id"] for app in fake.applications]
    pages = max(1, -(-count // 3))
    assert fake.seen == ["Page"] * pages + ["AssignedIds"] * (pages > 1)


def at(call: int, change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[FakeDirector, Request], None]:
    """Change the assigned applications just before the nth call."""

    def before(fake: FakeDirector, _request: Request) -> None:
        if len(fake.seen) == call:
            change(fake.applications)

    return before


RACES = [
    ("one unassigned before what was read", at(2, lambda apps: apps.pop(0))),
    ("one assigned before what was read", at(2, lambda apps: apps.insert(0, application(9999)))),
    ("one goes and one comes", at(2, lambda apps: (apps.pop(0), apps.append(application(9999))))),  # type: ignore[func-returns-value]
    ("one comes and one goes", at(2, lambda apps: (apps.insert(0, application(9999)), apps.pop()))),  # type: ignore[func-returns-value]
    ("one goes after the last page", at(4, lambda apps: apps.pop())),
    ("all go", at(3, lambda apps: apps.clear())),
]


@pytest.mark.parametrize("before", [row[1] for row in RACES], ids=[row[0] for row in RACES])
def test_a_set_that_changes_between_pages_is_read_again(
    director: DirectorClient, fake: FakeDirector, before: Callable[[FakeDirector, Request], None]
) -> None:
    """What is returned is the set as it is, with none skipped and none twice."""
    fake.applications = [application(n) for n in range(8)]
    fake.before = before
    result = fetch(director)
    assert [app.id for app in result.applications] == [app["id"] for app in fake.applications]
    assert fake.readings == 2


def test_a_set_that_never_holds_still_is_given_up(director: DirectorClient, fake: FakeDirector) -> None:
    """A bounded number of readings, then InvalidAnswer about the list."""
    fake.applications = [application(n) for n in range(8)]
    fake.before = lambda fake, _request: fake.applications.insert(0, application(100 + len(fake.seen)))
    with pytest.raises(InvalidAnswer, match="inconsistent") as caught:
        fetch(director)
    assert caught.value.path == "applicationsForRuntime"
    assert caught.value.request_id == "r_1"
    assert fake.readings == fetching.READ_ATTEMPTS


@pytest.mark.parametrize("total", [0, 2, 4])
def test_a_total_that_does_not_fit_is_inconsistent(director: DirectorClient, fake: FakeDirector, total: int) -> None:
    """A truncated list must not look like a short one."""
    fake.applications = [application(n) for n in range(3)]

    def change(document: dict[str, Any]) -> dict[str, Any]:
        document["data"]["applicationsForRuntime"]["totalCount"] = total
        return document

    fake.after = change
    with pytest.raises(InvalidAnswer, match="inconsistent"):
        fetch(director)


def test_a_cursor_that_never_ends_does_not_loop(director: DirectorClient, fake: FakeDirector) -> None:
    """Pages that repeat, or are empty while more is promised, end the reading."""
    fake.applications = [application(n) for n in range(3)]
    for repeated in (fake.applications, []):

        def change(document: dict[str, Any], repeated: list[Any] = repeated) -> dict[str, Any]:
            found = document["data"]["applicationsForRuntime"]
            found |= {"pageInfo": {"hasNextPage": True, "endCursor": page([1, 2], 1, None)["pageInfo"]["endCursor"]}}
            found |= {"data": copy.deepcopy(repeated)}
            found["data"] = [app | {"bundles": None} for app in found["data"]]
            return document

        fake.after = change
        fake.seen.clear()
        with pytest.raises(InvalidAnswer):
            fetch(director)
        assert len(fake.seen) < 10


def test_nested_lists_are_followed(
    director: DirectorClient, fake: FakeDirector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bundles, APIs and events beyond a page, also those of a bundle that came with a later page."""
    monkeypatch.setattr(fetching, "NESTED_PER_PAGE", 2)
    fake.applications = [application(1, bundle(0, apis=5), bundle(1, events=3), bundle(2, apis=3, events=5))]
    (app,) = fetch(director).applications
    assert app.name == "shop 1"
    found = items(app.bundles)
    assert [(b.id, len(items(b.apiDefinitions)), len(items(b.eventDefinitions))) for b in found] == [
        ("bundle-0", 5, 0),
        ("bundle-1", 0, 3),
        ("bundle-2", 3, 5),
    ]
    assert [api.id for api in items(found[2].apiDefinitions)] == ["def-2-a0", "def-2-a1", "def-2-a2"]


def refuse_follow_ups(answer: bytes) -> Callable[[FakeDirector, Request], None]:
    def before(fake: FakeDirector, _request: Request) -> None:
        if fake.seen[-1].startswith("More"):
            fake.raw = answer

    return before


FOLLOW_UPS = [
    ("scopes", http({"data": {"application": None}, "errors": [SCOPES]}), "insufficient scopes"),
    ("not allowed", http({"data": None, "errors": [{"message": "The operation is not allowed"}]}), "not allowed"),
    ("gone", http({"data": {"application": None}}), "application: is null"),
    ("another one", http({"data": {"application": {"id": "x", "bundles": None}}}), "not the one that was asked for"),
    ("null", http({"data": {"application": {"id": "app-0001", "bundles": None}}}), "bundles: is null"),
    ("garbage", http("oops"), "not JSON"),
]


@pytest.mark.parametrize(("answer", "reason"), [row[1:] for row in FOLLOW_UPS], ids=[row[0] for row in FOLLOW_UPS])
def test_a_follow_up_that_is_refused_leaves_that_application_incomplete(
    director: DirectorClient, fake: FakeDirector, monkeypatch: pytest.MonkeyPatch, answer: bytes, reason: str
) -> None:
    """The others are not held up."""
    monkeypatch.setattr(fetching, "NESTED_PER_PAGE", 2)
    fake.applications = [application(0), application(1, *(bundle(n) for n in range(3))), application(2)]
    fake.before = refuse_follow_ups(answer)
    result = fetch(director)
    assert [app.id for app in result.applications] == ["app-0000", "app-0002"]
    ((app_id, name, told),) = [(app.id, app.name, app.reason) for app in result.incomplete]
    assert (app_id, name) == ("app-0001", "shop 1")
    assert reason in told


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(http("", 503), Unavailable), (http("", 400), Refused), (http({"errors": [SCOPES]}, 401), Refused)],
)
def test_an_outage_during_a_follow_up_fails_the_fetch(
    director: DirectorClient,
    fake: FakeDirector,
    monkeypatch: pytest.MonkeyPatch,
    answer: bytes,
    kind: type[CompassError],
) -> None:
    """What is wrong with the connection is not the application's fault."""
    monkeypatch.setattr(fetching, "NESTED_PER_PAGE", 2)
    fake.applications = [application(1, bundle(0, apis=3))]
    fake.before = refuse_follow_ups(answer)
    with pytest.raises(kind):
        fetch(director)


def test_a_nested_list_that_never_holds_still_is_incomplete(
    director: DirectorClient, fake: FakeDirector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bounded number of readings; the other applications are not held up."""
    monkeypatch.setattr(fetching, "NESTED_PER_PAGE", 2)
    fake.applications = [application(0), application(1, bundle(0, apis=5))]
    fake.before = lambda fake, _: fake.applications[1]["bundles"][0]["apiDefinitions"].append(
        definition(f"more-{len(fake.seen)}", targetURL="https://t")
    )
    result = fetch(director)
    assert [app.id for app in result.applications] == ["app-0000"]
    (incomplete,) = result.incomplete
    assert incomplete.reason.startswith("bundles.data[bundle-0].apiDefinitions: changed while it was read")
    # The first page of the list is in the page of the applications; each reading after it begins with one of its own.
    assert len(fake.seen) == 2 * fetching.NESTED_READINGS


@pytest.mark.parametrize("more", [True, False])
def test_a_nested_list_whose_pages_do_not_fit_is_incomplete(
    director: DirectorClient, fake: FakeDirector, monkeypatch: pytest.MonkeyPatch, more: bool
) -> None:
    """Pages that never end, or that end before the total, do not make a list."""
    monkeypatch.setattr(fetching, "NESTED_PER_PAGE", 2)
    fake.applications = [application(1, *(bundle(n) for n in range(6)))]

    def change(document: dict[str, Any]) -> dict[str, Any]:
        if "application" in document["data"]:
            found = document["data"]["application"]["bundles"]
            found["data"] = [bundle("again", apiDefinitions=None, eventDefinitions=None)]
            found["pageInfo"] |= {"hasNextPage": more, "endCursor": page([1, 2], 1, None)["pageInfo"]["endCursor"]}
        return document

    fake.after = change
    assert "changed while it was read" in fetch(director).incomplete[0].reason
    assert len(fake.seen) < 10 * fetching.NESTED_READINGS


def reading(fake: FakeDirector, director: DirectorClient, order: random.Random) -> Assignment:
    fake.shuffle = order.shuffle
    return fetch(director)


def test_a_list_in_a_new_order_for_each_page_is_read_completely(
    director: DirectorClient, fake: FakeDirector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of such a list overlap, and together miss items; nothing is lost, and nothing comes twice."""
    monkeypatch.setattr(fetching, "NESTED_PER_PAGE", 4)
    bundles = [bundle(f"{n:02}", apis=n, events=9 - n) for n in range(9)]
    fake.applications = [application(1, *bundles), application(2)]
    expected = fetch(director)
    assert [len(items(b.apiDefinitions)) for b in items(expected.applications[0].bundles)] == list(range(9))
    for seed in range(10):
        assert reading(fake, director, random.Random(seed)) == expected


def test_a_partial_result_never_looks_complete(director: DirectorClient, fake: FakeDirector) -> None:
    """An error inside an application leaves it incomplete, although its field is merely null."""
    fake.applications = [application(0), application(1, bundle(0)), application(2)]

    def change(document: dict[str, Any]) -> dict[str, Any]:
        document["data"]["applicationsForRuntime"]["data"][1]["bundles"] = None
        path = ["applicationsForRuntime", "data", 1, "bundles"]
        return document | {"errors": [{"message": "x", "path": path, "extensions": {"error_code": 22}}]}

    fake.after = change
    result = fetch(director)
    assert [app.id for app in result.applications] == ["app-0000", "app-0002"]
    assert result.incomplete == (
        IncompleteApplication(
            "app-0001", "shop 1", "graphql: an error at applicationsForRuntime.data.bundles, code 22"
        ),
    )


ELSEWHERE = [
    None,
    [],
    ["runtime", "labels"],
    ["applicationsForRuntime"],
    ["applicationsForRuntime", "data"],
    ["x", "data", 0],
]


@pytest.mark.parametrize("path", ELSEWHERE, ids=str)
def test_an_error_about_more_than_one_application_fails_the_fetch(
    director: DirectorClient, fake: FakeDirector, path: Any
) -> None:
    """Data beside it is not trusted."""
    fake.applications = [application(0)]
    fake.after = lambda document: document | {"errors": [{"message": "boom", "path": path}]}
    with pytest.raises(GraphQLError, match="an error at"):
        fetch(director)


@pytest.mark.parametrize("field", ["runtime", "applicationsForRuntime"])
def test_neither_root_may_be_null(director: DirectorClient, fake: FakeDirector, field: str) -> None:
    """A missing list is not an empty one."""
    fake.after = lambda document: {"data": document["data"] | {field: None}}
    with pytest.raises(InvalidAnswer) as caught:
        fetch(director)
    assert caught.value.path == field


def inside(named: str, value: Any, path: list[Any] | None = None) -> tuple[list[Any], Any, str]:
    """A value at the place that an error names; `path`: another place, for which the error names this one."""
    steps: list[Any] = [int(digit) if digit else step for step, digit in re.findall(r"(\w+)|\[[^\]]*?(\d)\]", named)]
    return path or steps, value, named


AUTH_PATH = ["bundles", "data", 0, "defaultInstanceAuth"]
AUTH = "bundles.data[bundle-0].defaultInstanceAuth"
INSIDE = [
    inside("description", 1),
    inside("auths", {}),
    inside("auths[?].id", [{"id": "a"}, {"id": None}], ["auths"]),
    inside("bundles.data", {}),
    inside("bundles.data[?]", None, ["bundles", "data", 1]),
    inside("bundles", 3, ["bundles", "totalCount"]),
    inside("bundles.pageInfo.hasNextPage", None),
    inside("bundles.pageInfo", True, ["bundles", "pageInfo", "hasNextPage"]),
    inside("bundles", "bundle-0", ["bundles", "data", 1, "id"]),
    inside("bundles.data[?].id", "", ["bundles", "data", 1, "id"]),
    inside("bundles.data[bundle-1].name", None),
    inside("bundles.data[bundle-1].instanceAuthRequestInputSchema", {}),
    inside("bundles.data[bundle-0].apiDefinitions.data[def-0-a0].targetURL", None),
    inside("bundles.data[bundle-0].eventDefinitions.data[def-0-e0].name", 1),
    inside(f"{AUTH}.credential", "x"),
    inside(f"{AUTH}.credential", None, [*AUTH_PATH, "credential", "password"]),
    inside(f"{AUTH}.credential.__typename", None),
    inside(f"{AUTH}.requestAuth.csrf.tokenEndpointURL", None),
    inside(f"{AUTH}.additionalHeaders.*", {"X": PASSWORD}, [*AUTH_PATH, "additionalHeaders"]),
    inside(f"{AUTH}.additionalQueryParams.*", {"X": [PASSWORD, 1]}, [*AUTH_PATH, "additionalQueryParams"]),
]


def full_application() -> dict[str, Any]:
    auth = {
        "credential": {"__typename": "BasicCredentialData", "username": "u", "password": PASSWORD},
        "additionalHeaders": {"X": ["1"]},
        "additionalQueryParams": {"Y": ["2"]},
        "requestAuth": {"csrf": {"tokenEndpointURL": "https://csrf"}},
    }
    return application(1, bundle(0, apis=1, events=1, auth=auth), bundle(1))


def put(document: Any, path: list[Any], value: Any) -> None:
    for step in path[:-1]:
        document = document[step]
    document[path[-1]] = value


def backwards(value: Any) -> None:
    """Turn every list inside around."""
    if isinstance(value, list):
        value.reverse()
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        backwards(inner)


@pytest.mark.parametrize(("path", "value", "named"), INSIDE, ids=[f"{row[2]} {row[1]!r}"[:80] for row in INSIDE])
def test_a_wrong_field_inside_an_application_leaves_it_incomplete(
    director: DirectorClient, fake: FakeDirector, path: list[Any], value: Any, named: str
) -> None:
    """The reason names the field by its path with ids, because positions differ from answer to answer; and no value."""
    fake.applications = [application(0), full_application()]
    reasons = set()
    for reverse in (False, True):

        def change(document: dict[str, Any], reverse: bool = reverse) -> dict[str, Any]:
            broken = document["data"]["applicationsForRuntime"]["data"][1]
            put(broken, path, value)
            if reverse:
                backwards(broken)
            return document

        fake.after = change
        result = fetch(director)
        assert [app.id for app in result.applications] == ["app-0000"]
        reasons.add(result.incomplete[0].reason)
        fake.applications[1] = full_application()
    (reason,) = reasons
    assert reason.startswith(f"{named}: ")
    assert PASSWORD not in reason


@pytest.mark.parametrize("value", [None, "", 7])
def test_an_application_without_an_id_is_incomplete(director: DirectorClient, fake: FakeDirector, value: Any) -> None:
    """Also when several pages are read. It has no id, so nothing is deleted (model/test_desired.py)."""
    fake.applications = [application(0), application(1, id=value), *(application(n) for n in range(2, 8))]
    result = fetch(director)
    assert len(result.applications) == 7
    ((identifier, name, reason),) = [(item.id, item.name, item.reason) for item in result.incomplete]
    assert (identifier, name) == ("", "shop 1")
    assert reason.startswith("id: is ")


@pytest.mark.parametrize("value", [None, "", []])
def test_an_application_without_a_name_is_incomplete_with_its_id(
    director: DirectorClient, fake: FakeDirector, value: Any
) -> None:
    fake.applications = [application(0), application(1, name=value)]
    result = fetch(director)
    assert [app.id for app in result.applications] == ["app-0000"]
    ((identifier, name, reason),) = [(item.id, item.name, item.reason) for item in result.incomplete]
    assert (identifier, name) == ("app-0001", "")
    assert reason.startswith("name: is ")


@pytest.mark.parametrize("others", [1, 8])
def test_a_duplicate_id_concerns_these_two(director: DirectorClient, fake: FakeDirector, others: int) -> None:
    """In one page and in several; the rest is complete."""
    twins = [application(500, name="one"), application(500, name="two")]
    fake.applications = [*(application(n) for n in range(others)), *twins]
    result = fetch(director)
    assert len(result.applications) == others
    reason = "the Director returned 2 applications with this id"
    assert result.incomplete == tuple(IncompleteApplication("app-0500", name, reason) for name in ("one", "two"))
    assert fake.readings == 1


def test_the_director_says_who_we_are(director: DirectorClient, server: Server) -> None:
    """Id and type of the owner of the certificate."""
    server.answer = lambda _: http({"data": {"viewer": {"id": "runtime-1", "type": "RUNTIME"}}})
    assert director.viewer(request_id="r_1") == Viewer("runtime-1", "RUNTIME")
    assert server.requests[0].headers["x-request-id"] == "r_1"


@pytest.mark.parametrize(
    "answer",
    [
        http({"data": {"viewer": None}, "errors": [SCOPES]}),
        http({"data": None, "errors": [{"message": "Internal Server Error", "extensions": {"error_code": 10}}]}),
        http({"errors": [{"message": 'Cannot query field "viewer" on type "Query".'}], "data": None}, 422),
    ],
)
def test_a_director_that_does_not_say_who_we_are_is_no_failure(
    director: DirectorClient, server: Server, answer: bytes
) -> None:
    """An older Compass does not know the field, or does not allow it."""
    server.answer = lambda _: answer
    assert director.viewer(request_id="r_1") is None


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (http("", 503), Unavailable),
        (http("", 400), Refused),
        (http("<html>", 200), UnexpectedAnswer),
        (http({"data": {"viewer": None}}), InvalidAnswer),
        (http({"data": {"viewer": {"id": "", "type": "RUNTIME"}}}), InvalidAnswer),
        (http({"data": {"viewer": {"id": "x"}}}), InvalidAnswer),
    ],
)
def test_a_call_that_fails_is_not_a_director_that_does_not_say(
    director: DirectorClient, server: Server, answer: bytes, kind: type[CompassError]
) -> None:
    """Without an answer nothing may be concluded about who we are."""
    server.answer = lambda _: answer
    with pytest.raises(kind):
        director.viewer(request_id="r_1")


def test_a_label_is_set_by_variables(director: DirectorClient, server: Server) -> None:
    """Quotes in a value stay a value."""
    server.answer = lambda _: http({"data": {"setRuntimeLabel": {"key": "k", "value": 'a"b'}}})
    director.set_runtime_label("runtime-1", "k", 'a"b', request_id="r")
    assert server.requests[0].variables == {"runtime": "runtime-1", "key": "k", "value": 'a"b'}


def test_a_label_without_a_result_is_not_set(director: DirectorClient, server: Server) -> None:
    """A null result names the field."""
    server.answer = lambda _: http({"data": {"setRuntimeLabel": None}})
    with pytest.raises(InvalidAnswer) as caught:
        director.set_runtime_label("runtime-1", "k", "v", request_id="r_2")
    assert (caught.value.path, caught.value.request_id) == ("setRuntimeLabel", "r_2")
