"""Fetching from a Director that pages by offset, changes between pages, and answers in parts."""

import copy
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from controller.compass import fetch as fetching
from controller.compass.director import DirectorClient
from controller.compass.errors import CompassError, GraphQLError, InvalidAnswer, Refused, Unavailable, UnexpectedAnswer
from controller.compass.http import HttpAnswer
from controller.compass.types import (
    ApiDefinition,
    Application,
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
from tests.unit.compass.fake_director import FakeDirector, answered, application, bundle, definition, fetch, page

PASSWORD = "p4ssw0rd-Xyz"
SCOPES = {
    "message": "insufficient scopes provided [actual=; required=application:read]",
    "extensions": {"error_code": 23},
}


@pytest.fixture
def fake() -> FakeDirector:
    return FakeDirector()


@pytest.fixture
def director(fake: FakeDirector) -> DirectorClient:
    return fake.client()


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two items to a page of a nested list."""
    monkeypatch.setattr(fetching, "NESTED_PER_PAGE", 2)


def test_all_fields_are_read(director: DirectorClient, fake: FakeDirector) -> None:
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
    headers, variables = fake.sent[0]
    assert (headers["Tenant"], headers["x-request-id"]) == ("tenant-1", "r_1")
    assert variables == {"runtime": "runtime-1", "first": 3, "nested": 200}


def test_no_tenant_is_no_header(fake: FakeDirector) -> None:
    """Over mTLS the header is optional."""
    fetch(fake.client(tenant=""))
    assert "Tenant" not in fake.sent[0][0]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9, 10])
def test_every_page_is_read(director: DirectorClient, fake: FakeDirector, count: int) -> None:
    """More than one page is confirmed by a single reading of the ids."""
    fake.applications = [application(n) for n in range(count)]
    result = fetch(director)
    assert [app.id for app in result.applications] == [app["id"] for app in fake.applications]
    pages = max(1, -(-count // 3))
    assert fake.seen == ["Page"] * pages + ["AssignedIds"] * (pages > 1)


def at(call: int, change: Callable[[list[dict[str, Any]]], object]) -> Callable[[FakeDirector], object]:
    """Change the assigned applications just before the nth call."""
    return lambda fake: len(fake.seen) == call and change(fake.applications)


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
    director: DirectorClient, fake: FakeDirector, before: Callable[[FakeDirector], object]
) -> None:
    """What is returned is the set as it is, with none skipped and none twice."""
    fake.applications = [application(n) for n in range(8)]
    fake.before = before
    result = fetch(director)
    assert [app.id for app in result.applications] == [app["id"] for app in fake.applications]
    assert fake.readings == 2


def test_a_set_that_changes_repeatedly_is_an_invalid_answer(director: DirectorClient, fake: FakeDirector) -> None:
    """A bounded number of readings, then InvalidAnswer about the list."""
    fake.applications = [application(n) for n in range(8)]
    fake.before = lambda fake: fake.applications.insert(0, application(100 + len(fake.seen)))
    with pytest.raises(InvalidAnswer, match="inconsistent") as caught:
        fetch(director)
    assert caught.value.path == "applicationsForRuntime"
    assert caught.value.request_id == "r_1"
    assert fake.readings == fetching.READ_ATTEMPTS


@pytest.mark.parametrize(("count", "total"), [(3, 0), (3, 2), (3, 4), (5, 4), (5, 6)])
def test_a_total_that_does_not_fit_is_inconsistent(
    director: DirectorClient, fake: FakeDirector, count: int, total: int
) -> None:
    """On the last page: a truncated list must not look like a short one."""
    fake.applications = [application(n) for n in range(count)]

    def change(document: dict[str, Any]) -> dict[str, Any]:
        found = document["data"]["applicationsForRuntime"]
        if not found["pageInfo"]["hasNextPage"]:
            found["totalCount"] = total
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


@pytest.mark.usefixtures("short_pages")
def test_nested_lists_are_followed(director: DirectorClient, fake: FakeDirector) -> None:
    """Bundles, APIs and events beyond a page, also those of a bundle that came with a later page."""
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


def to_follow_ups(answer: HttpAnswer) -> Callable[[str], HttpAnswer | None]:
    return lambda operation: answer if operation.startswith("More") else None


ANOTHER = "not the one that was asked for"
#: The answer to each follow-up, the number of APIs of the first bundle, and the reason.
FOLLOW_UPS = [
    ("scopes", {"data": {"application": None}, "errors": [SCOPES]}, 0, "insufficient scopes"),
    ("not allowed", {"data": None, "errors": [{"message": "The operation is not allowed"}]}, 0, "not allowed"),
    ("gone", {"data": {"application": None}}, 0, "application: is null"),
    ("another one", {"data": {"application": {"id": "x", "bundles": None}}}, 0, ANOTHER),
    ("another bundle", {"data": {"application": {"id": "app-0001", "bundle": {"id": "x", "name": "x"}}}}, 3, ANOTHER),
    ("no bundle", {"data": {"application": {"id": "app-0001", "bundle": None}}}, 3, "bundle: is null"),
    ("null", {"data": {"application": {"id": "app-0001", "bundles": None}}}, 0, "bundles: is null"),
    ("garbage", "oops", 0, "not JSON"),
]


@pytest.mark.parametrize(
    ("answer", "apis", "reason"), [row[1:] for row in FOLLOW_UPS], ids=[row[0] for row in FOLLOW_UPS]
)
@pytest.mark.usefixtures("short_pages")
def test_a_refused_follow_up_leaves_an_application_incomplete(
    director: DirectorClient, fake: FakeDirector, answer: Any, apis: int, reason: str
) -> None:
    bundles = (bundle(0, apis=apis), bundle(1), bundle(2))
    fake.applications = [application(0), application(1, *bundles), application(2)]
    fake.instead = to_follow_ups(answered(answer))
    result = fetch(director)
    assert [app.id for app in result.applications] == ["app-0000", "app-0002"]
    (incomplete,) = result.incomplete
    assert (incomplete.id, incomplete.name) == ("app-0001", "shop 1")
    assert reason in incomplete.reason


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(answered("", 503), Unavailable), (answered("", 400), Refused), (answered({"errors": [SCOPES]}, 401), Refused)],
)
@pytest.mark.usefixtures("short_pages")
def test_an_outage_during_a_follow_up_fails_the_fetch(
    director: DirectorClient,
    fake: FakeDirector,
    answer: HttpAnswer,
    kind: type[CompassError],
) -> None:
    """What is wrong with the connection is not the application's fault."""
    fake.applications = [application(1, bundle(0, apis=3))]
    fake.instead = to_follow_ups(answer)
    with pytest.raises(kind):
        fetch(director)


@pytest.mark.usefixtures("short_pages")
def test_a_follow_up_that_an_outage_refuses_fails_the_fetch(director: DirectorClient, fake: FakeDirector) -> None:
    """Without its database the Director refuses all that follows, with the same answer as for a single application."""
    fake.applications = [application(1, bundle(0, apis=3))]
    refused = answered({"data": None, "errors": [SCOPES]})
    fake.instead = lambda operation: None if operation == "Page" else refused
    with pytest.raises(Refused):
        fetch(director)


@pytest.mark.usefixtures("short_pages")
def test_a_nested_list_that_changes_between_pages_is_read_again(director: DirectorClient, fake: FakeDirector) -> None:
    """Without what has gone meanwhile."""
    fake.applications = [application(1, bundle(0, apis=5))]
    apis = fake.applications[0]["bundles"][0]["apiDefinitions"]
    others = [definition(f"new-{n}", targetURL="https://t") for n in range(3)]
    fake.before = at(2, lambda _: apis.__setitem__(slice(0, 2), others))
    (app,) = fetch(director).applications
    (found,) = items(app.bundles)
    assert {api.id for api in items(found.apiDefinitions)} == {api["id"] for api in apis}


@pytest.mark.usefixtures("short_pages")
def test_a_nested_list_that_changes_repeatedly_is_incomplete(director: DirectorClient, fake: FakeDirector) -> None:
    """A bounded number of readings; the other applications are not held up."""
    fake.applications = [application(0), application(1, bundle(0, apis=5))]
    fake.before = lambda fake: fake.applications[1]["bundles"][0]["apiDefinitions"].append(
        definition(f"more-{len(fake.seen)}", targetURL="https://t")
    )
    result = fetch(director)
    assert [app.id for app in result.applications] == ["app-0000"]
    (incomplete,) = result.incomplete
    assert incomplete.reason.startswith("bundles.data[bundle-0].apiDefinitions: changed while it was read")
    # The first page of the list is in the page of the applications; each reading after it begins with one of its own.
    assert len(fake.seen) == 2 * fetching.NESTED_READINGS


@pytest.mark.parametrize("more", [True, False])
@pytest.mark.usefixtures("short_pages")
def test_a_nested_list_whose_pages_do_not_fit_is_incomplete(
    director: DirectorClient, fake: FakeDirector, more: bool
) -> None:
    """Pages that never end, or that end before the total, do not make a list."""
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


def test_a_list_in_a_new_order_for_each_page_is_read_completely(
    director: DirectorClient, fake: FakeDirector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of such a list overlap, and together miss items; nothing is lost, and nothing comes twice."""
    monkeypatch.setattr(fetching, "NESTED_PER_PAGE", 4)
    bundles = [bundle(f"{n:02}", apis=n, events=9 - n) for n in range(9)]
    fake.applications = [application(1, *bundles, auths=[{"id": f"auth-{n}"} for n in range(3)])]
    (expected,) = fetch(director).applications
    assert [len(items(b.apiDefinitions)) for b in items(expected.bundles)] == list(range(9))
    for seed in range(10):
        fake.shuffle = random.Random(seed).shuffle
        assert fetch(fake.client()).applications == (expected,)
        assert fetch(director).applications[0] is expected, "the earlier value is kept, so no comparison is needed"


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
def test_an_error_outside_one_application_fails_the_fetch(
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


def short_of_apis(number: int) -> dict[str, Any]:
    return bundle(number, apiDefinitions=page([], 2, None) | {"totalCount": 3}, eventDefinitions=None)


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
    inside("bundles.data[bundle-0].name", [{"id": "bundle-0"}, {"id": "bundle-1"}], ["bundles", "data"]),
    inside(f"bundles.data[{'x' * 63}\u2026].name", [{"id": "x" * 100}], ["bundles", "data"]),
    inside("bundles.data[bundle-1].instanceAuthRequestInputSchema", {}),
    inside("bundles.data[bundle-0].apiDefinitions.data[def-0-a0].targetURL", None),
    inside("bundles.data[bundle-0].eventDefinitions.data[def-0-e0].name", 1),
    inside(f"{AUTH}.credential", "x"),
    inside(f"{AUTH}.credential", None, [*AUTH_PATH, "credential", "password"]),
    inside(f"{AUTH}.credential.__typename", None),
    inside(f"{AUTH}.requestAuth.csrf.tokenEndpointURL", None),
    inside("bundles.data[bundle-0].apiDefinitions", [short_of_apis(0), short_of_apis(1)], ["bundles", "data"]),
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
def test_a_wrong_field_leaves_its_application_incomplete(
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
@pytest.mark.parametrize(("field", "known"), [("id", ("", "shop 1")), ("name", ("app-0001", ""))])
def test_an_application_without_id_or_name_is_incomplete(
    director: DirectorClient, fake: FakeDirector, field: str, known: tuple[str, str], value: Any
) -> None:
    """Also when several pages are read. Without an id, nothing is deleted (applications/test_desired.py)."""
    fake.applications = [application(0), application(1, **{field: value}), *(application(n) for n in range(2, 8))]
    result = fetch(director)
    assert len(result.applications) == 7
    (incomplete,) = result.incomplete
    assert (incomplete.id, incomplete.name) == known
    assert incomplete.reason.startswith(f"{field}: is ")


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


@pytest.mark.parametrize(
    ("answer", "viewer"),
    [
        (answered({"data": {"viewer": {"id": "runtime-1", "type": "RUNTIME"}}}), Viewer("runtime-1", "RUNTIME")),
        (answered({"data": {"viewer": None}, "errors": [SCOPES]}), None),
        (answered({"data": None, "errors": [{"message": "Internal Server Error"}]}), None),
        (answered({"errors": [{"message": 'Cannot query field "viewer" on type "Query".'}], "data": None}, 422), None),
    ],
)
def test_the_owner_of_the_certificate_may_be_unknown(
    director: DirectorClient, fake: FakeDirector, answer: HttpAnswer, viewer: Viewer | None
) -> None:
    """Id and type of the owner of the certificate. An older Compass does not know the field, or does not allow it."""
    fake.instead = lambda _: answer
    assert director.viewer(request_id="r_1") == viewer
    assert fake.sent[0][0]["x-request-id"] == "r_1"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (answered("", 503), Unavailable),
        (answered("", 400), Refused),
        (answered("<html>", 200), UnexpectedAnswer),
        (answered({"data": {"viewer": None}}), InvalidAnswer),
        (answered({"data": {"viewer": {"id": "", "type": "RUNTIME"}}}), InvalidAnswer),
        (answered({"data": {"viewer": {"id": "x"}}}), InvalidAnswer),
    ],
)
def test_a_failing_query_for_the_owner_is_an_error(
    director: DirectorClient, fake: FakeDirector, answer: HttpAnswer, kind: type[CompassError]
) -> None:
    """Without an answer nothing is known about the owner."""
    fake.instead = lambda _: answer
    with pytest.raises(kind):
        director.viewer(request_id="r_1")


def test_a_label_is_set_by_variables_and_confirmed(director: DirectorClient, fake: FakeDirector) -> None:
    """Quotes in a value stay a value; a null result names the field."""
    fake.instead = lambda _: answered({"data": {"setRuntimeLabel": {"key": "k", "value": 'a"b'}}})
    director.set_runtime_label("runtime-1", "k", 'a"b', request_id="r")
    assert fake.sent[0][1] == {"runtime": "runtime-1", "key": "k", "value": 'a"b'}
    fake.instead = lambda _: answered({"data": {"setRuntimeLabel": None}})
    with pytest.raises(InvalidAnswer) as caught:
        director.set_runtime_label("runtime-1", "k", "v", request_id="r_2")
    assert (caught.value.path, caught.value.request_id) == ("setRuntimeLabel", "r_2")
