"""The Application object as it is stored, and what a merge changes of it."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.applications.conversion import (
    ConversionSettings,
    Desired,
    desired_application,
    is_managed,
    merge_application,
)
from controller.compass.types import (
    ApiDefinition,
    Application,
    Auth,
    Bundle,
    Client,
    Credential,
    Csrf,
    EventDefinition,
    RequestAuth,
)
from tests.support import assigned
from tests.support.assigned import basic, listed, oauth

GATEWAY = "http://central-application-gateway.kyma-system.svc.cluster.local:8082"
SETTINGS = ConversionSettings(gateway_url=GATEWAY)
BUNDLE_ID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
MANAGED_BY = {"applicationconnector.kyma-project.io/managed-by": "compass-runtime-agent"}
NO_CREDENTIALS = {"type": "", "secretName": ""}
CSRF: dict[str, Any] = {"requestAuth": RequestAuth(Csrf("https://csrf"))}


def bundle(auth: Auth | None = None, *, identifier: str = BUNDLE_ID, **fields: Any) -> Bundle:
    values: dict[str, Any] = {
        "apis": (ApiDefinition("api-1", "Orders API v2", "https://shop.example.com/orders"),),
        "events": (EventDefinition("event-1", "Order Events"),),
    }
    return assigned.bundle(identifier, "Order Handling", auth, **(values | fields))


FULL = bundle(oauth(additionalHeaders={"X": ["1"]}, **CSRF), instanceAuthRequestInputSchema="{}")


def convert(*bundles: Bundle, name: str = "mp-webshop-eu", **fields: Any) -> Desired:
    application = Application(id="app-1", name="Webshop EU", bundles=listed(*bundles), **fields)
    return desired_application(application, name, SETTINGS)


def created(desired: Desired) -> dict[str, Any]:
    merged = merge_application(None, desired)
    assert merged is not None
    return merged


@pytest.mark.parametrize("skip_verify", [True, False])
def test_a_new_application_has_what_other_components_rely_on(skip_verify: bool) -> None:
    """The agent's own fields, and those that it sets at creation only."""
    settings = ConversionSettings(GATEWAY, skip_verify=skip_verify)
    desired = desired_application(Application("app-1", "Webshop EU"), "mp-webshop-eu", settings)
    empty = dict.fromkeys(("displayName", "providerDisplayName", "longDescription"), "")
    assert created(desired) == {
        "apiVersion": "applicationconnector.kyma-project.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": "mp-webshop-eu", "labels": MANAGED_BY},
        "spec": {**desired.spec, **empty, "skipVerify": skip_verify, "encodeUrl": False},
        "status": {"installationStatus": {"status": "", "description": ""}},
    }


def test_an_empty_application_has_empty_lists_and_a_placeholder() -> None:
    """No bundles, no auths; no description or an empty one."""
    for description in (None, ""):
        spec = created(convert(description=description))["spec"]
        assert spec["services"] == []
        assert spec["compassMetadata"]["authentication"]["clientIds"] == []
        assert spec["description"] == "Description not provided"
    (service,) = created(convert(bundle(apis=(), events=(), description="")))["spec"]["services"]
    assert service["entries"] == []
    assert service["description"] == "Description not provided"
    assert "authCreateParameterSchema" not in service


def test_a_service_field_by_field() -> None:
    """What the gateway and the dashboard read; the empty texts are there, as the Go agent writes them."""
    (service,) = convert(FULL).spec["services"]
    secret = f"mp-webshop-eu-{BUNDLE_ID}"
    oauth_credentials = {
        "type": "OAuth",
        "secretName": secret,
        "authenticationUrl": "https://t",
        "csrfInfo": {"tokenEndpointURL": "https://csrf"},
    }
    assert service == {
        "id": BUNDLE_ID,
        "identifier": "",
        "name": "order-handling-2b873",
        "displayName": "Order Handling",
        "description": "Description not provided",
        "providerDisplayName": "",
        "authCreateParameterSchema": "{}",
        "entries": [
            {
                "type": "API",
                "id": "api-1",
                "name": "Orders API v2",
                "targetUrl": "https://shop.example.com/orders",
                "centralGatewayUrl": f"{GATEWAY}/mp-webshop-eu/order-handling/orders-api-v2",
                "gatewayUrl": "",
                "credentials": oauth_credentials,
                "requestParametersSecretName": f"params-{secret}",
            },
            {
                "type": "Events",
                "id": "event-1",
                "name": "Order Events",
                "targetUrl": "",
                "centralGatewayUrl": "",
                "gatewayUrl": "",
                "credentials": NO_CREDENTIALS,
            },
        ],
    }


SECRET = {"secretName": f"mp-webshop-eu-{BUNDLE_ID}"}
BASIC, OAUTH = SECRET | {"type": "Basic"}, SECRET | {"type": "OAuth"}
LOGIN = ["username", "password"]

CREDENTIALS: list[tuple[str, Auth | None, dict[str, Any], list[str], int]] = [
    ("none", None, NO_CREDENTIALS, [], 0),
    ("an open API", Auth(accessStrategy="open"), NO_CREDENTIALS, [], 0),
    ("a strategy that is empty", Auth(accessStrategy=""), NO_CREDENTIALS, [], 0),
    ("another strategy", Auth(accessStrategy="sap:cmp-mtls:v1"), NO_CREDENTIALS, [], 1),
    ("basic", basic(accessStrategy="sap:cmp-mtls:v1"), BASIC, LOGIN, 0),
    ("basic with csrf", basic(**CSRF), BASIC | {"csrfInfo": {"tokenEndpointURL": "https://csrf"}}, LOGIN, 0),
    ("oauth without a url", oauth(url=""), OAUTH, ["clientId", "clientSecret"], 0),
    ("csrf alone", Auth(**CSRF), NO_CREDENTIALS, [], 0),
    ("empty user", basic("", **CSRF), NO_CREDENTIALS, [], 1),
    ("empty password", basic(password=""), NO_CREDENTIALS, [], 1),
    ("empty client", oauth(""), NO_CREDENTIALS, [], 1),
    ("empty client secret", oauth(secret=""), NO_CREDENTIALS, [], 1),
    ("unsupported", Auth(Credential("CertificateOAuthCredentialData")), NO_CREDENTIALS, [], 1),
]


@pytest.mark.parametrize(
    ("auth", "expected", "keys", "warnings"), [row[1:] for row in CREDENTIALS], ids=[row[0] for row in CREDENTIALS]
)
def test_credentials_of_each_kind(auth: Auth | None, expected: Any, keys: list[str], warnings: int) -> None:
    """What cannot be served is no credentials, with a warning that names the bundle and no value."""
    desired = convert(bundle(auth))
    api, event = desired.spec["services"][0]["entries"]
    assert api["credentials"] == expected
    assert event["credentials"] == NO_CREDENTIALS
    assert [list(secret.data) for secret in desired.secrets] == ([keys] if keys else [])
    assert len(desired.warnings) == warnings
    assert all(BUNDLE_ID in warning for warning in desired.warnings)


def test_one_secret_serves_all_apis_of_a_bundle() -> None:
    """The Secret exists for a bundle without APIs too."""
    apis = tuple(ApiDefinition(f"api-{n}", f"API {n}", "https://t") for n in range(3))
    desired = convert(
        bundle(basic(additionalHeaders={"X": ["1"]}), apis=apis), bundle(basic(), identifier="b2", apis=())
    )
    entries = desired.spec["services"][0]["entries"]
    assert {entry["credentials"]["secretName"] for entry in entries[:3]} == {f"mp-webshop-eu-{BUNDLE_ID}"}
    assert {entry.get("requestParametersSecretName") for entry in entries} == {
        f"params-mp-webshop-eu-{BUNDLE_ID}",
        None,
    }
    assert [secret.name for secret in desired.secrets] == [
        f"mp-webshop-eu-{BUNDLE_ID}",
        f"params-mp-webshop-eu-{BUNDLE_ID}",
        "mp-webshop-eu-b2",
    ]


def stored(desired: Desired, **metadata: Any) -> dict[str, Any]:
    """The object as an API server gives it back."""
    obj = copy.deepcopy(created(desired))
    obj["metadata"] |= {"uid": "uid-1", "resourceVersion": "7"} | metadata
    return obj


def test_fields_of_others_are_no_difference_and_survive() -> None:
    """User labels, annotations, finalizers, and spec fields that the agent sets at creation only."""
    actual = stored(convert(FULL))
    actual["metadata"]["labels"] |= {"application-type": "shop"}
    actual["metadata"] |= {"annotations": {"a": "b"}, "finalizers": ["f"]}
    users = {
        "skipVerify": True,
        "encodeUrl": True,
        "displayName": "Shop",
        "tags": ["t"],
        "tenant": "x",
        "group": "g",
        "accessLabel": "l",
        "longDescription": "long",
    }
    actual["spec"] |= users
    actual["status"] = {"installationStatus": {"status": "deployed"}}
    assert merge_application(actual, convert(FULL)) is None
    before = copy.deepcopy(actual)
    merged = merge_application(actual, convert(FULL, description="new"))
    assert merged is not None
    expected = copy.deepcopy(before)
    expected["spec"]["description"] = "new"
    assert merged == expected
    assert actual == before


def variants() -> dict[str, dict[str, Any]]:
    """The same Application as it reads after the Go agent, through other CRDs and after harmless edits."""
    plain = stored(convert(bundle(), auths=()))
    go = copy.deepcopy(plain)
    go["spec"]["services"][0]["entries"][0]["requestParametersSecretName"] = ""
    go["spec"]["services"][0]["labels"] = None
    go["spec"] |= {"tags": None, "skipInstallation": False}
    pruned = copy.deepcopy(plain)
    del pruned["spec"]["services"][0]["identifier"]
    del pruned["spec"]["services"][0]["entries"][1]["targetUrl"]
    del pruned["spec"]["services"][0]["entries"][1]["credentials"]
    del pruned["status"]
    defaulted = copy.deepcopy(plain)
    defaulted["spec"]["encodeUrl"] = True
    defaulted["spec"]["services"][0]["tags"] = []
    defaulted["spec"]["services"][0]["longDescription"] = ""
    return {"go agent": go, "pruned": pruned, "defaulted": defaulted}


@pytest.mark.parametrize("variant", variants())
def test_absent_and_empty_are_the_same(variant: str) -> None:
    """Else each cycle would write what the API server takes away again."""
    assert merge_application(variants()[variant], convert(bundle(), auths=())) is None


EDITS: list[tuple[list[Any], Any]] = [
    (["metadata", "labels"], {}),
    (["metadata", "labels"], None),
    (["metadata", "labels", "applicationconnector.kyma-project.io/managed-by"], "me"),
    (["spec", "description"], "edited"),
    (["spec", "description"], None),
    (["spec", "labels"], None),
    (["spec", "labels"], {"connected-app": "mp-webshop-eu", "more": "x"}),
    (["spec", "services"], []),
    (["spec", "services"], None),
    (["spec", "compassMetadata", "applicationId"], "other"),
    (["spec", "compassMetadata", "authentication", "clientIds"], ["x"]),
    (["spec", "services", 0, "name"], "x"),
    (["spec", "services", 0, "longDescription"], "x"),
    (["spec", "services", 0, "authCreateParameterSchema"], None),
    (["spec", "services", 0, "entries", 0, "targetUrl"], "https://evil"),
    (["spec", "services", 0, "entries", 0, "centralGatewayUrl"], ""),
    (["spec", "services", 0, "entries", 0, "credentials", "secretName"], "x"),
    (["spec", "services", 0, "entries", 0, "credentials", "csrfInfo"], None),
    (["spec", "services", 0, "entries", 0, "requestParametersSecretName"], ""),
    (["spec", "services", 0, "entries", 1, "type"], "API"),
]


@pytest.mark.parametrize(("path", "value"), EDITS, ids=str)
def test_every_own_field_that_was_edited_is_put_right(path: list[Any], value: Any) -> None:
    """The merged object is the stored one again, with its resourceVersion."""
    desired = convert(FULL, auths=(Client("a"),))
    actual = stored(desired)
    holder: Any = actual
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    merged = merge_application(actual, desired)
    assert merged == stored(desired)
    assert merge_application(merged, desired) is None


def test_an_application_of_a_user_is_not_managed() -> None:
    """Managed is what has compassMetadata, whatever its labels say."""
    foreign = stored(convert())
    for metadata in (None, "x"):
        foreign["spec"]["compassMetadata"] = metadata
        assert not is_managed(foreign)
    assert not is_managed({"metadata": {"name": "x"}})
    assert is_managed({"spec": {"compassMetadata": {}}})


JSON = st.recursive(
    st.none() | st.booleans() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "name", "entries", "x"]), inner),
    max_leaves=8,
)


@given(services=JSON, labels=st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5)), description=JSON)
def test_one_write_is_always_enough(services: Any, labels: Any, description: Any) -> None:
    """Whatever is stored: after the merge nothing differs, and user labels are still there."""
    desired = convert(FULL)
    actual = stored(desired)
    actual["spec"] |= {"services": services, "description": description}
    actual["metadata"]["labels"] = labels
    merged = merge_application(actual, desired)
    if merged is not None:
        assert merge_application(merged, desired) is None
        assert merged["metadata"]["labels"] == (labels or {}) | MANAGED_BY


def test_equal_stored_values_are_shared_and_no_others() -> None:
    """The stored values take the place of the desired ones; what differs, or is absent, is as it is desired."""
    application = Application("id", "shop", "text", bundles=listed(bundle()))
    settings = ConversionSettings("http://gateway")
    alone = desired_application(application, "shop", settings)
    stored = copy.deepcopy(merge_application(None, alone))
    assert stored is not None
    stored["spec"] |= {"description": "edited", "more": "of a user"}
    del stored["spec"]["labels"]
    original = copy.deepcopy(stored)
    desired = desired_application(application, "shop", settings, stored=stored)
    assert desired == alone
    assert stored == original
    assert desired.spec["services"] is stored["spec"]["services"]
    assert desired.spec["compassMetadata"] is stored["spec"]["compassMetadata"]
