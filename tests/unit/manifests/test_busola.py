"""The pages of Kyma's dashboard: Busola finds them, and they show what real objects have."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonata import Jsonata

from controller.connection import status
from controller.resources import APPLICATION, COMPASS_CONNECTION, SYNC_STATUS, SYNCED

CONFIG = Path(__file__).parents[3] / "config"
FILES = sorted((CONFIG / "busola").glob("[!k]*.yaml"))
KINDS = {"compass_connections": COMPASS_CONNECTION, "applications": APPLICATION}
CRDS = {"compass_connections": "compassconnections", "applications": "applications"}

Object = dict[str, Any]


CONNECTION: Object = {
    "kind": "CompassConnection",
    "metadata": {"name": "compass-connection"},
    "spec": {"managementInfo": {"connectorUrl": "https://connector", "directorUrl": "https://director"}},
    "status": {
        "connectionState": "ResourceApplicationFailed",
        "connectionStatus": {
            "certificateStatus": {
                "notBefore": "2020-01-01T00:00:00Z",
                "notAfter": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 10.5 * 86400)),
            },
        },
        "synchronizationStatus": {"lastSuccessfulApplication": "2020-01-02T00:00:00Z"},
        "runtime": {"id": "the-runtime", "tenant": "the-tenant"},
        "applications": {"desired": 3, "synced": 2, "failed": 1, "failing": ["mp-one"]},
        "conditions": [{"type": "Ready", "status": "False", "reason": "X", "message": "what failed"}],
    },
}
ENTRY = {"type": "API", "name": "orders", "credentials": {"type": "OAuth", "secretName": "the-secret"}}
MANAGED: Object = {
    "kind": "Application",
    "metadata": {"name": "mp-one", "annotations": {SYNC_STATUS: "SecretsFailed"}},
    "spec": {
        "description": "of a test",
        "compassMetadata": {"applicationId": "the-id", "authentication": {"clientIds": ["a", "b"]}},
        "services": [{"displayName": "bundle", "entries": [ENTRY, {"type": "Events", "name": "changed"}]}],
    },
}


def sections(file: Path) -> dict[str, Any]:
    return {name: yaml.safe_load(text) for name, text in yaml.safe_load(file.read_text())["data"].items()}


def components(part: Any) -> Iterator[Object]:
    """All of a list of components, children included."""
    for component in part:
        yield component
        for key in ("children", "collapsible"):
            yield from components(component.get(key, ()))


def shown(file: Path) -> list[Object]:
    data = sections(file)
    details = data["details"]
    return list(components([*data["list"], *details["header"], *details["body"]]))


def named(file: Path, section: str, name: str) -> str:
    """The expression of the component with that name."""
    data = sections(file)
    parts = data["list"] if section == "list" else [*data["details"]["header"], *data["details"]["body"]]
    source: str = next(part["source"] for part in components(parts) if part.get("name") == name)
    return source


def evaluate(expression: str, document: Object, **variables: object) -> Any:
    compiled = Jsonata(expression)
    for name, value in variables.items():
        compiled.assign(name, value)
    return compiled.evaluate(document)


def expressions(component: Object) -> Iterator[str]:
    """All that Busola hands to JSONata."""
    highlights = [rule for rule in component.get("highlights", {}).values() if isinstance(rule, str)]
    resource = list(component.get("resource", {}).values())
    keys = ("source", "visibility", "filter", "collapsibleTitle")
    yield from [component[key] for key in keys if isinstance(component.get(key), str)] + highlights + resource
    if component.get("widget") == "Badge" and "description" in component:
        yield component["description"]


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_busola_finds_the_extension(file: Path) -> None:
    """By its labels, in a namespace that everybody may read; the kind is the one that the agent works on."""
    config_map = yaml.safe_load(file.read_text())
    assert config_map["metadata"]["namespace"] == "kube-public"
    assert config_map["metadata"]["labels"]["busola.io/extension"] == "resource"
    assert config_map["metadata"]["labels"]["busola.io/extension-version"] == "0.5"
    general = sections(file)["general"]
    kind = KINDS[file.stem]
    assert general["resource"] == {"kind": kind.kind, "group": kind.group, "version": kind.version}
    assert general["scope"] == "cluster"


def test_every_expression_is_jsonata(file: Path) -> None:
    for component in shown(file):
        for expression in expressions(component):
            Jsonata(expression)


def test_every_field_shown_is_in_the_crd(file: Path) -> None:
    """Each field that a plain path names; with a typo the page would show nothing."""
    crd = yaml.safe_load((CONFIG / "crd" / f"{CRDS[file.stem]}.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    paths = [one["source"] for one in shown(file) if re.fullmatch(r"(spec|status)(\.\w+)+", one.get("source", ""))]
    assert paths
    for path in paths:
        fields = schema
        for step in path.split("."):
            assert step in fields["properties"], path
            fields = fields["properties"][step]


def test_every_state_has_a_colour() -> None:
    (file,) = [file for file in FILES if file.stem == "compass_connections"]
    badges = [one for one in shown(file) if one.get("source") == "status.connectionState"]
    assert badges
    for badge in badges:
        coloured = [state for states in badge["highlights"].values() for state in states]
        assert sorted(coloured) == sorted(state.value for state in status.ConnectionState)


@pytest.mark.parametrize(
    ("stem", "document", "name", "expected"),
    [
        ("compass_connections", CONNECTION, "State", "ResourceApplicationFailed"),
        ("compass_connections", CONNECTION, "Applications", "2 of 3"),
        ("compass_connections", CONNECTION, "Days until the certificate expires", 10),
        ("compass_connections", {"status": {}}, "Days until the certificate expires", None),
        ("compass_connections", {}, "Applications", None),
        ("applications", MANAGED, "In sync", "SecretsFailed"),
        ("applications", {"metadata": {"name": "x"}}, "In sync", SYNCED),
        ("applications", MANAGED, "Bundles", 1),
        ("applications", {"spec": {}}, "Bundles", 0),
    ],
)
def test_each_column_shows_a_value_of_the_object(stem: str, document: Object, name: str, expected: object) -> None:
    assert evaluate(named(CONFIG / f"busola/{stem}.yaml", "list", name), document) == expected


def test_a_failed_connection_has_an_alert() -> None:
    """The message of the condition Ready is an alert; while all is well there is none."""
    (alert,) = [one for one in shown(CONFIG / "busola/compass_connections.yaml") if one.get("widget") == "Alert"]
    message = evaluate(alert["source"], CONNECTION)
    assert message == "what failed"
    assert evaluate(alert["visibility"], CONNECTION, value=message) is True
    well = {"status": {"conditions": [{"type": "Ready", "status": "True", "message": "fine"}]}}
    assert evaluate(alert["source"], well) is None


def test_only_applications_of_compass_are_listed() -> None:
    """Only those of Compass are listed, and an entry leads to its Secret."""
    file = CONFIG / "busola/applications.yaml"
    link = next(one for one in shown(file) if one.get("widget") == "ResourceLink")
    assert evaluate(link["resource"]["name"], {}, item=ENTRY) == "the-secret"
    assert evaluate(sections(file)["general"]["filter"], {}, item=MANAGED) is True
    assert evaluate(sections(file)["general"]["filter"], {}, item={"spec": {}}) is False


def test_the_form_writes_fields_that_the_crd_has() -> None:
    """What triggers the agent; never a token, which would be seen in the browser."""
    crd = yaml.safe_load((CONFIG / "crd/compassconnections.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]

    def check(fields: list[Object], properties: Object) -> None:
        for field in fields:
            if "path" in field:
                assert field["path"] in properties, field["path"]
                check(field.get("children", []), properties[field["path"]].get("properties", {}))

    form = sections(CONFIG / "busola/compass_connections.yaml")["form"]
    written = [{**field, "path": field["path"].removeprefix("spec.")} for field in form if "path" in field]
    assert written[0]["path"] == "metadata.name"
    check(written[1:], spec["properties"])
    assert {"resyncNow", "refreshCredentialsNow"} == {field["path"] for field in written[1:]}
    assert "token" not in {field["path"] for field in components(form) if "path" in field}
