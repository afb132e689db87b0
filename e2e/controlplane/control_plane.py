"""A real control plane on the loopback: etcd and kube-apiserver, nothing else.

- Ready in seconds; RBAC is on; every user is a client certificate signed by an authority of its own.
- Servers and their files are gone when the owner stops it, and also when the owner is killed.
- No controller manager runs: nothing collects garbage, and a deleted namespace stays in phase Terminating.
- Made to be hurt: the API server can be killed and started again on the same port, run twice, and lose its history.
"""

import base64
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
import yaml

from e2e.controlplane.assets import Assets, find_assets
from e2e.controlplane.process import ControlPlaneError
from e2e.controlplane.servers import REQUEST_SECONDS, ApiServer, Credentials, Etcd

ADMIN_GROUPS = ("system:masters",)
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_SERVED_SECONDS = 30.0
_POLL_SECONDS = 0.05

Manifest = dict[str, Any]


@dataclass(frozen=True)
class _Run:
    """What exists between start() and stop()."""

    assets: Assets
    folder: tempfile.TemporaryDirectory[str]
    credentials: Credentials
    etcd: Etcd
    apiservers: list[ApiServer] = field(default_factory=list)


class ControlPlane:
    """etcd and kube-apiserver, started by `start()` or `with`, ended by `stop()` or the end of the block."""

    KUBECONFIG_HEADER = "# of a local control plane"
    """First line of every kubeconfig written here, which tells it from a person's own."""

    def __init__(self, assets: Assets | None = None, *, apiserver_flags: Sequence[str] = ()) -> None:
        """`assets` default to find_assets() at the start; `apiserver_flags` come after the own ones and so win."""
        self._assets = assets
        self._flags = tuple(apiserver_flags)
        self._run: _Run | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start both servers and wait until they are ready. Raises AssetsUnavailable, ServerFailed."""
        if self._run is not None:
            raise ControlPlaneError("the control plane is started already")
        assets = self._assets or find_assets()
        folder = tempfile.TemporaryDirectory(prefix="controlplane-", ignore_cleanup_errors=True)
        directory = Path(folder.name)
        self._run = _Run(assets, folder, Credentials(directory), Etcd(assets.etcd, directory))
        try:
            self._run.etcd.start()
            self._add_apiserver().start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every server and remove their files. Does nothing when stopped."""
        if self._run is None:
            return
        for server in self._run.apiservers:
            server.close()
        self._run.etcd.close()
        self._run.folder.cleanup()
        self._run = None

    @property
    def assets(self) -> Assets:
        """The binaries in use; kubectl is among them."""
        return self._running.assets

    @property
    def apiserver(self) -> ApiServer:
        """The first API server."""
        return self._running.apiservers[0]

    @property
    def url(self) -> str:
        """Of the first API server."""
        return self.apiserver.url

    @property
    def directory(self) -> Path:
        """Certificates, logs and data of the servers; gone after stop()."""
        return Path(self._running.folder.name)

    @property
    def ca_pem(self) -> bytes:
        """The certificate of the authority that signs servers and users."""
        return self._running.credentials.authority.certificate_pem

    def kubeconfig(
        self, user: str = "admin", groups: Sequence[str] = ADMIN_GROUPS, *, server: ApiServer | None = None
    ) -> str:
        """A kubeconfig for a user with these groups; with no groups the user may do what RBAC grants by name."""
        pair = self._running.credentials.authority.client(user, groups)
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
        self._running.etcd.check()
        for server in self._running.apiservers:
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
        return self._running.etcd.compact()

    def back_up(self, target: Path) -> None:
        """Copy etcd's data to a new folder. All API servers are stopped for it, and started again."""
        self._with_stopped_apiservers(lambda etcd: etcd.back_up(target))

    def restore(self, backup: Path) -> None:
        """Replace etcd's data by that of back_up(), as after a disaster. All API servers are stopped meanwhile.

        resourceVersions go back too, so a version that a client has seen may be in the future.
        """
        self._with_stopped_apiservers(lambda etcd: etcd.restore(backup))

    def _with_stopped_apiservers(self, action: Callable[[Etcd], None]) -> None:
        run = self._running
        for server in run.apiservers:
            server.stop()
        action(run.etcd)
        for server in run.apiservers:
            server.start()

    def apply_crds(self, path: Path | str) -> list[str]:
        """Apply the CustomResourceDefinitions of a file or folder and wait until they are served; returns their names.

        Raises ControlPlaneError.
        """
        crds = _read_crds(Path(path))
        with self.apiserver.session() as session:
            for crd in crds:
                _apply_crd(session, self.url, crd)
            deadline = time.monotonic() + _SERVED_SECONDS
            for crd in crds:
                while reason := _not_served(session, self.url, crd):
                    if time.monotonic() > deadline:
                        raise ControlPlaneError(f"{crd['metadata']['name']}: {reason}")
                    time.sleep(_POLL_SECONDS)
        return [crd["metadata"]["name"] for crd in crds]

    def create_namespace(self, name: str) -> None:
        """Create a namespace. Raises ControlPlaneError when the API server refuses it."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        with self.apiserver.session() as session:
            answer = session.post(f"{self.url}/api/v1/namespaces", json=body, timeout=REQUEST_SECONDS)
        if not answer.ok:
            raise ControlPlaneError(f"namespace {name}: {answer.json().get('message', answer.reason)}")

    def _add_apiserver(self) -> ApiServer:
        run = self._running
        number = len(run.apiservers) + 1
        server = ApiServer(
            run.assets.kube_apiserver,
            self.directory,
            run.credentials,
            name="kube-apiserver" if number == 1 else f"kube-apiserver-{number}",
            etcd_url=run.etcd.url,
            flags=self._flags,
        )
        run.apiservers.append(server)
        return server

    @property
    def _running(self) -> _Run:
        if self._run is None:
            raise ControlPlaneError("the control plane is not started")
        return self._run


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


def _not_served(session: requests.Session, url: str, crd: Manifest) -> str:
    """Why the CRD is not served yet; empty when it is.

    Established alone is not enough: the API server adds the paths a moment later.
    """
    stored = session.get(f"{url}{_CRDS}/{crd['metadata']['name']}", timeout=REQUEST_SECONDS).json()
    conditions = {condition["type"]: condition for condition in stored.get("status", {}).get("conditions") or []}
    for kind in ("NamesAccepted", "Established"):
        condition = conditions.get(kind, {"status": "Unknown", "message": "not reported yet"})
        if condition["status"] != "True":
            return f"{kind} is {condition['status']}: {condition.get('message', '')}"
    spec = stored["spec"]
    for version in spec["versions"]:
        path = f"/apis/{spec['group']}/{version['name']}/{spec['names']['plural']}"
        if version["served"] and not session.get(f"{url}{path}?limit=1", timeout=REQUEST_SECONDS).ok:
            return f"{path} does not answer"
    return ""
