"""What the benchmarks of the whole agent measure in: a real API server with an audit log, and a mock Compass."""

import compileall
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from controller.applications.conversion import SECRETS_SELECTOR
from controller.resources import APPLICATION, SECRET
from e2e.controlplane import ControlPlane
from e2e.mock_compass.server import MockCompass
from e2e.world import NAMESPACES, OWN_CRDS, World
from tests.support.audit_log import AuditLog

WAIT = 600.0  # seconds; how long anything may take on a busy machine

_PACKAGES = ("controller", "informers", "workqueue")
_ROOT = Path(__file__).parents[2]
_KEPT = ("name", "namespace", "labels", "ownerReferences")

Object = dict[str, Any]


@contextmanager
def measured_world() -> Iterator[tuple[World, AuditLog]]:
    """Nothing is configured and no agent runs.

    The agent's modules are compiled, as those of an installed agent and of the image are, even where
    PYTHONDONTWRITEBYTECODE is set.
    """
    for package in _PACKAGES:
        compileall.compile_dir(_ROOT / package, quiet=1)
    with tempfile.TemporaryDirectory() as folder:
        log = AuditLog(Path(folder), bodies=False)
        with ControlPlane(apiserver_flags=log.flags) as control_plane, MockCompass() as compass:
            control_plane.apply_crds(OWN_CRDS)
            for namespace in NAMESPACES:
                control_plane.create_namespace(namespace)
            world = World(control_plane=control_plane, compass=compass, directory=Path(folder))
            try:
                yield world, log
            finally:
                world.close()


def stored_objects(world: World) -> list[tuple[Object, list[Object]]]:
    """Each Application and its Secrets, as they were before they were created."""
    secrets: dict[str, list[Object]] = {}
    for secret in world.secrets().values():
        secrets.setdefault(secret["metadata"]["labels"]["app"], []).append(_new(secret, SECRET.kind, "v1"))
    return [
        (_new(application, APPLICATION.kind, APPLICATION.api_version), secrets.get(name, []))
        for name, application in world.applications().items()
    ]


def _new(obj: Object, kind: str, api_version: str) -> Object:
    kept = {key: value for key, value in obj["metadata"].items() if key in _KEPT}
    return {**obj, "kind": kind, "apiVersion": api_version, "metadata": kept}


def delete_objects(world: World) -> None:
    """All Applications and their Secrets."""
    world.client.request("DELETE", APPLICATION.path(), timeout=WAIT)
    path = SECRET.path("kyma-system")
    world.client.request("DELETE", path, query={"labelSelector": SECRETS_SELECTOR}, timeout=WAIT)


def cpu_seconds(pid: int) -> float:
    """Seconds that all threads of a process have run so far, by the scheduler's clock."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int, field: str) -> float:
    """A field of /proc/PID/status, such as VmRSS, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024
