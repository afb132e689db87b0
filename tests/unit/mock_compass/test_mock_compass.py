"""The mock Compass refuses what the real one refuses; otherwise tests of the agent would pass for the wrong reason."""

import base64
from typing import Any

import pytest
import requests

from e2e.mock_compass import Fault, MockCompass
from tests.support.compass_client import CONFIGURATION, REVOKE, SIGN, Client, Clock, csr

PREFIX = "Error while signing Certificate Signing Request: "
PAGE = """query ($runtime: ID!, $first: Int, $after: PageCursor) {
  applicationsForRuntime(runtimeID: $runtime, first: $first, after: $after) {
    data { id name } pageInfo { startCursor endCursor hasNextPage } totalCount
  }
}"""
SET_LABEL = """mutation ($id: ID!, $key: String!, $value: Any!) {
  setRuntimeLabel(runtimeID: $id, key: $key, value: $value) { key value }
}"""


def cursor(offset: int) -> str:
    return base64.b64encode(f"DpKtJ4j9jDq{offset}".encode()).decode()


def page(client: Client, first: Any = 1000, after: str | None = None) -> dict[str, Any]:
    answer = client.ask(PAGE, {"runtime": client.compass.runtime_id, "first": first, "after": after})
    assert "errors" not in answer, answer
    found: dict[str, Any] = answer["data"]["applicationsForRuntime"]
    return found


def only_error(answer: dict[str, Any]) -> tuple[int, str]:
    (error,) = answer["errors"]
    return error["extensions"]["error_code"], error["message"]


def ids(found: dict[str, Any]) -> list[str]:
    return [record["id"] for record in found["data"]]


@pytest.mark.parametrize("case", ["missing", "unknown", "spent", "expired"])
@pytest.mark.parametrize("query", [CONFIGURATION, SIGN, "no graphql"], ids=["configuration", "sign", "nonsense"])
def test_a_token_that_does_not_work_gets_an_empty_400(
    client: Client, compass: MockCompass, clock: Clock, case: str, query: str
) -> None:
    """Whatever is asked for: no GraphQL error, nothing in the body."""
    token = "unknown"
    if case in ("spent", "expired"):
        token = compass.issue_token(lifetime=60)
    if case == "spent":
        client.configuration(token)
    if case == "expired":
        clock.advance(60)
    headers = {} if case == "missing" else {"Connector-Token": token}
    answer = client.post(compass.connector_url, query, {"csr": ""}, headers=headers)
    assert (answer.status_code, answer.content) == (400, b"")


def test_a_token_is_spent_even_when_signing_fails(client: Client, compass: MockCompass) -> None:
    """The first use counts, not its success."""
    token = compass.issue_token()
    assert client.sign("%%%", token).json()["errors"]
    answer = client.sign("%%%", token)
    assert (answer.status_code, answer.content) == (400, b"")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"CN": "someone"}, f"{PREFIX}CSR: Invalid common name provided."),
        ({"O": "Other"}, f"{PREFIX}CSR: Invalid organization provided."),
        ({"OU": "Other"}, f"{PREFIX}CSR: Invalid organizational unit provided."),
        ({"L": "Other"}, f"{PREFIX}CSR: Invalid location provided."),
        ({"ST": "Other"}, f"{PREFIX}CSR: Invalid province provided."),
        ({"C": "FR"}, f"{PREFIX}CSR: Invalid country provided."),
    ],
)
def test_a_wrong_subject_is_refused_by_name(paired: Client, changes: dict[str, str], message: str) -> None:
    """All six attributes must be those announced; the error is HTTP 200 without extensions."""
    subject = paired.configuration()["certificateSigningRequestInfo"]["subject"]
    answer = paired.sign(csr(subject, paired.key, **changes))
    assert answer.status_code == 200
    assert answer.json() == {
        "errors": [{"message": message, "path": ["signCertificateSigningRequest"]}],
        "data": None,
    }


def test_revocation_is_per_certificate(paired: Client, client: Client, compass: MockCompass) -> None:
    """Revoking takes effect at once, for that certificate and no other of the same Runtime."""
    other = client.pair()
    assert paired.post(compass.secured_connector_url, REVOKE).json() == {"data": {"revokeCertificate": True}}
    answer = paired.post(compass.secured_connector_url, CONFIGURATION)
    assert (answer.status_code, answer.content) == (400, b"")
    assert other.configuration()


def test_the_client_authority_signs_no_server(client: Client, compass: MockCompass) -> None:
    """Trusting what the Connector returned is not trusting its server."""
    client.ca_file.write_text(compass.client_ca_pem)
    with pytest.raises(requests.exceptions.SSLError):
        client.post(compass.connector_url, CONFIGURATION)


@pytest.mark.parametrize("case", ["revoked", "unregistered", "unknown tenant", "expired"])
def test_whoever_is_not_accepted_gets_the_same_answer(
    paired: Client, compass: MockCompass, clock: Clock, case: str
) -> None:
    """HTTP 200 and missing scopes, whatever the cause: a client cannot tell the causes apart."""
    headers: dict[str, str] = {}
    if case == "revoked":
        assert compass.state.revoke_all(compass.runtime_id) == 1
    elif case == "unregistered":
        compass.state.unregister_runtime(compass.runtime_id)
    elif case == "unknown tenant":
        headers = {"Tenant": "nobody"}
    else:
        clock.advance(91 * 24 * 3600)
    assert paired.ask(PAGE, {"runtime": compass.runtime_id, "first": 10}, headers=headers) == {
        "errors": [
            {
                "message": "insufficient scopes provided [actual=; required=application:read]",
                "path": ["applicationsForRuntime"],
                "extensions": {"error": "InsufficientScopes", "error_code": 23},
            }
        ],
        "data": None,
    }


def test_another_existing_tenant_is_a_400(paired: Client, compass: MockCompass) -> None:
    """Told apart from an unknown one by HTTP status and code 25."""
    compass.state.add_tenant("other-tenant")
    answer = paired.post(compass.director_url, "{ viewer { id } }", headers={"Tenant": "other-tenant"})
    assert answer.status_code == 400
    assert only_error(answer.json()) == (25, "Tenant not found [externalTenant=other-tenant]")


def test_pages_follow_by_offset_cursors_in_id_order(paired: Client, compass: MockCompass) -> None:
    """startCursor of the first page and endCursor of the last are empty."""
    compass.generate_applications(5)
    expected = sorted(record["id"] for record in compass.state.applications())
    first = page(paired, 2)
    assert (ids(first), first["totalCount"]) == (expected[:2], 5)
    assert first["pageInfo"] == {"startCursor": "", "endCursor": cursor(2), "hasNextPage": True}
    second = page(paired, 2, cursor(2))
    assert ids(second) == expected[2:4]
    assert second["pageInfo"] == {"startCursor": cursor(2), "endCursor": cursor(4), "hasNextPage": True}
    last = page(paired, 2, cursor(4))
    assert ids(last) == expected[4:]
    assert last["pageInfo"] == {"startCursor": cursor(4), "endCursor": "", "hasNextPage": False}


@pytest.mark.parametrize(
    ("label", "normalised"),
    [(None, True), ("true", True), ("false", False), ("TRUE", False), (True, False), (["true"], False)],
)
def test_names_are_normalised_unless_the_label_says_otherwise(
    paired: Client, compass: MockCompass, label: object, normalised: bool
) -> None:
    """Absent or the string "true"; the boolean does not count. application(id) gives the raw name in any case."""
    record = compass.put_application({"name": "My Shop"})
    compass.state.delete_runtime_label(compass.runtime_id, "isNormalized")
    if label is not None:
        compass.state.set_runtime_label(compass.runtime_id, "isNormalized", label)
    assert page(paired)["data"][0]["name"] == ("mp-my-shop" if normalised else "My Shop")
    answer = paired.ask("query ($id: ID!) { application(id: $id) { name } }", {"id": record["id"]})
    assert answer["data"]["application"]["name"] == "My Shop"


def test_labels_of_another_tenants_runtime_cannot_be_set(paired: Client, compass: MockCompass) -> None:
    """It is as unknown as one that does not exist."""
    identifier = compass.state.register_runtime(tenant="other-tenant")
    code, message = only_error(paired.ask(SET_LABEL, {"id": identifier, "key": "k", "value": "v"}))
    assert code == 10
    assert f"runtime with ID {identifier} doesn't exist" in message


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
