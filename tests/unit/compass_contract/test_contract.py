"""What the real Compass answers, also when something is down or wrong: the mock answers the same.

The facts were measured on Compass a423d60 behind its own gateway. They are written out here, not taken from the mock.
"""

import base64
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from e2e.mock_compass import MockCompass
from tests.support.compass_client import CONFIGURATION, REVOKE, SIGN, Client, csr

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
NOT_ACCEPTED = Answer(400, "application/json;charset=UTF-8")
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
    ("director", UPSTREAM, NOT_ACCEPTED, NOT_ACCEPTED, False),
    ("database", NO_SCOPES, NOT_ACCEPTED, NOT_ACCEPTED, False),
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
def test_answers_during_an_outage(
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
def test_an_invalid_operation_is_a_422_with_code_10(compass: MockCompass, paired: Client, query: str) -> None:
    """Syntax, schema, and variables that are missing."""
    answer = paired.post(compass.director_url, query)
    assert answer.status_code == 422
    for error in answer.json()["errors"]:
        assert error["extensions"]["error_code"] == 10
        assert re.fullmatch(
            rf"Internal Server Error \[errorID={UUID}, reason: input: .*\]", error["message"], re.DOTALL
        )


SUBJECT_REFUSED = "Error while signing Certificate Signing Request: CSR: Invalid {} provided."
NUMBERED_PAGE = """query ($runtime: ID!, $first: Int, $after: PageCursor) {
  applicationsForRuntime(runtimeID: $runtime, first: $first, after: $after) {
    data { id name } pageInfo { startCursor endCursor hasNextPage } totalCount
  }
}"""


def cursor(offset: int) -> str:
    return base64.b64encode(f"DpKtJ4j9jDq{offset}".encode()).decode()


def page(client: Client, first: int = 1000, after: str | None = None) -> dict[str, Any]:
    answer = client.ask(NUMBERED_PAGE, {"runtime": client.compass.runtime_id, "first": first, "after": after})
    assert "errors" not in answer, answer
    found: dict[str, Any] = answer["data"]["applicationsForRuntime"]
    return found


# --- pairing ---


@pytest.mark.parametrize("query", [CONFIGURATION, SIGN, "no graphql"], ids=["configuration", "sign", "nonsense"])
@pytest.mark.parametrize("case", ["missing", "unknown", "expired"])
def test_a_token_that_does_not_work_gets_an_empty_400(
    compass: MockCompass, unpaired: Client, case: str, query: str
) -> None:
    """Whatever is asked for: no GraphQL error, nothing in the body."""
    tokens = {"unknown": "unknown", "expired": compass.issue_token(lifetime=0)}
    headers = {"Connector-Token": tokens[case]} if case in tokens else {}
    answer = unpaired.post(compass.connector_url, query, {"csr": ""}, headers=headers)
    assert_answer(answer, NOT_ACCEPTED)


def test_a_token_is_spent_even_when_signing_fails(compass: MockCompass, unpaired: Client) -> None:
    """The first use counts, not its success."""
    token = compass.issue_token()
    assert unpaired.sign("%%%", token).json()["errors"]
    assert_answer(unpaired.sign("%%%", token), NOT_ACCEPTED)


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("CN", "common name"),
        ("O", "organization"),
        ("OU", "organizational unit"),
        ("L", "location"),
        ("ST", "province"),
        ("C", "country"),
    ],
)
def test_a_wrong_subject_is_refused_by_name(paired: Client, attribute: str, words: str) -> None:
    """All six attributes must be those announced; the error is HTTP 200 without extensions."""
    subject = paired.configuration()["certificateSigningRequestInfo"]["subject"]
    answer = paired.sign(csr(subject, paired.key, **{attribute: "XX"}))
    assert answer.status_code == 200
    assert answer.json() == {
        "errors": [{"message": SUBJECT_REFUSED.format(words), "path": ["signCertificateSigningRequest"]}],
        "data": None,
    }


def test_revocation_is_per_certificate(compass: MockCompass, unpaired: Client) -> None:
    """Revoking takes effect at once, for that certificate and no other of the same Runtime."""
    revoked, other = unpaired.pair(), unpaired.pair()
    assert revoked.post(compass.secured_connector_url, REVOKE).json() == {"data": {"revokeCertificate": True}}
    assert_answer(revoked.post(compass.secured_connector_url, CONFIGURATION), NOT_ACCEPTED)
    assert other.configuration()


def test_the_client_authority_signs_no_server(compass: MockCompass, unpaired: Client) -> None:
    """Trusting what the Connector returned is not trusting its server."""
    ca_file = unpaired.directory / "client-ca.crt"
    ca_file.write_text(compass.client_ca_pem)
    with pytest.raises(requests.exceptions.SSLError):
        requests.post(compass.connector_url, verify=str(ca_file), timeout=10)


# --- who asks the Director ---


@pytest.mark.parametrize("case", ["revoked", "unknown tenant"])
def test_a_refused_client_gets_one_answer_for_any_cause(compass: MockCompass, unpaired: Client, case: str) -> None:
    """HTTP 200 and missing scopes: a client cannot distinguish the causes."""
    client = unpaired.pair()
    if case == "revoked":
        client.post(compass.secured_connector_url, REVOKE)
    headers = {"Tenant": "unknown"} if case == "unknown tenant" else {}
    assert client.ask(NUMBERED_PAGE, {"runtime": compass.runtime_id, "first": 10}, headers=headers) == {
        "errors": [
            {
                "message": "insufficient scopes provided [actual=; required=application:read]",
                "path": ["applicationsForRuntime"],
                "extensions": {"error": "InsufficientScopes", "error_code": 23},
            }
        ],
        "data": None,
    }


def test_another_existing_tenant_is_a_400(compass: MockCompass, paired: Client) -> None:
    """HTTP status and code 25 distinguish it from an unknown one."""
    compass.state.register_runtime(tenant="other-tenant")
    answer = paired.post(compass.director_url, "{ viewer { id } }", headers={"Tenant": "other-tenant"})
    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert error["extensions"]["error_code"] == 25
    assert error["message"] == "Tenant not found [externalTenant=other-tenant]"


# --- Applications ---


def test_pages_follow_by_offset_cursors_in_id_order(compass: MockCompass, paired: Client) -> None:
    """startCursor of the first page and endCursor of the last are empty."""
    compass.state.remove_all_applications()
    compass.generate_applications(5)
    expected = sorted(record["id"] for record in compass.state.applications())
    for offset, after, end in ((0, "", cursor(2)), (2, cursor(2), cursor(4)), (4, cursor(4), "")):
        found = page(paired, 2, after)
        assert [record["id"] for record in found["data"]] == expected[offset : offset + 2]
        assert found["totalCount"] == 5
        assert found["pageInfo"] == {"startCursor": after, "endCursor": end, "hasNextPage": bool(end)}


@pytest.mark.parametrize(
    ("label", "normalised"), [("true", True), ("false", False), ("TRUE", False), (True, False), (["true"], False)]
)
def test_names_are_normalised_if_the_label_says_so(
    compass: MockCompass, paired: Client, label: object, normalised: bool
) -> None:
    """The string "true" alone does; the boolean does not count. application(id) gives the raw name in any case."""
    compass.state.remove_all_applications()
    record = compass.put_application({"name": "My Shop"})
    compass.state.set_runtime_label(compass.runtime_id, "isNormalized", label)
    assert page(paired)["data"][0]["name"] == ("mp-my-shop" if normalised else "My Shop")
    answer = paired.ask("query ($id: ID!) { application(id: $id) { name } }", {"id": record["id"]})
    assert answer["data"]["application"]["name"] == "My Shop"


# --- TLS ---


def test_a_foreign_certificate_gets_an_alert_after_the_handshake(compass: MockCompass, unpaired: Client) -> None:
    """One of another authority, of the same name. In TLS 1.3 the client is connected, and reads the alert instead of an
    answer.
    """
    with MockCompass() as other:
        ca_file = unpaired.directory / "other.crt"
        ca_file.write_text(other.ca_pem)
        refused = Client(other, unpaired.directory, ca_file, unpaired.key).pair()
    assert refused.cert_file is not None
    context = ssl.create_default_context(cafile=str(unpaired.ca_file))
    context.load_cert_chain(refused.cert_file)
    with (
        socket.create_connection(("127.0.0.1", urlsplit(compass.director_url).port or 0), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        assert connection.version() == "TLSv1.3"
        with pytest.raises(ssl.SSLError) as caught:
            connection.recv(1)
    assert "DECRYPT_ERROR" in str(caught.value.reason)
