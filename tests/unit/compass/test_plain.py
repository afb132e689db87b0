"""What is read at once is what would be read field by field."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from controller.compass import Application, IncompleteApplication, InvalidAnswer, plain
from controller.compass.budget import Budget
from controller.compass.limits import Limits
from controller.compass.nested import ApplicationReader
from controller.compass.values import filled_text, text
from tests.support.fuzzing import PLACES, VALUES, planted, quickly
from tests.unit.compass.test_readings import application, listed

AUTHS: list[Any] = [
    None,
    {},
    {"credential": None, "accessStrategy": "open"},
    {"credential": None, "accessStrategy": "sap:cmp-mtls:v1"},
    {"credential": {"__typename": "BasicCredentialData", "username": "u", "password": ""}, "accessStrategy": "x"},
    {"credential": {"__typename": "OAuthCredentialData", "clientId": "c", "clientSecret": "s", "url": ""}},
    {"additionalHeaders": {"a": ["1", "2"], "b": None, "c": []}, "additionalQueryParams": {}},
    {"additionalHeaders": None, "requestAuth": {"csrf": {"tokenEndpointURL": "https://csrf"}}},
    {"requestAuth": {"csrf": None}},
    {"requestAuth": None},
]


def documents() -> list[dict[str, Any]]:
    """One application for each way of authentication, and some with less in them."""
    found = []
    for auth in AUTHS:
        one = application(description="d")
        one["bundles"]["data"][0] |= {"defaultInstanceAuth": auth, "instanceAuthRequestInputSchema": "{}"}
        found.append(one)
    return [
        *found,
        {"id": "1", "name": ""},
        {"id": "1", "name": "n", "bundles": None, "auths": None, "description": None},
        {"id": "1", "name": "n", "bundles": {**listed([]), "data": None}, "more": [{"x": 1}]},
        {"id": "1", "name": "n", "bundles": listed([{"id": "b", "name": "", "apiDefinitions": None}])},
        {"id": "1", "name": "\u00fc \U0001f600 \\"},
    ]


def carefully(document: Any) -> Application | IncompleteApplication | None:
    """None when it is not even known which application this is."""
    if not isinstance(document, dict):
        return None

    def no_call(*_: Any, **__: Any) -> Any:
        raise InvalidAnswer("there is more, and nobody to ask for it")

    try:
        identity = filled_text(document, "id"), text(document, "name")
    except InvalidAnswer:
        return None
    return ApplicationReader(Budget(no_call, Limits())).read(*identity, document)


@pytest.mark.parametrize("document", documents())
def test_usual_applications_are_plain(document: dict[str, Any]) -> None:
    """All of them, so that none takes longer than it has to."""
    found = plain.read(Raw(json.dumps(document).encode()))
    assert found is not None
    assert found == carefully(json.loads(json.dumps(document)))


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"id": None},
        {"auths": [{"id": ""}]},
        {"bundles": listed([], more=True)},
        {"bundles": {**listed([]), "totalCount": 1}},
        {"bundles": listed([{"id": "b", "name": "1"}, {"id": "b", "name": "2"}])},
        {"bundles": listed([{"id": "", "name": "1"}])},
        {"bundles": listed([{"id": "b", "name": "1", "defaultInstanceAuth": {"credential": {"__typename": "Other"}}}])},
        {"description": 5},
    ],
)
def test_what_needs_a_closer_look_is_not(change: dict[str, Any]) -> None:
    assert plain.read(Raw(json.dumps(application() | change).encode())) is None


@pytest.mark.parametrize("body", [b"", b"5", b"[]", b'{"id": "\xff", "name": "n"}', b"[" * 5000 + b"]" * 5000])
def test_what_is_no_application_is_not(body: bytes) -> None:
    assert plain.read(Raw(body)) is None


@quickly
@given(document=st.sampled_from(documents()), way=PLACES, value=VALUES)
def test_whatever_is_read_at_once_is_read_the_same_field_by_field(document: Any, way: list[int], value: Any) -> None:
    """Or it is left to that."""
    body = json.dumps(planted(document, way, value)).encode()
    found = plain.read(Raw(body))
    if found is not None:
        assert found == carefully(json.loads(body))
