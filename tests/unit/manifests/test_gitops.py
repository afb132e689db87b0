"""The examples for Argo CD and Flux in docs/operations.md name objects and fields that exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from controller.connection import status as cc
from controller.resources import COMPASS_CONNECTION, COMPONENT, CONNECTION_NAME
from controller.settings import Settings

ROOT = Path(__file__).parents[3]
SECTION = (ROOT / "docs/operations.md").read_text().split("\n### GitOps\n", 1)[1].split("\n### ", 1)[0]
BLOCKS = [yaml.safe_load(token.content) for token in MarkdownIt().parse(SECTION) if token.type == "code_block"]

Object = dict[str, Any]


def spec_with(field: str) -> Object:
    (found,) = [block["spec"] for block in BLOCKS if field in block.get("spec", {})]
    assert isinstance(found, dict)
    return found


def version() -> Object:
    crd = yaml.safe_load((ROOT / "config/crd/compassconnections.yaml").read_text())
    (served,) = crd["spec"]["versions"]
    schema: Object = served["schema"]["openAPIV3Schema"]["properties"]
    return schema


def test_the_connection_in_git_is_the_agents_and_has_no_token() -> None:
    (connection,) = [block for block in BLOCKS if block.get("kind") == COMPASS_CONNECTION.kind]
    assert connection["apiVersion"] == COMPASS_CONNECTION.api_version
    assert connection["metadata"]["name"] == CONNECTION_NAME
    schema = version()["spec"]["properties"]["pairing"]
    assert sorted(connection["spec"]["pairing"]) == sorted(schema["required"])


def test_argo_cd_ignores_the_token_of_the_configuration() -> None:
    (ignored,) = spec_with("ignoreDifferences")["ignoreDifferences"]
    assert f"{ignored['namespace']}/{ignored['name']}" == str(Settings().configuration)
    assert ignored["jsonPointers"] == ["/data/TOKEN"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [("Deployment", COMPONENT), (COMPASS_CONNECTION.kind, CONNECTION_NAME)],
    ids=["Deployment", "CR"],
)
def test_flux_waits_for_deployment_and_connection(kind: str, name: str) -> None:
    checks = {check["kind"]: check["name"] for check in spec_with("healthChecks")["healthChecks"]}
    assert checks[kind] == name


def test_the_health_check_reads_fields_of_the_status() -> None:
    (data,) = [block["data"] for block in BLOCKS if "data" in block]
    ((key, lua),) = data.items()
    assert key == f"resource.customizations.health.{COMPASS_CONNECTION.group}_{COMPASS_CONNECTION.kind}"
    status = version()["status"]["properties"]
    assert set(re.findall(r"obj\.status\.(\w+)", lua)) <= status.keys()
    assert set(re.findall(r"condition\.(\w+)", lua)) <= status["conditions"]["items"]["properties"].keys()
    connection: Object = {"metadata": {"generation": 1}}
    cc.derive_conditions(connection, now=0.0)
    asked = set(re.findall(r'condition\.type == "(\w+)"', lua))
    assert asked <= {condition["type"] for condition in connection["status"]["conditions"]}
    assert len(re.findall(r"\b(?:if|for)\b", lua)) == len(re.findall(r"\bend\b", lua))
