"""A real kube-apiserver and etcd on a developer's machine, for tests and the demo.

`ControlPlane` runs them; `find_assets` finds, downloads or builds the binaries.
"""

from e2e.controlplane.assets import find_assets
from e2e.controlplane.control_plane import ControlPlane
from e2e.controlplane.process import ControlPlaneError
from e2e.controlplane.sources import AssetsUnavailable

__all__ = ["AssetsUnavailable", "ControlPlane", "ControlPlaneError", "find_assets"]
