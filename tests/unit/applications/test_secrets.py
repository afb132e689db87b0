"""Secrets as they are stored, and what a merge changes of them."""

import base64
import copy
from typing import Any

import pytest

from controller.applications.conversion import (
    MAX_SECRET_BYTES,
    ConversionSettings,
    DesiredSecret,
    desired_application,
    merge_secret,
    secret_problem,
)
from controller.applications.secrets import owning_applications
from controller.compass.types import Application, Auth
from tests.support.assigned import basic, bundle, listed, oauth

BUNDLE_ID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
OWNER = {"metadata": {"name": "mp-shop", "uid": "uid-1"}}
REFERENCE = {
    "apiVersion": "applicationconnector.kyma-project.io/v1alpha1",
    "kind": "Application",
    "name": "mp-shop",
    "uid": "uid-1",
}
FOREIGN = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "uid-x"}


def secrets(auth: Auth) -> tuple[DesiredSecret, ...]:
    application = Application("id", "shop", bundles=listed(bundle(BUNDLE_ID, auth=auth)))
    return desired_application(application, "mp-shop", ConversionSettings("http://gateway")).secrets


BASIC = secrets(basic("us\u00e4r", "p<w"))[0]


def merge(actual: dict[str, Any] | None, desired: DesiredSecret = BASIC) -> dict[str, Any] | None:
    return merge_secret(actual, desired, namespace="kyma-system", owner=OWNER)


def plain(data: Any) -> dict[str, str]:
    return {key: base64.b64decode(value, validate=True).decode() for key, value in data.items()}


def test_oauth_keeps_id_and_secret() -> None:
    """The token's URL is in the Application only."""
    (secret,) = secrets(oauth())
    assert plain(secret.data) == {"clientId": "c", "clientSecret": "s"}


PARAMS: list[tuple[Any, Any, dict[str, str] | None]] = [
    (None, None, None),
    ({}, None, None),
    ({}, {}, None),
    ({"X": ["1"]}, None, {"headers": '{"X":["1"]}'}),
    (None, {"q": ["<"]}, {"queryParameters": r'{"q":["\u003c"]}'}),
    ({"X": ["1"]}, {}, {"headers": '{"X":["1"]}', "queryParameters": "{}"}),
    ({}, {"q": []}, {"headers": "{}", "queryParameters": '{"q":[]}'}),
]


@pytest.mark.parametrize(("headers", "query", "expected"), PARAMS, ids=str)
def test_parameters_are_stored_when_there_are_any(headers: Any, query: Any, expected: dict[str, str] | None) -> None:
    """A key is there for every map that is not null."""
    found = secrets(Auth(additionalHeaders=headers, additionalQueryParams=query))
    assert [plain(secret.data) for secret in found] == ([] if expected is None else [expected])
    for secret in found:
        assert secret.name == f"params-mp-shop-{BUNDLE_ID}"
        assert secret.labels == {"app": "mp-shop", "bundleId": BUNDLE_ID}


def test_no_value_is_printed() -> None:
    assert BASIC.data["password"] not in repr(BASIC)


def stored() -> dict[str, Any]:
    secret = merge(None)
    assert secret is not None
    secret = copy.deepcopy(secret)
    secret["metadata"] |= {"uid": "uid-s", "resourceVersion": "3"}
    return secret | {"type": "Opaque"}


def test_fields_of_others_are_no_difference_and_survive() -> None:
    """Labels, annotations and references of others stay, also when the data is reverted."""
    actual = stored()
    actual["metadata"]["labels"]["mine"] = "x"
    actual["metadata"]["annotations"] = {"a": "b"}
    actual["metadata"]["ownerReferences"].insert(0, FOREIGN)
    assert merge(actual) is None
    before = copy.deepcopy(actual)
    actual["data"]["password"] = "eA=="
    assert merge(actual) == before


EDITS: list[tuple[list[str], object]] = [
    (["data"], None),
    (["data"], {}),
    (["data", "username"], "eA=="),
    (["data", "clientId"], "eA=="),
    (["metadata", "labels"], None),
    (["metadata", "labels", "app"], "x"),
    (["metadata", "ownerReferences"], None),
    (["metadata", "ownerReferences"], [REFERENCE | {"uid": "uid-0"}]),
    (["metadata", "ownerReferences"], [REFERENCE, REFERENCE | {"uid": "uid-0"}]),
    (["metadata", "ownerReferences"], [REFERENCE | {"controller": True}]),
]


@pytest.mark.parametrize(("path", "value"), EDITS, ids=str)
def test_every_own_field_that_was_edited_is_put_right(path: list[str], value: Any) -> None:
    """Keys of an earlier kind of credentials go; the owner is the Application as it is now, exactly once."""
    actual: dict[str, Any] = stored()
    holder = actual
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    before = copy.deepcopy(actual)
    merged = merge(actual)
    assert merged == stored()
    assert merge(merged) is None
    assert actual == before


PROBLEMS = [
    (BASIC, None),
    (DesiredSecret("Upper", {}, {}), "name"),
    (DesiredSecret("x" * 254, {}, {}), "name"),
    (DesiredSecret("x", {"app": "a" * 64}, {}), "label 'app'"),
    (DesiredSecret("x", {"bundleId": "a b"}, {}), "label 'bundleId'"),
    (DesiredSecret("x", {}, {"a": base64.b64encode(b"x" * MAX_SECRET_BYTES).decode()}), None),
    (DesiredSecret("x", {}, {"a": base64.b64encode(b"x" * (MAX_SECRET_BYTES + 1)).decode()}), "larger than"),
    (DesiredSecret("x", {}, {"a": base64.b64encode(b"x" * (MAX_SECRET_BYTES - 2)).decode(), "b": "eHg="}), None),
    (DesiredSecret("x", {}, {"a": base64.b64encode(b"x" * (MAX_SECRET_BYTES - 2)).decode(), "b": "eHh4"}), "larger"),
]


@pytest.mark.parametrize(("secret", "text"), PROBLEMS, ids=[str(row[1]) for row in PROBLEMS])
def test_a_secret_that_kubernetes_would_refuse_is_a_problem(secret: DesiredSecret, text: str | None) -> None:
    """Name, labels and size."""
    problem = secret_problem(secret)
    assert (problem is None) if text is None else (problem is not None and text in problem)


LABELS = {"app": "mp-shop", "bundleId": BUNDLE_ID}
DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": "y"}
OTHER = REFERENCE | {"name": "other"}
NEXT_VERSION = REFERENCE | {"apiVersion": "applicationconnector.kyma-project.io/v1beta1"}
OF_ARGO = REFERENCE | {"apiVersion": "argoproj.io/v1alpha1"}

OWNERS: list[tuple[str, str, dict[str, str], list[dict[str, Any]], list[str]]] = [
    ("labels and reference", BASIC.name, LABELS, [REFERENCE], ["mp-shop"]),
    ("a reference alone", "any", {}, [REFERENCE], ["mp-shop"]),
    ("a reference to another version", "any", {}, [NEXT_VERSION], ["mp-shop"]),
    ("a reference to an Application of Argo", "any", {}, [OF_ARGO], []),
    ("labels alone", BASIC.name, LABELS, [], ["mp-shop"]),
    ("labels of request parameters", f"params-mp-shop-{BUNDLE_ID}", LABELS, [], ["mp-shop"]),
    ("labels, and a name of a user", "theirs", LABELS, [], []),
    ("one label", BASIC.name, {"app": "mp-shop"}, [], []),
    ("an empty label", f"-{BUNDLE_ID}", {"app": "", "bundleId": BUNDLE_ID}, [], []),
    ("labels, and another owner", BASIC.name, LABELS, [DEPLOYMENT], ["mp-shop"]),
    ("labels, and another controller", BASIC.name, LABELS, [DEPLOYMENT | {"controller": True}], []),
    ("two Applications", BASIC.name, LABELS, [OTHER | {"controller": True}], ["other", "mp-shop"]),
]


@pytest.mark.parametrize(
    ("name", "labels", "references", "expected"), [row[1:] for row in OWNERS], ids=[row[0] for row in OWNERS]
)
def test_a_secret_belongs_to_its_owners_and_to_its_labels(
    name: str, labels: dict[str, str], references: list[dict[str, Any]], expected: list[str]
) -> None:
    """Labels count if the name follows from them, and no other controller owns the Secret."""
    metadata = {"name": name, "labels": labels, "ownerReferences": references}
    assert owning_applications({"metadata": metadata}) == expected
