"""Installing CustomResourceDefinitions."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests
import yaml

from e2e.controlplane.errors import ManifestError

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SERVED_SECONDS = 30.0
POLL_SECONDS = 0.05
REQUEST_SECONDS = 10.0


Manifest = dict[str, Any]


def read_crds(path: Path) -> list[Manifest]:
    """Every CustomResourceDefinition in `path`, a YAML file or a folder of them; other kinds are passed over.

    Raises ManifestError when there is none or something cannot be read.
    """
    crds = [crd for file in _files(path) for crd in _read(file)]
    if not crds:
        raise ManifestError(f"{path}: no CustomResourceDefinition in it")
    return crds


def apply_crds(session: requests.Session, url: str, crds: Sequence[Manifest]) -> list[str]:
    """Apply CustomResourceDefinitions and wait until all are established and served; returns their names.

    Raises ManifestError.
    """
    for crd in crds:
        _apply(session, url, crd)
    deadline = time.monotonic() + SERVED_SECONDS
    for crd in crds:
        while reason := _not_served(session, url, crd):
            if time.monotonic() > deadline:
                raise ManifestError(f"{_name(crd)}: not served after {SERVED_SECONDS:.0f} s: {reason}")
            time.sleep(POLL_SECONDS)
    return [_name(crd) for crd in crds]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix in {".yaml", ".yml"})
    return [path]


def _read(path: Path) -> list[Manifest]:
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ManifestError(f"{path}: {error}") from error
    found = [doc for doc in documents if isinstance(doc, dict) and doc.get("kind") == "CustomResourceDefinition"]
    for doc in found:
        metadata = doc.get("metadata")
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
            raise ManifestError(f"{path}: a CustomResourceDefinition without metadata.name")
    return found


def _name(crd: Manifest) -> str:
    name: str = crd["metadata"]["name"]
    return name


def _apply(session: requests.Session, url: str, crd: Manifest) -> None:
    answer = session.patch(
        f"{url}{CRDS}/{_name(crd)}",
        params={"fieldManager": "controlplane", "force": "true"},
        data=yaml.safe_dump(crd),
        headers={"Content-Type": "application/apply-patch+yaml"},
        timeout=REQUEST_SECONDS,
    )
    if not answer.ok:
        raise ManifestError(f"{_name(crd)}: {answer.json().get('message', answer.reason)}")


def _not_served(session: requests.Session, url: str, crd: Manifest) -> str:
    """Why the CRD is not served yet; empty when it is.

    Established alone is not enough: the API server adds the paths a moment later.
    """
    stored = session.get(f"{url}{CRDS}/{_name(crd)}", timeout=REQUEST_SECONDS).json()
    conditions = {condition["type"]: condition for condition in stored.get("status", {}).get("conditions") or []}
    for kind in ("NamesAccepted", "Established"):
        condition = conditions.get(kind, {"status": "Unknown", "message": "not reported yet"})
        if condition["status"] != "True":
            return f"{kind} is {condition['status']}: {condition.get('message', '')}"
    spec = stored["spec"]
    for version in spec["versions"]:
        path = f"/apis/{spec['group']}/{version['name']}/{spec['names']['plural']}"
        if version["served"] and not session.get(f"{url}{path}?limit=1", timeout=REQUEST_SECONDS).ok:
            return f"{path} does not answer"
    return ""
