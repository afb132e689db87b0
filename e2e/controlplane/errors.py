"""What can go wrong with a local control plane.

ControlPlaneError
├── AssetsUnavailable   no source gave the binaries; names each source and its reason
├── SourceFailed        one source of binaries did not work; the next one is tried
├── ServerFailed         etcd or kube-apiserver did not become ready, or ended; carries the end of its log
└── ManifestError       a CustomResourceDefinition cannot be read or is refused by the API server
"""


class ControlPlaneError(Exception):
    """Base of every error that this package raises."""


class AssetsUnavailable(ControlPlaneError):
    """No source gave etcd, kube-apiserver and kubectl."""


class SourceFailed(ControlPlaneError):
    """One source of binaries did not work; the text is the reason."""


class ServerFailed(ControlPlaneError):
    """A server was not ready in time, or ended by itself."""


class ManifestError(ControlPlaneError):
    """A manifest cannot be read, or the API server refuses it."""
