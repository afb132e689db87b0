"""A real control plane on the loopback: etcd and kube-apiserver, nothing else.

- Ready in seconds; RBAC is on; every user is a client certificate signed by an authority of its own.
- Servers and their files are gone when the owner stops it, and also when the owner is killed.
- No controller manager runs: nothing collects garbage, and a deleted namespace stays in phase Terminating.
- Made to be hurt: the API server can be killed and started again on the same port, run twice, and lose its history.
"""

import base64
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
import yaml

from e2e.controlplane.assets import find_assets
from e2e.controlplane.process import ControlPlaneError
from e2e.controlplane.servers import REQUEST_SECONDS, ApiServer, Credentials, Etcd

ADMIN_GROUPS = ("system:masters",)
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_SERVED_SECONDS = 30.0
_POLL_SECONDS = 0.05

Manifest = dict[str, Any]


class ControlPlane:
    """etcd and kube-apiserver, from the beginning of a `with` block to its end.

    `assets`: the binaries in use; `apiserver`: the first API server.
    """

    def __init__(self, *, apiserver_flags: Sequence[str] = ()) -> None:
        """`apiserver_flags` come after the own ones and so win."""
        self._flags = tuple(apiserver_flags)

    def __enter__(self) -> Self:
        """Returns when both servers are ready. Raises AssetsUnavailable, ControlPlaneError."""
        self.assets = find_assets()
        with ExitStack() as stack:
            folder = tempfile.TemporaryDirectory(prefix="controlplane-", ignore_cleanup_errors=True)
            self._directory = Path(stack.enter_context(folder))
            self._credentials = Credentials(self._directory)
            self._etcd = Etcd(self.assets.etcd, self._directory)
            stack.callback(self._etcd.close)
            self._etcd.start()
            self._apiservers: list[ApiServer] = []
            stack.callback(self._close_apiservers)
            self.apiserver = self._add_apiserver()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ends every server and removes their files."""
        self._stack.close()

    def _close_apiservers(self) -> None:
        for server in self._apiservers:
            server.close()

    @property
    def url(self) -> str:
        """Of the first API server."""
        return self.apiserver.url

    @property
    def ca_pem(self) -> bytes:
        """The certificate of the authority that signs servers and users."""
        return self._credentials.authority.certificate_pem

    def kubeconfig(
        self, user: str = "admin", groups: Sequence[str] = ADMIN_GROUPS, *, server: ApiServer | None = None
    ) -> str:
        """A kubeconfig for a user with these groups; with no groups the user may do what RBAC grants by name."""
        pair = self._credentials.authority.client(user, groups)
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "controlplane",
                    "cluster": {
                        "server": (server or self.apiserver).url,
                        "certificate-authority-data": base64.b64encode(self.ca_pem).decode(),
                    },
                }
            ],
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate-data": base64.b64encode(pair.certificate_pem).decode(),
                        "client-key-data": base64.b64encode(pair.key_pem).decode(),
                    },
                }
            ],
            "contexts": [{"name": "controlplane", "context": {"cluster": "controlplane", "user": user}}],
            "current-context": "controlplane",
        }
        text: str = yaml.safe_dump(config, sort_keys=False)
        return text

    def write_kubeconfig(
        self,
        path: Path | str,
        *,
        user: str = "admin",
        groups: Sequence[str] = ADMIN_GROUPS,
        server: ApiServer | None = None,
    ) -> Path:
        """kubeconfig() as a file that only its owner can read."""
        target = Path(path)
        target.touch(mode=0o600)
        target.write_text(self.kubeconfig(user, groups, server=server))
        return target

    def kill_apiserver(self) -> None:
        """SIGKILL the first API server: connections are reset, new ones refused."""
        self.apiserver.kill()

    def start_apiserver(self) -> None:
        """Start the first API server again, on the same port and data. Raises ServerFailed."""
        self.apiserver.start()

    def start_second_apiserver(self) -> ApiServer:
        """Another API server on the same etcd, on a port of its own; it ends with the control plane."""
        return self._add_apiserver()

    def compact(self) -> int:
        """Let etcd forget every revision before the current one; returns the current one.

        An API server still serves the events in its watch cache: a watch that missed events meets 410 only when the
        API server was started after them, or runs with `--watch-cache=false`.
        """
        return self._etcd.compact()

    def back_up(self, target: Path) -> None:
        """Copy etcd's data to a new folder. All API servers are stopped for it, and started again."""
        self._with_stopped_apiservers(lambda etcd: etcd.back_up(target))

    def restore(self, backup: Path) -> None:
        """Replace etcd's data by that of back_up(), as after a disaster. All API servers are stopped meanwhile.

        resourceVersions go back too, so a version that a client has seen may be in the future.
        """
        self._with_stopped_apiservers(lambda etcd: etcd.restore(backup))

    def _with_stopped_apiservers(self, action: Callable[[Etcd], None]) -> None:
        for server in self._apiservers:
            server.stop()
        action(self._etcd)
        for server in self._apiservers:
            server.start()

    def apply_crds(self, path: Path | str) -> None:
        """Apply the CRDs of a file or folder, and wait until they are served. Raises ControlPlaneError."""
        crds = _read_crds(Path(path))
        with self.apiserver.session() as session:
            for crd in crds:
                _apply_crd(session, self.url, crd)
            deadline = time.monotonic() + _SERVED_SECONDS
            for crd in crds:
                while not _is_served(session, self.url, crd):
                    if time.monotonic() > deadline:
                        raise ControlPlaneError(f"{crd['metadata']['name']} is not served")
                    time.sleep(_POLL_SECONDS)

    def create_namespace(self, name: str) -> None:
        """Create a namespace. Raises ControlPlaneError when the API server refuses it."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        with self.apiserver.session() as session:
            answer = session.post(f"{self.url}/api/v1/namespaces", json=body, timeout=REQUEST_SECONDS)
        if not answer.ok:
            raise ControlPlaneError(f"namespace {name}: {answer.json().get('message', answer.reason)}")

    def _add_apiserver(self) -> ApiServer:
        number = len(self._apiservers) + 1
        server = ApiServer(
            self.assets.kube_apiserver,
            self._directory,
            self._credentials,
            name="kube-apiserver" if number == 1 else f"kube-apiserver-{number}",
            etcd_url=self._etcd.url,
            flags=self._flags,
        )
        self._apiservers.append(server)
        server.start()
        return server


def _read_crds(path: Path) -> list[Manifest]:
    """Every CustomResourceDefinition in a YAML file or a folder of them; other kinds are passed over."""
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    documents = [document for file in files for document in yaml.safe_load_all(file.read_text())]
    return [document for document in documents if document and document["kind"] == "CustomResourceDefinition"]


def _apply_crd(session: requests.Session, url: str, crd: Manifest) -> None:
    name = crd["metadata"]["name"]
    answer = session.patch(
        f"{url}{_CRDS}/{name}",
        params={"fieldManager": "controlplane", "force": "true"},
        data=yaml.safe_dump(crd),
        headers={"Content-Type": "application/apply-patch+yaml"},
        timeout=REQUEST_SECONDS,
    )
    if not answer.ok:
        raise ControlPlaneError(f"{name}: {answer.json().get('message', answer.reason)}")


def _is_served(session: requests.Session, url: str, crd: Manifest) -> bool:
    """Not the condition Established: the API server adds the paths a moment later."""
    spec = crd["spec"]
    paths = [
        f"{url}/apis/{spec['group']}/{version['name']}/{spec['names']['plural']}?limit=1"
        for version in spec["versions"]
        if version["served"]
    ]
    return all(session.get(path, timeout=REQUEST_SECONDS).ok for path in paths)
