"""What the real Compass answers when something is down or wrong, row by row: the mock answers the same.

The facts were measured on Compass a423d60 behind its own gateway. They are written out here, not taken from the mock.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from e2e.mock_compass import MockCompass
from tests.support.compass_client import CONFIGURATION, TIMEOUT, Client

VIEWER = "{ viewer { id type } }"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


@pytest.fixture(scope="module")
def compass() -> Iterator[MockCompass]:
    with MockCompass() as running:
        yield running


@pytest.fixture(scope="module")
def unpaired(compass: MockCompass, tmp_path_factory: pytest.TempPathFactory) -> Client:
    directory = tmp_path_factory.mktemp("client")
    ca_file = directory / "ca.crt"
    ca_file.write_text(compass.ca_pem)
    return Client(compass, directory, ca_file, rsa.generate_private_key(public_exponent=65537, key_size=2048))


@pytest.fixture(scope="module")
def paired(unpaired: Client) -> Client:
    return unpaired.pair()


@dataclass(frozen=True)
class Answer:
    """Expected: the body is a pattern for the whole text. `type` None: no content type is sent."""

    status: int
    type: str | None
    body: str = ""


def literal(status: int, content_type: str | None, body: str) -> Answer:
    return Answer(status, content_type, re.escape(body).replace("UUID", UUID))


SERVED = None
NOBODY = Answer(400, "application/json;charset=UTF-8")
UPSTREAM = literal(
    503,
    "text/plain",
    "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
)
HYDRATOR = literal(
    500,
    "application/json",
    '{"error":{"code":500,"status":"Internal Server Error","request":"UUID",'
    '"message":"An internal server error occurred, please contact the system administrator"}}',
)
NO_SCOPES = Answer(200, "application/json", r".*insufficient scopes provided \[actual=; required=.*\].*:23\b.*")

#: what is down | Director | Connector with a token | Connector with a certificate | the token is spent
OUTAGES: tuple[tuple[str, Answer | None, Answer | None, Answer | None, bool], ...] = (
    ("director", UPSTREAM, NOBODY, NOBODY, False),
    ("database", NO_SCOPES, NOBODY, NOBODY, False),
    ("hydrator", HYDRATOR, HYDRATOR, HYDRATOR, False),
    ("connector", SERVED, UPSTREAM, UPSTREAM, True),
    ("gateway", UPSTREAM, UPSTREAM, UPSTREAM, True),
    ("oathkeeper", UPSTREAM, UPSTREAM, UPSTREAM, False),
)


def assert_answer(found: requests.Response, expected: Answer) -> None:
    assert found.status_code == expected.status
    assert found.headers.get("Content-Type", "").partition("; charset=utf-8")[0] == (expected.type or "")
    assert re.fullmatch(expected.body, found.text), found.text


@pytest.mark.parametrize(
    ("down", "director", "token", "certificate", "spent"), OUTAGES, ids=[row[0] for row in OUTAGES]
)
def test_what_is_answered_while_something_is_down(
    compass: MockCompass,
    unpaired: Client,
    paired: Client,
    down: str,
    director: Answer | None,
    token: Answer | None,
    certificate: Answer | None,
    spent: bool,
) -> None:
    """All three endpoints, and afterwards: which token is gone, and that everything else is as before."""
    value = compass.issue_token()
    header = {"Connector-Token": value}
    with compass.outages.during(down, delay=0.0):
        answers = (
            paired.post(compass.director_url, VIEWER),
            unpaired.post(compass.connector_url, CONFIGURATION, headers=header),
            paired.post(compass.secured_connector_url, CONFIGURATION),
        )
    for found, expected in zip(answers, (director, token, certificate), strict=True):
        if expected is SERVED:
            assert found.status_code == 200
            assert "errors" not in found.json()
        else:
            assert_answer(found, expected)
    again = unpaired.post(compass.connector_url, CONFIGURATION, headers=header)
    assert again.status_code == (400 if spent else 200)
    assert paired.configuration()
    assert paired.ask(VIEWER) == {"data": {"viewer": {"id": compass.runtime_id, "type": "RUNTIME"}}}


NOT_FOUND = literal(
    404,
    "application/json",
    '{"error":{"code":404,"status":"Not Found","request":"UUID",'
    '"message":"The requested resource could not be found"}}',
)


@pytest.mark.parametrize("path", ["/", "/connector/graphq", "/connector/graphql/", "/director"])
def test_an_unknown_path_is_not_found_and_spends_no_token(compass: MockCompass, unpaired: Client, path: str) -> None:
    """The token works afterwards at the right one."""
    url = compass.connector_url.removesuffix("/connector/graphql") + path
    header = {"Connector-Token": compass.issue_token()}
    assert_answer(unpaired.post(url, CONFIGURATION, headers=header), NOT_FOUND)
    assert unpaired.post(compass.connector_url, CONFIGURATION, headers=header).status_code == 200


def test_the_rate_limit_of_the_gateway(tmp_path: Path) -> None:
    """3,000 requests at once, then 300 more every 30 s, whatever they are; no Retry-After."""
    now = [1_900_000_000.0]
    with MockCompass(clock=lambda: now[0]) as compass, requests.Session() as session:
        ca_file = tmp_path / "ca.crt"
        ca_file.write_text(compass.ca_pem)

        def answer() -> requests.Response:
            return session.get(f"{compass.connector_url}/x", verify=str(ca_file), timeout=TIMEOUT)

        def taken(most: int) -> int:
            return next((count for count in range(most) if not compass.rate_limit.admits()), most)

        assert answer().status_code == 404
        assert taken(3000) == 2999
        refused = answer()
        assert_answer(refused, literal(429, "text/plain", "local_rate_limited"))
        assert refused.headers["x-local-rate-limit"] == "gateway"
        assert "Retry-After" not in refused.headers
        for seconds, more in ((29.0, 0), (1.0, 300), (59.0, 300), (1.0, 300)):
            now[0] += seconds
            assert taken(301) == more
        compass.rate_limit.enabled = False
        assert answer().status_code == 404


NO_SUCH_ID = "00000000-0000-4000-8000-000000000000"
PAGE = """query ($id: ID!, $after: PageCursor) {
  applicationsForRuntime(runtimeID: $id, first: 10, after: $after) { data { id } } }"""
SET_LABEL = """mutation ($id: ID!) { setRuntimeLabel(runtimeID: $id, key: "k", value: "v") { key } }"""


@pytest.mark.parametrize(
    ("query", "variables", "reason"),
    [
        (SET_LABEL, {"id": NO_SUCH_ID}, ", reason: input: .*doesn't exist"),
        (PAGE, {"id": "RUNTIME", "after": "nonsense"}, ", reason: input: .*"),
        (PAGE, {"id": "no-uuid"}, ""),
    ],
    ids=["label of an unknown Runtime", "bad cursor", "no UUID"],
)
def test_an_internal_error_has_a_new_id_each_time(
    compass: MockCompass, paired: Client, query: str, variables: dict[str, str], reason: str
) -> None:
    """Code 10; some say the reason."""
    own = {key: compass.runtime_id if value == "RUNTIME" else value for key, value in variables.items()}
    found = set()
    for _ in range(2):
        (error,) = paired.ask(query, own)["errors"]
        assert error["extensions"] == {"error": "InternalError", "error_code": 10}
        match = re.fullmatch(rf"Internal Server Error \[errorID=({UUID}){reason}\]", error["message"])
        assert match, error["message"]
        found.add(match[1])
    assert len(found) == 2


@pytest.mark.parametrize("query", ["{", "{ nothing }", "query ($id: ID!) { runtime(id: $id) { id } }"])
def test_what_is_no_operation_is_a_422_with_code_10(compass: MockCompass, paired: Client, query: str) -> None:
    """Syntax, schema, and variables that are missing."""
    answer = paired.post(compass.director_url, query)
    assert answer.status_code == 422
    for error in answer.json()["errors"]:
        assert error["extensions"]["error_code"] == 10
        assert re.fullmatch(
            rf"Internal Server Error \[errorID={UUID}, reason: input: .*\]", error["message"], re.DOTALL
        )
