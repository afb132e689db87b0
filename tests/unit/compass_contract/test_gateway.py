"""What the real Compass answers when something is down, wrong or refused, row by row: the mock answers the same.

The facts were measured on Compass a423d60 behind its own gateway. They are written out here, not taken from the mock.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from e2e.mock_compass import MockCompass
from tests.support.compass_client import CONFIGURATION, REVOKE, TIMEOUT, Client

VIEWER = "{ viewer { id type } }"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


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


@pytest.mark.parametrize("case", ["revoked", "spent token", "no token"])
def test_who_is_refused_by_the_connector_gets_an_empty_400(compass: MockCompass, unpaired: Client, case: str) -> None:
    """No word why."""
    if case == "revoked":
        client = unpaired.pair()
        assert client.post(compass.secured_connector_url, REVOKE).json() == {"data": {"revokeCertificate": True}}
        assert_answer(client.post(compass.secured_connector_url, CONFIGURATION), NOBODY)
        return
    headers = {}
    if case == "spent token":
        headers = {"Connector-Token": compass.issue_token()}
        assert unpaired.post(compass.connector_url, CONFIGURATION, headers=headers).status_code == 200
    assert_answer(unpaired.post(compass.connector_url, CONFIGURATION, headers=headers), NOBODY)
