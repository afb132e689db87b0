"""How the Director answers, request by request over real mTLS."""

import base64
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
import requests

from e2e.mock_compass import Disorder, Fault, MockCompass, landscape
from tests.support.compass_client import Client, Clock

PAGE = """query ($runtime: ID!, $first: Int, $after: PageCursor) {
  applicationsForRuntime(runtimeID: $runtime, first: $first, after: $after) {
    data { id name } pageInfo { startCursor endCursor hasNextPage } totalCount
  }
}"""
LABELS = "query ($id: ID!) { runtime(id: $id) { labels status { condition } } }"
SET_LABEL = """mutation ($id: ID!, $key: String!, $value: Any!) {
  setRuntimeLabel(runtimeID: $id, key: $key, value: $value) { key value }
}"""
DEFAULT_SIZE = """query ($runtime: ID!) {
  applicationsForRuntime(runtimeID: $runtime) { data { id } pageInfo { endCursor hasNextPage } totalCount }
}"""
NO_SUCH_ID = "00000000-0000-4000-8000-000000000000"
NOT_SAME_SCENARIO = (
    "The operation is not allowed [reason=requesting runtime should be in same scenario as the requested application "
    "resource]"
)


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


# --- who may ask ---


def test_the_first_call_marks_the_runtime_connected(paired: Client, compass: MockCompass) -> None:
    """Pairing alone does not."""
    runtime = compass.state.runtime(compass.runtime_id)
    assert runtime is not None
    assert runtime.status == "INITIAL"
    answer = paired.ask(LABELS, {"id": compass.runtime_id})
    assert answer["data"]["runtime"]["status"] == {"condition": "CONNECTED"}


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


def test_both_root_fields_report_their_missing_scope(paired: Client, compass: MockCompass) -> None:
    """The error of the nullable field and that of the non-null one come together, data is null."""
    compass.state.revoke_all(compass.runtime_id)
    query = "query ($id: ID!) { runtime(id: $id) { id } applicationsForRuntime(runtimeID: $id) { totalCount } }"
    answer = paired.ask(query, {"id": compass.runtime_id})
    assert sorted(error["path"] for error in answer["errors"]) == [["applicationsForRuntime"], ["runtime"]]
    assert answer["data"] is None


def test_the_tenant_header_is_optional_and_may_be_the_own_tenant(paired: Client, compass: MockCompass) -> None:
    """The certificate alone says which tenant is meant."""
    for headers in ({}, {"Tenant": compass.tenant}):
        assert paired.ask("{ viewer { id type } }", headers=headers) == {
            "data": {"viewer": {"id": compass.runtime_id, "type": "RUNTIME"}}
        }


def test_another_existing_tenant_is_a_400(paired: Client, compass: MockCompass) -> None:
    """Told apart from an unknown one by HTTP status and code 25."""
    compass.state.add_tenant("other-tenant")
    answer = paired.post(compass.director_url, "{ viewer { id } }", headers={"Tenant": "other-tenant"})
    assert answer.status_code == 400
    assert only_error(answer.json()) == (25, "Tenant not found [externalTenant=other-tenant]")


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{}", 422), (b'{"query":"{"}', 422), (b'{"query":"{ nothing }"}', 422)],
)
def test_what_is_no_operation_is_refused_by_status(
    paired: Client, compass: MockCompass, body: bytes, status: int
) -> None:
    """Syntax, schema and variables are 422, with errors and null data."""
    assert paired.cert_file is not None
    answer = requests.post(
        compass.director_url, data=body, verify=str(paired.ca_file), cert=str(paired.cert_file), timeout=10
    )
    assert answer.status_code == status
    assert answer.json()["errors"]
    assert answer.json()["data"] is None


# --- pages of Applications ---


def test_a_runtime_in_no_formation_gets_an_empty_page(paired: Client) -> None:
    """Success, not an error."""
    assert page(paired) == {
        "data": [],
        "pageInfo": {"startCursor": "", "endCursor": "", "hasNextPage": False},
        "totalCount": 0,
    }


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


def test_past_the_end_is_an_empty_last_page(paired: Client, compass: MockCompass) -> None:
    """With the total as it is."""
    compass.generate_applications(3)
    found = page(paired, 2, cursor(9))
    assert (found["data"], found["pageInfo"]["hasNextPage"], found["totalCount"]) == ([], False, 3)


def test_the_page_size_is_200_unless_given_and_has_no_maximum(paired: Client, compass: MockCompass) -> None:
    """At this level only."""
    compass.generate_applications(447)
    answer = paired.ask(DEFAULT_SIZE, {"runtime": compass.runtime_id})["data"]["applicationsForRuntime"]
    assert (len(answer["data"]), answer["pageInfo"]["hasNextPage"]) == (200, True)
    assert len(page(paired, 1000)["data"]) == 447


@pytest.mark.parametrize(
    ("variables", "code", "message"),
    [
        ({"first": 0}, 22, "Invalid data [reason=page size cannot be smaller than 1]"),
        ({"first": -1}, 22, "Invalid data [reason=page size cannot be smaller than 1]"),
        ({"first": None}, 22, "Invalid data [reason=missing required parameter 'first']"),
        ({"first": 1, "after": "nonsense"}, 10, None),
        ({"first": 1, "after": base64.b64encode(b"other1").decode()}, 10, None),
        ({"first": 1, "after": cursor(-1)}, 10, None),
        ({"first": 1, "runtime": NO_SUCH_ID}, 22, "Invalid data [reason=runtime does not exist]"),
        ({"first": 1, "runtime": "no-uuid"}, 10, None),
    ],
)
def test_a_bad_page_request_is_an_error_with_code(
    paired: Client, compass: MockCompass, variables: dict[str, Any], code: int, message: str | None
) -> None:
    """HTTP 200, data null."""
    answer = paired.ask(PAGE, {"runtime": compass.runtime_id, **variables})
    found_code, found_message = only_error(answer)
    assert found_code == code
    assert message in (None, found_message)
    assert answer["data"] is None


def test_unassigning_between_pages_skips_an_application(paired: Client, compass: MockCompass) -> None:
    """The race of offset cursors: one that stays assigned is on no page, and only the total tells."""
    compass.generate_applications(6)
    everything = ids(page(paired))
    gone, skipped = everything[0], everything[3]
    compass.faults.add(
        Fault(
            kind="action",
            next_page=True,
            times=1,
            action=lambda: compass.state.unassign(gone, compass.runtime_id),
        )
    )
    first, second = page(paired, 3), page(paired, 3, cursor(3))
    assert skipped not in ids(first) + ids(second)
    assert skipped in ids(page(paired))
    assert (first["totalCount"], second["totalCount"]) == (6, 5)


def test_assigning_between_pages_repeats_an_application(paired: Client, compass: MockCompass) -> None:
    """The other race: one appears twice and the new one is missed."""
    compass.generate_applications(6)
    compass.faults.add(
        Fault(
            kind="action",
            next_page=True,
            times=1,
            action=lambda: compass.put_application({"id": NO_SUCH_ID, "name": "new"}),
        )
    )
    first, second = page(paired, 3), page(paired, 3, cursor(3))
    assert ids(first)[-1] == ids(second)[0]
    assert NO_SUCH_ID not in ids(first) + ids(second)


def test_reads_during_changes_are_whole(paired: Client, compass: MockCompass) -> None:
    """Each answer shows one moment: as many Applications as its total says, each once."""
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            compass.generate_applications(40)
            compass.state.remove_all_applications()

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(20):
            found = page(paired)
            assert len(set(ids(found))) == found["totalCount"]
    finally:
        stop.set()
        changer.join()


# --- names ---


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


@pytest.mark.parametrize(
    ("raw", "system_number", "expected"),
    [
        ("Shop", None, "mp-shop"),
        ("mp-shop", None, "mp-shop"),
        ("mp-Shop", None, "mp-mp-shop"),
        ("a  b__c--d!", None, "mp-a-b-c-d"),
        ("", None, "mp"),
        ("İzmir", None, "mp-izmir"),
        ("Shop", "0042", "mp-shop-0042"),
    ],
)
def test_normalised_names(
    paired: Client, compass: MockCompass, raw: str, system_number: str | None, expected: str
) -> None:
    """Prefix, lower case by code point, runs of anything else one dash, then the system number."""
    compass.put_application({"name": raw, "systemNumber": system_number})
    assert page(paired)["data"][0]["name"] == expected


# --- one Application, nested pages ---

NESTED = """query ($id: ID!, $first: Int, $after: PageCursor) { application(id: $id) {
  id
  bundles(first: $first, after: $after) { data { id } pageInfo { endCursor hasNextPage } totalCount }
} }"""


@pytest.mark.parametrize("first", [0, 201, -1])
def test_a_nested_page_size_outside_1_to_200_is_a_partial_result(
    paired: Client, compass: MockCompass, first: int
) -> None:
    """The field is null, the error is beside data that is otherwise there."""
    record = compass.put_application({"name": "shop"})
    answer = paired.ask(NESTED, {"id": record["id"], "first": first})
    assert only_error(answer) == (22, "Invalid data [reason=page size must be between 1 and 200]")
    assert answer["errors"][0]["path"] == ["application", "bundles"]
    assert answer["data"] == {"application": {"id": record["id"], "bundles": None}}


def test_the_path_of_a_nested_error_counts_objects(paired: Client, compass: MockCompass) -> None:
    """One error for each object, with its index."""
    compass.generate_applications(2)
    bundles = "bundles(first: 201) { totalCount }"
    query = f"query ($id: ID!) {{ applicationsForRuntime(runtimeID: $id) {{ data {{ name {bundles} }} }} }}"
    answer = paired.ask(query, {"id": compass.runtime_id})
    assert sorted(error["path"] for error in answer["errors"]) == [
        ["applicationsForRuntime", "data", index, "bundles"] for index in (0, 1)
    ]
    assert all(record["bundles"] is None for record in answer["data"]["applicationsForRuntime"]["data"])


def test_nested_lists_beyond_a_page_are_followed(paired: Client, compass: MockCompass) -> None:
    """bundles through application(id), APIs and events through its bundle(id); complete while the order stays."""
    compass.disorder.enabled = False
    bundles = [{"name": f"bundle {number}"} for number in range(201)]
    apis = [{"name": f"api {number}", "targetURL": "https://api.example"} for number in range(205)]
    events = [{"name": f"event {number}"} for number in range(203)]
    record = compass.put_application(
        {"name": "big", "bundles": [*bundles, {"name": "last", "apiDefinitions": apis, "eventDefinitions": events}]}
    )
    answer = paired.ask(NESTED, {"id": record["id"], "first": 200})["data"]["application"]["bundles"]
    assert (len(answer["data"]), answer["totalCount"]) == (200, 202)
    after = answer["pageInfo"]["endCursor"]
    rest = paired.ask(NESTED, {"id": record["id"], "first": 200, "after": after})["data"]["application"]["bundles"]
    assert [bundle["id"] for bundle in rest["data"]] == [bundle["id"] for bundle in record["bundles"][200:]]
    query = """query ($id: ID!, $bundle: ID!, $after: PageCursor) { application(id: $id) { bundle(id: $bundle) {
      apiDefinitions(after: $after) { data { name } pageInfo { hasNextPage } }
      eventDefinitions(after: $after) { data { name } pageInfo { hasNextPage } } } } }"""
    variables = {"id": record["id"], "bundle": record["bundles"][-1]["id"], "after": cursor(200)}
    bundle = paired.ask(query, variables)["data"]["application"]["bundle"]
    assert [api["name"] for api in bundle["apiDefinitions"]["data"]] == [f"api {number}" for number in range(200, 205)]
    assert len(bundle["eventDefinitions"]["data"]) == 3


ORDERS = """query ($id: ID!) { applicationsForRuntime(runtimeID: $id) { data { id bundles { data {
  id apiDefinitions { data { id } } eventDefinitions { data { id } } } } } } }"""


def several(name: str, count: int = 6) -> dict[str, Any]:
    """An Application with as many bundles, and as many APIs and events in each."""
    url = "https://api.example"
    bundle = {
        "apiDefinitions": [{"name": f"api {number}", "targetURL": url} for number in range(count)],
        "eventDefinitions": [{"name": f"event {number}"} for number in range(count)],
    }
    return {"name": name, "bundles": [{"name": f"bundle {number}", **bundle} for number in range(count)]}


def orders(applications: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The ids of each list, by where it is."""
    found = {"applications": ids({"data": applications})}
    for application in applications:
        found[application["id"]] = ids(application["bundles"])
        for bundle in application["bundles"]["data"]:
            for name in ("apiDefinitions", "eventDefinitions"):
                found[f"{bundle['id']} {name}"] = ids(bundle[name])
    return found


def test_nested_lists_come_in_a_fresh_order_each_time(paired: Client, compass: MockCompass) -> None:
    """The same members in each answer; the Applications themselves stay ordered by id."""
    for number in range(3):
        compass.put_application(several(f"app {number}"))
    first, *others = (
        orders(paired.ask(ORDERS, {"id": compass.runtime_id})["data"]["applicationsForRuntime"]["data"])
        for _ in range(4)
    )
    assert first["applications"] == sorted(first["applications"])
    moved = set()
    for other in others:
        assert {place: sorted(members) for place, members in other.items()} == {
            place: sorted(members) for place, members in first.items()
        }
        moved |= {place for place in first if other[place] != first[place]}
    assert moved == first.keys() - {"applications"}


def test_nested_pages_over_a_moving_order_overlap_and_miss(paired: Client, compass: MockCompass) -> None:
    """Each has as many entries as it should, and only the ids tell that some came twice."""
    record = compass.put_application(several("app", 40))
    pages = [
        ids(paired.ask(NESTED, {"id": record["id"], "first": 20, "after": after})["data"]["application"]["bundles"])
        for after in (None, cursor(20))
    ]
    assert [len(page) for page in pages] == [20, 20]
    assert len({*pages[0], *pages[1]}) < 40


def test_errors_come_in_a_fresh_order_each_time(paired: Client, compass: MockCompass) -> None:
    """Also which of the missing scopes is named first."""
    compass.state.revoke_all(compass.runtime_id)
    query = "query ($id: ID!) { runtime(id: $id) { id } applicationsForRuntime(runtimeID: $id) { totalCount } }"
    first = {paired.ask(query, {"id": compass.runtime_id})["errors"][0]["path"][0] for _ in range(20)}
    assert first == {"runtime", "applicationsForRuntime"}


def test_a_seed_repeats_all_orders(authorities: Path) -> None:
    """The same requests in the same sequence; another seed gives other orders."""
    application = {"id": NO_SUCH_ID, **several("app")}

    def order(seed: int) -> list[Any]:
        disorder = Disorder(seed)
        return [disorder.shuffled(application["bundles"]) for _ in range(3)]

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert MockCompass(seed=7, state_directory=authorities).disorder.seed == 7


def test_apis_that_are_not_public_are_hidden(paired: Client, compass: MockCompass) -> None:
    """From pages, their totals, and by id."""
    apis = [
        {"name": name, "targetURL": "https://api.example", "visibility": name}
        for name in ("public", "internal", "private")
    ]
    record = compass.put_application({"name": "shop", "bundles": [{"name": "b", "apiDefinitions": apis}]})
    hidden = record["bundles"][0]["apiDefinitions"][1]["id"]
    query = """query ($id: ID!, $api: ID!) { application(id: $id) {
      apiDefinition(id: $api) { id } bundles { data { apiDefinitions { data { name } totalCount } } } } }"""
    answer = paired.ask(query, {"id": record["id"], "api": hidden})
    assert answer["data"]["application"] == {
        "apiDefinition": None,
        "bundles": {"data": [{"apiDefinitions": {"data": [{"name": "public"}], "totalCount": 1}}]},
    }


@pytest.mark.parametrize("case", ["unknown", "removed", "unassigned"])
def test_an_application_that_is_not_assigned_is_not_allowed(paired: Client, compass: MockCompass, case: str) -> None:
    """Unknown, deleted and unassigned look alike: code 27."""
    record = compass.put_application({"name": "shop"})
    identifier = record["id"]
    if case == "unknown":
        identifier = NO_SUCH_ID
    elif case == "removed":
        compass.state.remove_application(identifier)
    else:
        compass.state.unassign(identifier, compass.runtime_id)
    answer = paired.ask("query ($id: ID!) { application(id: $id) { id } }", {"id": identifier})
    assert only_error(answer) == (27, NOT_SAME_SCENARIO)
    assert answer["data"] == {"application": None}


def test_an_unknown_bundle_is_null(paired: Client, compass: MockCompass) -> None:
    """Without an error."""
    record = compass.put_application({"name": "shop"})
    query = "query ($id: ID!, $bundle: ID!) { application(id: $id) { bundle(id: $bundle) { id } } }"
    answer = paired.ask(query, {"id": record["id"], "bundle": NO_SUCH_ID})
    assert answer == {"data": {"application": {"bundle": None}}}


def test_credentials_come_in_clear(paired: Client, compass: MockCompass) -> None:
    """Basic, OAuth, certificate, headers without credential, csrf: as they were put in."""
    for application in landscape():
        compass.put_application(application)
    query = """query ($id: ID!) { applicationsForRuntime(runtimeID: $id) { data { bundles { data {
      id
      defaultInstanceAuth {
        credential {
          kind: __typename
          ... on BasicCredentialData { username password }
          ... on OAuthCredentialData { clientId clientSecret url }
          ... on CertificateOAuthCredentialData { clientId certificate url }
        }
        additionalHeaders additionalHeadersSerialized additionalQueryParams
        requestAuth { csrf { tokenEndpointURL } }
      } } } } } }"""
    answer = paired.ask(query, {"id": compass.runtime_id})
    assert "errors" not in answer
    found = {
        bundle["id"]: bundle["defaultInstanceAuth"]
        for record in answer["data"]["applicationsForRuntime"]["data"]
        for bundle in record["bundles"]["data"]
    }
    kinds = set()
    for application in landscape():
        for given in application["bundles"]:
            auth, seen = given.get("defaultInstanceAuth"), found[given["id"]]
            if auth is None:
                assert seen is None, application["name"]
                continue
            credential = dict(seen["credential"]) if seen["credential"] else None
            if credential:
                kinds.add(credential.pop("kind"))
            assert credential == auth["credential"]
            assert seen["additionalHeaders"] == auth.get("additionalHeaders")
            assert seen["additionalQueryParams"] == auth.get("additionalQueryParams")
            assert seen["requestAuth"] == auth.get("requestAuth")
    assert kinds == {"BasicCredentialData", "OAuthCredentialData", "CertificateOAuthCredentialData"}


# --- labels ---


@pytest.mark.parametrize("value", ["https://gateway.example", ["a", "b"], 4, {"nested": {"deep": 1}}, False])
def test_a_label_takes_any_value(paired: Client, compass: MockCompass, value: object) -> None:
    """Strings, lists, numbers, objects; read back as they were set."""
    answer = paired.ask(SET_LABEL, {"id": compass.runtime_id, "key": "k", "value": value})
    assert answer == {"data": {"setRuntimeLabel": {"key": "k", "value": value}}}
    labels = paired.ask(LABELS, {"id": compass.runtime_id})["data"]["runtime"]["labels"]
    assert labels == {"isNormalized": "true", "runtimeType": "kyma", "scenarios": ["mock-formation"], "k": value}


def test_an_empty_label_is_refused(paired: Client, compass: MockCompass) -> None:
    """An empty string is invalid data, null is no valid variable."""
    answer = paired.ask(SET_LABEL, {"id": compass.runtime_id, "key": "k", "value": ""})
    assert only_error(answer) == (22, "Invalid data LabelInput [value=cannot be blank]")
    refused = paired.post(compass.director_url, SET_LABEL, {"id": compass.runtime_id, "key": "k", "value": None})
    assert refused.status_code == 422


def test_a_request_about_bundles_labels_the_runtime(paired: Client, compass: MockCompass) -> None:
    """The Director notes that the caller knows bundles, before it answers; other requests leave the labels alone."""
    paired.ask(LABELS, {"id": compass.runtime_id})
    assert "useBundles" not in compass.state.runtimes()[0].labels
    answer = paired.ask(LABELS.replace("labels", "labels # bundle\n"), {"id": compass.runtime_id})
    assert answer["data"]["runtime"]["labels"]["useBundles"] == "true"


def test_labels_may_be_asked_for_by_key(paired: Client, compass: MockCompass) -> None:
    """A missing key answers null."""
    query = 'query ($id: ID!) { runtime(id: $id) { one: labels(key: "isNormalized") none: labels(key: "x") } }'
    answer = paired.ask(query, {"id": compass.runtime_id})
    assert answer["data"]["runtime"] == {"one": {"isNormalized": "true"}, "none": None}


def test_an_unknown_runtime_is_null(paired: Client) -> None:
    """Without an error."""
    assert paired.ask(LABELS, {"id": str(uuid.uuid4())}) == {"data": {"runtime": None}}


def test_deleting_a_label(paired: Client, compass: MockCompass) -> None:
    """Answers what it was; a label that is not there is not found."""
    query = 'mutation ($id: ID!) { deleteRuntimeLabel(runtimeID: $id, key: "isNormalized") { key value } }'
    answer = paired.ask(query, {"id": compass.runtime_id})
    assert answer["data"]["deleteRuntimeLabel"] == {"key": "isNormalized", "value": "true"}
    assert only_error(paired.ask(query, {"id": compass.runtime_id}))[0] == 20


def test_labels_of_another_tenants_runtime_cannot_be_set(paired: Client, compass: MockCompass) -> None:
    """It is as unknown as one that does not exist."""
    identifier = compass.state.register_runtime(tenant="other-tenant")
    code, message = only_error(paired.ask(SET_LABEL, {"id": identifier, "key": "k", "value": "v"}))
    assert code == 10
    assert f"runtime with ID {identifier} doesn't exist" in message


def test_applications_lists_raw_names_and_filters_by_label_key(paired: Client, compass: MockCompass) -> None:
    """Pages here have a maximum."""
    compass.put_application({"name": "With Label", "labels": {"a": 1}})
    compass.put_application({"name": "Without"})
    assert {r["name"] for r in paired.ask("{ applications { data { name } } }")["data"]["applications"]["data"]} == {
        "With Label",
        "Without",
    }
    filtered = paired.ask('{ applications(filter: [{key: "a"}]) { data { name } } }')
    assert filtered["data"]["applications"]["data"] == [{"name": "With Label"}]
    assert only_error(paired.ask("{ applications(first: 201) { totalCount } }"))[0] == 22
