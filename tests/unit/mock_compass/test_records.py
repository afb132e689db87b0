"""What may be written about an Application, and what is refused, with the place named."""

import uuid
from typing import Any

import pytest

from e2e.mock_compass import RecordError, generate, landscape
from e2e.mock_compass.records import application


def test_a_name_is_enough() -> None:
    """Ids are made up, lists are empty, the rest is null."""
    record = application({"name": "Shop", "bundles": [{"name": "Orders"}]})
    assert str(uuid.UUID(record["id"])) == record["id"]
    assert record["bundles"][0]["apiDefinitions"] == []
    assert record["labels"] == {}
    assert record["auths"] == []
    assert record["description"] is None


def test_completing_twice_changes_nothing() -> None:
    """A record may be given back, as a change of one field does."""
    for example in landscape():
        record = application(example)
        assert application(record) == record


def test_the_input_stays_as_it_was() -> None:
    """Records are copies."""
    given: dict[str, Any] = {"name": "Shop", "bundles": [{"name": "Orders"}]}
    application(given)
    assert given == {"name": "Shop", "bundles": [{"name": "Orders"}]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "application: must be an object"),
        ({}, "application.name: required"),
        ({"name": 1}, "application.name: must be a string"),
        ({"name": "x", "nmae": "y"}, "application: unknown field nmae"),
        ({"name": "x", "labels": []}, "application.labels: must be an object"),
        ({"name": "x", "bundles": {}}, "application.bundles: must be a list"),
        ({"name": "x", "bundles": "no"}, "application.bundles: must be a list"),
        ({"name": "x", "bundles": [{}]}, "application.bundles[0].name: required"),
        (
            {"name": "x", "bundles": [{"name": "b", "apiDefinitions": [{"name": "a"}]}]},
            "application.bundles[0].apiDefinitions[0].targetURL: required",
        ),
        (
            {"name": "x", "bundles": [{"name": "b", "defaultInstanceAuth": {"credential": {"username": "u"}}}]},
            "application.bundles[0].defaultInstanceAuth.credential: must have the fields of one of",
        ),
        (
            {"name": "x", "bundles": [{"name": "b", "defaultInstanceAuth": {"additionalHeaders": {"a": "b"}}}]},
            "application.bundles[0].defaultInstanceAuth.additionalHeaders: must be an object of lists of strings",
        ),
        (
            {"name": "x", "status": {"condition": "FINE", "timestamp": "t"}},
            "application.status.condition: must be one of",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(given: Any, message: str) -> None:
    """The error is for a person who wrote JSON by hand."""
    with pytest.raises(RecordError) as raised:
        application(given)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    "credential",
    [
        {"username": "", "password": "p"},
        {"username": "u", "password": " "},
        {"clientId": "", "clientSecret": "s", "url": "https://token.example"},
        {"clientId": "c", "clientSecret": "", "url": "https://token.example"},
        {"clientId": "c", "clientSecret": "s", "url": ""},
    ],
)
def test_blank_parts_of_credentials_are_refused(credential: dict[str, str]) -> None:
    """The Director takes none; a fault on the field still serves one."""
    auth = {"credential": credential}
    with pytest.raises(RecordError, match=r"defaultInstanceAuth\.credential\.\w+: cannot be blank"):
        application({"name": "x", "bundles": [{"name": "b", "defaultInstanceAuth": auth}]})


def test_bulk_material_is_the_same_each_time() -> None:
    """A larger count only adds; 68 of 100 have credentials."""
    first = list(generate(200))
    assert list(generate(100)) == first[:100]
    assert len({record["id"] for record in first}) == 200
    assert sum(1 for record in first if record["bundles"][0]["defaultInstanceAuth"]) == 136
    for record in first:
        application(record)
