"""A real kube-apiserver and etcd on a developer's machine, for tests and the demo.

`ControlPlane` runs them; `find_assets` finds, downloads or builds the binaries. The command line is
`python -m e2e.controlplane`.
"""

from e2e.controlplane.apiserver import ApiServer
from e2e.controlplane.assets import Assets, find_assets
from e2e.controlplane.errors import AssetsUnavailable, ControlPlaneError, ManifestError, ServerFailed
from e2e.controlplane.server import ControlPlane

__all__ = [
    "ApiServer",
    "Assets",
    "AssetsUnavailable",
    "ControlPlane",
    "ControlPlaneError",
    "ManifestError",
    "ServerFailed",
    "find_assets",
]
