"""What `kubectl get cc` shows: which state, why, how many Applications, since when."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from controller.connection import status as cc
from controller.resources import COMPASS_CONNECTION, CONNECTION_NAME
from e2e.controlplane import ControlPlane
from e2e.world import OWN_CRDS
from informers import Client


@pytest.fixture
def cluster(control_plane: ControlPlane) -> ControlPlane:
    control_plane.apply_crds(OWN_CRDS)
    return control_plane


def columns(cluster: ControlPlane, directory: Path, connection: dict[str, Any]) -> dict[str, str]:
    """Of this object, by their heads."""
    kubeconfig = cluster.write_kubeconfig(directory / "kubeconfig")
    client = Client.load(str(kubeconfig))
    connection |= {"apiVersion": COMPASS_CONNECTION.api_version, "kind": COMPASS_CONNECTION.kind}
    connection["metadata"] = {"name": CONNECTION_NAME}
    stored = client.create(COMPASS_CONNECTION, connection)
    client.update(COMPASS_CONNECTION, stored | {"status": connection["status"]}, subresource="status")
    command = [str(cluster.assets.kubectl), "--kubeconfig", str(kubeconfig), "get", "cc"]
    heads, row = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    client.delete(COMPASS_CONNECTION, CONNECTION_NAME)
    client.close()
    names = re.split(r"  +", heads.strip())
    ends = [heads.index(name) for name in names[1:]] + [None]
    return {name: row[heads.index(name) : end].strip() for name, end in zip(names, ends, strict=True)}


def synchronised(**failed: str) -> dict[str, Any]:
    """After a sync of 202 Applications."""
    urls = {"connectorUrl": "https://one", "directorUrl": "https://two"}
    connection: dict[str, Any] = {"spec": {"managementInfo": urls}, "status": {}}
    cc.set_established(connection, at=0.0, last_success=0.0)
    cc.set_synchronized(
        connection,
        fetched_at=0.0,
        now=0.0,
        counts=cc.ApplicationCounts(desired=202, synced=202 - len(failed), failed=failed),
        apply_error=cc.failures_text(failed) if failed else None,
        labels_error=None,
    )
    cc.derive_conditions(connection, now=0.0)
    return connection


def test_a_failure_is_in_the_list(cluster: ControlPlane, tmp_path: Path) -> None:
    """The message is cut, so that the line stays a line; the last sync has a time although three failed."""
    failed = {f"mp-{name}": "denied by a policy of this cluster, " + "x" * 300 for name in "abc"}
    shown = columns(cluster, tmp_path, synchronised(**failed))
    assert shown["STATE"] == "ResourceApplicationFailed"
    assert shown["APPLICATIONS"] == "199/202"
    assert shown["LAST SYNC"] not in ("", "<none>")
    assert shown["MESSAGE"].startswith("mp-a: denied by a policy")
    assert shown["MESSAGE"].endswith("\u2026")
    assert len(shown["MESSAGE"]) <= 80


def test_a_connection_that_works_has_no_message(cluster: ControlPlane, tmp_path: Path) -> None:
    shown = columns(cluster, tmp_path, synchronised())
    assert (shown["STATE"], shown["READY"], shown["APPLICATIONS"]) == ("Synchronized", "True", "202/202")
    assert shown["MESSAGE"] == ""
    assert shown["CERTIFICATE EXPIRES"] == "", "a date without a certificate"
