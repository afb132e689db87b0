"""The agent as a process, a real API server, and a mock Compass of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.controlplane import ControlPlane
from e2e.mock_compass.server import MockCompass
from e2e.world import World
from tests.support.crd_sets import CRD_SETS, control_plane_with, crd_set


@pytest.fixture(scope="module", params=CRD_SETS)
def crds(request: pytest.FixtureRequest) -> Path:
    """Both sets of CRDs: the one with a status subresource, and the one that clusters have today."""
    return crd_set(request.param)


@pytest.fixture(scope="module")
def cluster(crds: Path) -> Iterator[ControlPlane]:
    """A control plane for one module, since there is one CompassConnection to a cluster."""
    with control_plane_with(crds) as control_plane:
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
