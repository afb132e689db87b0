"""The agent as a process, a real API server, and a mock Compass of its own for each test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.controlplane import ControlPlane
from e2e.mock_compass.server import MockCompass
from e2e.world import NAMESPACES, OWN_CRDS, World

#: The CRDs that clusters of the Go agent have; a folder beside the project's own on the developers' machines.
GO_AGENT_CRDS = Path(os.environ.get("GO_AGENT_CRDS", Path(__file__).parents[4] / "shared" / "data"))


@pytest.fixture(scope="module", params=["own", "go-agent"])
def crds(request: pytest.FixtureRequest) -> Path:
    """Both sets of CRDs: the one with a status subresource, and the one that clusters have today."""
    if request.param == "own":
        return OWN_CRDS
    if not GO_AGENT_CRDS.is_dir():
        pytest.skip(f"the CRDs of the Go agent are not in {GO_AGENT_CRDS}")
    return GO_AGENT_CRDS


@pytest.fixture(scope="module")
def cluster(crds: Path) -> Iterator[ControlPlane]:
    """A control plane for one module, since there is one CompassConnection to a cluster."""
    with ControlPlane() as control_plane:
        control_plane.apply_crds(crds)
        for namespace in NAMESPACES:
            control_plane.create_namespace(namespace)
        yield control_plane


@pytest.fixture
def world(cluster: ControlPlane, tmp_path: Path) -> Iterator[World]:
    with MockCompass() as compass:
        world = World(control_plane=cluster, compass=compass, directory=tmp_path)
        world.reset()
        try:
            yield world
        finally:
            world.close()
