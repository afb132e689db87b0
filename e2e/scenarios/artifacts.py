"""What is kept of a scenario that failed. Values of Secrets are not: only their keys and lengths."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from controller.resources import APPLICATION, COMPASS_CONNECTION, CONFIG_MAP, SECRET
from e2e.cluster import NAMESPACES
from e2e.scenarios.target import CommandFailed, Target
from informers import KubernetesError

Object = dict[str, Any]


def save(target: Target, folder: Path, *, since: float) -> None:
    """Write what can be had into the folder; a part that cannot be read is a file that says so. `since`: epoch."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, read in _parts(target).items():
        try:
            text = read()
        except (KubernetesError, CommandFailed, OSError) as error:
            text = f"cannot be read: {error}\n"
        (folder / name).write_text(text)
    began = datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds")
    (folder / "README").write_text(f"The scenario began at {began}.\n")


def _parts(target: Target) -> dict[str, Callable[[], str]]:
    def of(resource: Any, namespace: str | None = None) -> Callable[[], str]:
        return lambda: _yaml(
            [_without_values(obj) for obj in target.client.list(resource, namespace=namespace)["items"]]
        )

    parts = {
        "compassconnections.yaml": of(COMPASS_CONNECTION),
        "applications.yaml": of(APPLICATION),
        "events.yaml": lambda: _yaml(target.events()),
        "lease.txt": lambda: f"holder: {target.lease_holder()}\n",
        "compass-requests.yaml": lambda: _yaml(target.compass.call("GET", "/requests")),
        "pods.txt": lambda: target.kubectl("describe", "pods", "--all-namespaces"),
        "agents.log": lambda: "\n".join(f"--- {name}\n{text}" for name, text in target.logs().items()),
    }
    for namespace in NAMESPACES:
        parts[f"secrets-{namespace}.yaml"] = of(SECRET, namespace)
        parts[f"configmaps-{namespace}.yaml"] = of(CONFIG_MAP, namespace)
    return parts


def _without_values(obj: Object) -> Object:
    """A configuration holds a token, whether in a Secret or in a ConfigMap."""
    kept = {key: f"{len(value)} characters" for key, value in (obj.get("data") or {}).items()}
    return {**obj, "data": kept} if "data" in obj else obj


def _yaml(value: object) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False)
    return text
