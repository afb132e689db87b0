"""The two sets of CRDs that the agent has to work on, and a control plane with one of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from e2e.controlplane import ControlPlane
from e2e.kyma.operator import GO_AGENT_CRDS
from e2e.world import NAMESPACES, OWN_CRDS

#: The set with a status subresource, and the one that clusters of the Go agent have, as parameters of tests.
OWN, GO_AGENT = CRD_SETS = ("own", "go-agent")

_FOLDERS = {OWN: OWN_CRDS, GO_AGENT: GO_AGENT_CRDS}


def crd_set(name: str) -> Path:
    """The folder of one of `CRD_SETS`."""
    return _FOLDERS[name]


@contextmanager
def control_plane_with(crds: Path, *, apiserver_flags: Sequence[str] = ()) -> Iterator[ControlPlane]:
    """A control plane that is ready for an agent. There is one CompassConnection to a cluster."""
    with ControlPlane(apiserver_flags=apiserver_flags) as control_plane:
        control_plane.apply_crds(crds)
        for namespace in NAMESPACES:
            control_plane.create_namespace(namespace)
        yield control_plane
