"""The two sets of CRDs that the agent has to work on, and a control plane with one of them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.controlplane import ControlPlane
from e2e.world import NAMESPACES, OWN_CRDS

#: The CRDs that clusters of the Go agent have; a folder beside the project's own on the developers' machines.
_GO_AGENT_CRDS = Path(os.environ.get("GO_AGENT_CRDS", Path(__file__).parents[3] / "shared" / "data"))


#: The set with a status subresource, and the one that clusters have today, as parameters of tests.
OWN, GO_AGENT = CRD_SETS = ("own", "go-agent")


def crd_set(name: str) -> Path:
    """The folder of one of `CRD_SETS`; skips the test where it is not."""
    if name == OWN:
        return OWN_CRDS
    if not _GO_AGENT_CRDS.is_dir():
        pytest.skip(f"the CRDs of the Go agent are not in {_GO_AGENT_CRDS}")
    return _GO_AGENT_CRDS


@contextmanager
def control_plane_with(crds: Path, *, apiserver_flags: Sequence[str] = ()) -> Iterator[ControlPlane]:
    """A control plane that is ready for an agent. There is one CompassConnection to a cluster."""
    with ControlPlane(apiserver_flags=apiserver_flags) as control_plane:
        control_plane.apply_crds(crds)
        for namespace in NAMESPACES:
            control_plane.create_namespace(namespace)
        yield control_plane
