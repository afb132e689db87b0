"""A real API server for every integration test.

One control plane for each set of CRDs serves all tests of a process, so a test works in a namespace of its own, or with
names of its own for what is cluster-wide. A test that kills servers or compacts etcd starts its own `ControlPlane`.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.controlplane import ControlPlane
from e2e.world import OWN_CRDS
from informers.client import Client
from tests.support.audit_log import AuditLog
from tests.support.crd_sets import control_plane_with


@dataclass(frozen=True)
class Servers:
    """A control plane that is ready for an agent, its audit log, and whether the CRDs are the agent's own."""

    control_plane: ControlPlane
    log: AuditLog
    own_crds: bool


ServersWith = Callable[[Path], Servers]


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """The session's control plane; started when the first test asks for it. Not to be killed or compacted."""
    with ControlPlane() as running:
        yield running


@pytest.fixture(scope="session")
def servers_with(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServersWith]:
    """The session's control plane with one of the sets of CRDs; started when a test first asks for it.

    There is one CompassConnection to a cluster, so a test leaves nothing of it behind.
    """
    running: dict[Path, Servers] = {}
    with ExitStack() as stack:

        def with_crds(crds: Path) -> Servers:
            if crds not in running:
                log = AuditLog(tmp_path_factory.mktemp("audit"))
                plane = stack.enter_context(control_plane_with(crds, apiserver_flags=log.flags))
                running[crds] = Servers(plane, log, own_crds=crds == OWN_CRDS)
            return running[crds]

        yield with_crds


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
