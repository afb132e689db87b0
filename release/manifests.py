"""The manifests of config/, rendered by kustomize."""

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

ROOT = Path(__file__).parents[1]
IMAGE = "compass-runtime-agent"
"""The name of the image in config/, which a release replaces."""

_DEVELOPMENT_IMAGE = f"{IMAGE}:dev"
_OVERLAYS = ROOT / "build"
"""Where overlays are put for a moment: kustomize wants relative paths."""


def render(kubectl: Path, folder: str = "default", *, image: str, labels: Mapping[str, str] | None = None) -> str:
    """config/FOLDER as one YAML text, with that image (`NAME:TAG`) and additional labels.

    Raises subprocess.CalledProcessError, with what kustomize says in `stderr`.
    """
    name, _, tag = image.rpartition(":")
    overlay: Object = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"../../config/{folder}"],
        "images": [{"name": IMAGE, "newName": name, "newTag": tag}],
    }
    if labels:
        overlay["labels"] = [{"pairs": dict(labels)}]
    _OVERLAYS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_OVERLAYS, prefix="overlay-") as directory:
        (Path(directory) / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
        command = [str(kubectl), "kustomize", directory]
        rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # kustomize knows the images of Pods, and not that in the expression of config/kyma/policy.yaml.
    return rendered.replace(f'"{_DEVELOPMENT_IMAGE}"', f'"{image}"')


def objects(text: str) -> list[Object]:
    return list(yaml.safe_load_all(text))
