"""A real kube-apiserver and etcd on a developer's machine, for tests and the demo.

`ControlPlane` runs them; `find_assets` finds, downloads or builds the binaries. The command line is
`python -m e2e.controlplane`.
"""

from e2e.controlplane.assets import Assets, AssetsUnavailable, find_assets
from e2e.controlplane.control_plane import ControlPlane
from e2e.controlplane.process import ControlPlaneError, ServerFailed
from e2e.controlplane.servers import ApiServer

__all__ = [
    "ApiServer",
    "Assets",
    "AssetsUnavailable",
    "ControlPlane",
    "ControlPlaneError",
    "ServerFailed",
    "find_assets",
]
