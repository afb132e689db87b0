"""Faults hit the requests they were ordered for, as often as ordered, and look to the client as they should."""

from typing import Any

import pytest
import requests

from e2e.mock_compass import HTML_503, Fault, MockCompass
from e2e.mock_compass.faults import Faults, RequestInfo
from tests.support.compass_client import CONFIGURATION, Client

VIEWER = "{ viewer { id } }"


def viewer(client: Client, **options: Any) -> requests.Response:
    return client.post(client.compass.director_url, VIEWER, **options)


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        (Fault(kind="status", status=503, body=HTML_503), 503, HTML_503.encode()),
        (Fault(kind="status", status=200, body=""), 200, b""),
        (Fault(kind="status", status=200, body=b"\xff\x00"), 200, b"\xff\x00"),
        (Fault(kind="status", status=429, headers=(("Retry-After", "7"),)), 429, b""),
        (Fault(kind="garbage", status=200), 200, None),
        (Fault(kind="truncated"), 200, None),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else None,
)
def test_an_answer_is_replaced(
    paired: Client, compass: MockCompass, fault: Fault, status: int, body: bytes | None
) -> None:
    """The client sees the ordered status and body, and nothing it can parse where the body is broken."""
    compass.faults.add(fault)
    answer = viewer(paired)
    assert answer.status_code == status
    if body is not None:
        assert answer.content == body
    with pytest.raises(requests.exceptions.JSONDecodeError):
        answer.json()
    assert dict(fault.headers).items() <= dict(answer.headers).items()


def test_a_graphql_error_comes_with_http_200(paired: Client, compass: MockCompass) -> None:
    """Message and code as ordered, data null."""
    compass.faults.add(Fault(kind="graphql_error", message="no", code=10, times=1))
    assert viewer(paired).json() == {
        "errors": [{"message": "no", "extensions": {"error_code": 10}}],
        "data": None,
    }
    assert viewer(paired).json()["data"]


@pytest.mark.parametrize(
    ("page", "status", "content_type", "text"),
    [
        ("unavailable", 503, "text/html", "503 Service Temporarily Unavailable"),
        ("login redirect", 302, "text/html", ""),
        ("login page", 200, "text/html", "Sign in"),
        ("forbidden page", 403, "text/html", "403 Forbidden"),
        ("no such path", 404, "application/json", "The requested resource could not be found"),
        ("no such page", 404, "text/html", "404 Not Found"),
    ],
)
@pytest.mark.parametrize("target", ["connector", "director"])
def test_a_page_stands_before_one_service_and_spends_no_token(
    paired: Client, compass: MockCompass, target: str, page: str, status: int, content_type: str, text: str
) -> None:
    """The other service answers as ever; afterwards the token works."""
    token = {"Connector-Token": compass.issue_token()}
    number = compass.faults.add(Fault(kind="page", page=page, target=target))
    answers = {
        "connector": paired.post(compass.connector_url, CONFIGURATION, headers=token, allow_redirects=False),
        "director": viewer(paired, allow_redirects=False),
    }
    found = answers.pop(target)
    assert (found.status_code, found.headers["Content-Type"]) == (status, content_type)
    assert text in found.text
    assert ("Location" in found.headers) == (status == 302)
    for other in answers.values():
        assert other.json()["data"]
    compass.faults.remove(number)
    again = paired.post(compass.connector_url, CONFIGURATION, headers=token)
    assert again.status_code == (200 if target == "connector" else 400)


@pytest.mark.parametrize("kind", ["reset", "cut"])
def test_a_broken_connection_is_an_exception(paired: Client, compass: MockCompass, kind: str) -> None:
    """Before the answer, or in the middle of its body."""
    compass.faults.add(Fault(kind=kind, times=1))
    with pytest.raises((requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        viewer(paired)
    assert viewer(paired).status_code == 200


def test_a_hanging_request_ends_when_the_client_gives_up(paired: Client, compass: MockCompass) -> None:
    """Other requests are served meanwhile and after."""
    compass.faults.add(Fault(kind="hang", times=1))
    with pytest.raises(requests.exceptions.ReadTimeout):
        viewer(paired, timeout=0.2)
    assert viewer(paired).status_code == 200


def test_stopping_ends_a_hanging_request(paired: Client, compass: MockCompass) -> None:
    """stop() does not wait for it."""
    compass.faults.add(Fault(kind="hang"))
    with pytest.raises(requests.exceptions.ReadTimeout):
        viewer(paired, timeout=0.1)
    compass.stop()


def test_a_delayed_answer_is_the_true_one(paired: Client, compass: MockCompass) -> None:
    """It comes no earlier than ordered."""
    compass.faults.add(Fault(kind="delay", seconds=0.2, times=1))
    answer = viewer(paired)
    assert answer.json()["data"]
    assert answer.elapsed.total_seconds() >= 0.2


@pytest.mark.parametrize(("after", "spent"), [(False, False), (True, True)])
def test_a_fault_comes_before_or_after_the_effect(
    client: Client, compass: MockCompass, after: bool, spent: bool
) -> None:
    """An outage in front leaves a token as it is; a lost answer has spent it."""
    token = compass.issue_token()
    compass.faults.add(Fault(kind="status", status=502, after=after, times=1))
    answer = client.post(compass.connector_url, CONFIGURATION, headers={"Connector-Token": token})
    assert answer.status_code == 502
    again = client.post(compass.connector_url, CONFIGURATION, headers={"Connector-Token": token})
    assert again.status_code == (400 if spent else 200)


def test_a_field_answers_null_or_fails_in_one_object(paired: Client, compass: MockCompass) -> None:
    """The way to a partial result, whatever aliases a query uses."""
    compass.generate_applications(2)
    first, second = (record["id"] for record in compass.state.applications())
    compass.faults.add(Fault(kind="field", field="Application.bundles", object_id=first))
    compass.faults.add(Fault(kind="field", field="Application.bundles", object_id=second, message="no", code=10))
    query = "query ($id: ID!) { result: applicationsForRuntime(runtimeID: $id) { data { bundles { totalCount } } } }"
    assert paired.ask(query, {"id": compass.runtime_id}) == {
        "errors": [{"message": "no", "path": ["result", "data", 1, "bundles"], "extensions": {"error_code": 10}}],
        "data": {"result": {"data": [{"bundles": None}, {"bundles": None}]}},
    }


def test_an_action_happens_before_the_request_is_served(paired: Client, compass: MockCompass) -> None:
    """So the answer shows its effect."""
    compass.faults.add(Fault(kind="action", action=lambda: compass.state.revoke_all(compass.runtime_id), times=1))
    assert viewer(paired).json()["errors"][0]["extensions"]["error_code"] == 23


def test_an_action_after_the_effect_leaves_the_answer_as_it_was(paired: Client, compass: MockCompass) -> None:
    """The moment in which the server has acted and the client does not know it yet."""
    compass.put_application({"name": "one"})
    compass.faults.add(Fault(kind="action", action=compass.state.remove_all_applications, after=True, times=1))
    query = "query ($id: ID!) { applicationsForRuntime(runtimeID: $id) { totalCount } }"
    totals = [
        paired.ask(query, {"id": compass.runtime_id})["data"]["applicationsForRuntime"]["totalCount"] for _ in range(2)
    ]
    assert totals == [1, 0]


CONNECTOR = RequestInfo("connector", frozenset({"configuration"}), next_page=False)
FIRST = RequestInfo("director", frozenset({"applicationsForRuntime", "FirstPage"}), next_page=False)
NEXT = RequestInfo("director", frozenset({"applicationsForRuntime"}), next_page=True)
INVALID = RequestInfo("director", frozenset(), next_page=False)


@pytest.mark.parametrize(
    ("fault", "hit"),
    [
        (Fault(kind="reset"), [CONNECTOR, FIRST, NEXT, INVALID]),
        (Fault(kind="reset", target="connector"), [CONNECTOR]),
        (Fault(kind="reset", target="director"), [FIRST, NEXT, INVALID]),
        (Fault(kind="reset", operation="applicationsForRuntime"), [FIRST, NEXT]),
        (Fault(kind="reset", operation="FirstPage"), [FIRST]),
        (Fault(kind="reset", next_page=True), [NEXT]),
        (Fault(kind="reset", skip=1), [FIRST, NEXT, INVALID]),
        (Fault(kind="reset", times=2), [CONNECTOR, FIRST]),
        (Fault(kind="reset", skip=1, times=1, target="director"), [NEXT]),
    ],
)
def test_which_requests_a_fault_hits(fault: Fault, hit: list[RequestInfo]) -> None:
    """Target, operation and page select; then the first are skipped, and the number is limited."""
    faults = Faults()
    faults.add(fault)
    assert [info for info in (CONNECTOR, FIRST, NEXT, INVALID) if faults.take(info).deciding] == hit


def test_the_first_deciding_fault_wins_and_only_it_is_counted() -> None:
    """Two outages one after the other can be ordered at once."""
    faults = Faults()
    for status in (502, 503):
        faults.add(Fault(kind="status", status=status, times=1))
    taken = [faults.take(FIRST).deciding for _ in range(3)]
    assert [fault.status if fault else None for fault in taken] == [502, 503, None]


def test_accompanying_faults_join_a_deciding_one() -> None:
    """A slow failure is both."""
    faults = Faults()
    ordered = [Fault(kind="delay", seconds=1), Fault(kind="reset"), Fault(kind="delay", seconds=2, after=True)]
    for fault in ordered:
        faults.add(fault)
    hit = faults.take(FIRST)
    assert (hit.before, hit.deciding, hit.after) == (tuple(ordered[:1]), ordered[1], tuple(ordered[2:]))


def test_faults_are_removed_one_by_one_or_all() -> None:
    """armed() counts their hits."""
    faults = Faults()
    numbers = [faults.add(Fault(kind="reset")), faults.add(Fault(kind="hang"))]
    faults.take(FIRST)
    assert [hits for _fault, hits in faults.armed().values()] == [1, 0]
    faults.remove(numbers[0])
    taken = faults.take(FIRST).deciding
    assert taken is not None
    assert taken.kind == "hang"
    faults.clear()
    assert faults.armed() == {}


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "nothing"}, {"kind": "reset", "target": "moon"}, {"kind": "field", "field": "x"}, {"kind": "action"}],
)
def test_a_fault_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """When it is made, not when it should hit."""
    with pytest.raises(ValueError):
        Fault(**wrong)


def test_numbers_are_never_given_twice() -> None:
    """A late remove() of a fault that has ended cannot end another."""
    faults = Faults()
    first = faults.add(Fault(kind="reset", times=1))
    faults.take(FIRST)
    assert faults.add(Fault(kind="reset")) != first
