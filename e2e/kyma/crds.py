"""The CRDs of the agent in Go, told as what they lack of the project's own. Descriptions are left out."""

import copy
from typing import Any

import yaml

from e2e.world import OWN_CRDS

Object = dict[str, Any]

_ADDED_TO_SPEC = ("pairing",)
_ADDED_TO_STATUS = ("conditions", "observedGeneration", "runtime", "applications")


def go_agent_crds() -> list[Object]:
    """Both CustomResourceDefinitions as Kyma's operator applies them."""
    return [_applications(), _compass_connections()]


def _applications() -> Object:
    crd, _ = _plain("applications.yaml")
    return crd


def _compass_connections() -> Object:
    """No status subresource, no names for short, nothing that the agent in Go does not write."""
    crd, schema = _plain("compassconnections.yaml")
    del crd["spec"]["names"]["shortNames"]
    spec, status = schema["properties"]["spec"], schema["properties"]["status"]
    for name in _ADDED_TO_SPEC:
        del spec["properties"][name]
    for name in _ADDED_TO_STATUS:
        del status["properties"][name]
    spec["required"] = ["managementInfo"]
    status["required"] = ["connectionState", "connectionStatus"]
    return crd


def _plain(file: str) -> tuple[Object, Object]:
    """An own CRD without subresources, columns and rules; and its schema, to be changed in place."""
    crd: Object = yaml.safe_load((OWN_CRDS / file).read_text())
    (version,) = crd["spec"]["versions"]
    version.pop("subresources", None)
    version.pop("additionalPrinterColumns", None)
    schema: Object = copy.deepcopy(version["schema"]["openAPIV3Schema"])
    _strip(schema)
    version["schema"]["openAPIV3Schema"] = schema
    return crd, schema


def _strip(schema: Object) -> None:
    """Take descriptions, rules and limits away that only the project's own CRDs have."""
    for name in ("description", "x-kubernetes-validations"):
        if isinstance(schema.get(name), str | list):
            del schema[name]
    for part in schema.get("properties", {}).values():
        _strip(part)
    if isinstance(schema.get("items"), dict):
        _strip(schema["items"])
