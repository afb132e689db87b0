"""A real control plane on the loopback: etcd and kube-apiserver, nothing else.

- Ready in seconds; RBAC is on; every user is a client certificate signed by an authority of its own.
- Servers and their files are gone when the owner stops it, and also when the owner is killed.
- No controller manager runs: nothing collects garbage, and a deleted namespace stays in phase Terminating.
- Made to be hurt: the API server can be killed and started again on the same port, run twice, and lose its history.
"""

import base64
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from e2e.controlplane.apiserver import REQUEST_SECONDS, ApiServer, Credentials
from e2e.controlplane.assets import Assets, find_assets
from e2e.controlplane.crds import apply_crds
from e2e.controlplane.errors import ControlPlaneError
from e2e.controlplane.etcd import Etcd

ADMIN_GROUPS = ("system:masters",)


class ControlPlane:
    """etcd and kube-apiserver, started by `start()` or `with`, ended by `stop()` or the end of the block."""

    KUBECONFIG_HEADER = "# of a local control plane"
    """First line of every kubeconfig written here, which tells it from a person's own."""

    def __init__(self, assets: Assets | None = None, *, apiserver_flags: Sequence[str] = ()) -> None:
        """`assets` default to find_assets() at the start; `apiserver_flags` come after the own ones and so win."""
        self._assets = assets
        self._flags = tuple(apiserver_flags)
        self._started = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start both servers and wait until they are ready. Raises AssetsUnavailable, ServerFailed."""
        if self._assets is None:
            self._assets = find_assets()
        # The name of the folder ends with the process, whatever happens: see supervisor.py.
        self._folder = tempfile.TemporaryDirectory(prefix="controlplane-", ignore_cleanup_errors=True)
        directory = Path(self._folder.name)
        self._credentials = Credentials(directory)
        self._etcd = Etcd(self._assets.etcd, directory)
        self._apiservers: list[ApiServer] = []
        self._started = True
        try:
            self._etcd.start()
            self._add_apiserver().start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every server and remove their files. Does nothing when stopped."""
        if not self._started:
            return
        self._started = False
        for server in self._apiservers:
            server.close()
        self._etcd.close()
        self._folder.cleanup()

    @property
    def assets(self) -> Assets:
        """The binaries in use; kubectl is among them."""
        if self._assets is None:
            raise ControlPlaneError("the control plane is not started")
        return self._assets

    @property
    def apiserver(self) -> ApiServer:
        """The first API server."""
        if not self._started:
            raise ControlPlaneError("the control plane is not started")
        return self._apiservers[0]

    @property
    def url(self) -> str:
        return self.apiserver.url

    @property
    def directory(self) -> Path:
        """Certificates, logs and data of the servers; gone after stop()."""
        return Path(self._folder.name)

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
        return f"{self.KUBECONFIG_HEADER}\n{yaml.safe_dump(config, sort_keys=False)}"

    def write_kubeconfig(
        self,
        path: Path | str,
        *,
        user: str = "admin",
        groups: Sequence[str] = ADMIN_GROUPS,
        server: ApiServer | None = None,
    ) -> Path:
        """kubeconfig() as a file that only its owner can read, in place in one step."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
        with os.fdopen(descriptor, "w") as file:
            file.write(self.kubeconfig(user, groups, server=server))
        Path(name).replace(target)
        return target

    def check(self) -> None:
        """Raises ServerFailed, with the end of the log, when a server ended by itself."""
        self._etcd.check()
        for server in self._apiservers:
            server.check()

    def kill_apiserver(self) -> None:
        """SIGKILL the first API server: connections are reset, new ones refused."""
        self.apiserver.kill()

    def start_apiserver(self) -> None:
        """Start the first API server again, on the same port and data. Raises ServerFailed."""
        self.apiserver.start()

    def start_second_apiserver(self) -> ApiServer:
        """Another API server on the same etcd, on a port of its own; it ends with the control plane or by close()."""
        server = self._add_apiserver()
        server.start()
        return server

    def compact(self) -> int:
        """Let etcd forget every revision before the current one; returns the current one.

        An API server still serves the events in its watch cache: a watch that missed events meets 410 only when the
        API server was started after them, or runs with `--watch-cache=false`.
        """
        return self._etcd.compact()

    def apply_crds(self, path: Path | str) -> list[str]:
        """Apply the CustomResourceDefinitions of a file or folder and wait until they are served; returns their names.

        Raises ManifestError.
        """
        with self.apiserver.session() as session:
            return apply_crds(session, self.url, Path(path))

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
            Path(self._folder.name),
            self._credentials,
            name="kube-apiserver" if number == 1 else f"kube-apiserver-{number}",
            etcd_url=self._etcd.url,
            flags=self._flags,
        )
        self._apiservers.append(server)
        return server
