"""A real API server for every integration test.

One control plane serves the whole session, so a test works in a namespace of its own, or with names of its own for
what is cluster-wide. A test that kills servers or compacts etcd starts a `ControlPlane` of its own.
"""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.controlplane import ControlPlane
from informers.client import Client


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """The session's control plane; started when the first test asks for it. Not to be killed or compacted."""
    with ControlPlane() as running:
        yield running


@pytest.fixture(scope="session")
def admin_kubeconfig(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a kubeconfig with all rights."""
    return control_plane.write_kubeconfig(tmp_path_factory.mktemp("admin") / "kubeconfig")


@pytest.fixture
def admin(admin_kubeconfig: Path) -> Iterator[Client]:
    """The project's API client with all rights."""
    client = Client.load(str(admin_kubeconfig))
    yield client
    client.close()


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    """A new namespace. It is not deleted: without a controller manager it would stay in phase Terminating."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    control_plane.create_namespace(name)
    return name
