"""Where etcd, kube-apiserver and kubectl come from.

Sources, in order: `$KUBEBUILDER_ASSETS`; the project's cache; the official envtest archive; a build from Go modules.
The last two fill the cache, so each happens once on a machine. When two processes ask at once, one works and the other
waits and says so. A folder appears in the cache complete or not at all.
"""

import contextlib
import fcntl
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.controlplane.sources import ARCHIVE_VERSION, BUILD_VERSION, AssetsUnavailable, build, download, report

ENVIRONMENT = "KUBEBUILDER_ASSETS"
_SERVERS = ("etcd", "kube-apiserver")
_KUBECTL = "kubectl"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}  # what the system calls a machine, and what Go calls it


@dataclass(frozen=True)
class Assets:
    """A folder with etcd and kube-apiserver; kubectl is in it, or in $PATH."""

    directory: Path
    kubectl: Path

    @property
    def etcd(self) -> Path:
        return self.directory / "etcd"

    @property
    def kube_apiserver(self) -> Path:
        return self.directory / "kube-apiserver"


def find_assets() -> Assets:
    """From the first source that works. Raises AssetsUnavailable."""
    if given := os.environ.get(ENVIRONMENT):
        return _from_environment(Path(given))
    cache = default_cache()
    archive, built = (cache / f"{version}-{_platform()}" for version in (ARCHIVE_VERSION, BUILD_VERSION))
    if cached := _from_cache(archive, built):
        return cached
    with lock(cache, what="the binaries of the control plane"):
        if cached := _from_cache(archive, built):  # the one that held the lock may have done the work
            return cached
        try:
            return _fetch(archive, lambda directory: download(directory, _platform()))
        except AssetsUnavailable as error:
            report(f"envtest archive: {error}")
        return _fetch(built, lambda directory: build(directory, cache))


@contextlib.contextmanager
def lock(cache: Path, *, what: str) -> Iterator[None]:
    """One process at a time works in the cache. The kernel gives the lock back when its holder dies.

    `what` is being got, as people call it.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"another process is getting {what}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "compass-runtime-agent" / "controlplane"


def _platform() -> str:
    """Like `linux-amd64`."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}-{_MACHINES.get(machine, machine)}"


def _from_environment(directory: Path) -> Assets:
    if missing := _missing(directory, _SERVERS):
        raise AssetsUnavailable(f"${ENVIRONMENT}: {directory} lacks {' and '.join(missing)}")
    kubectl = shutil.which(_KUBECTL, path=f"{directory}{os.pathsep}{os.environ.get('PATH', '')}")
    if kubectl is None:
        raise AssetsUnavailable(f"${ENVIRONMENT}: {directory} lacks kubectl, and so does $PATH")
    return Assets(directory, Path(kubectl))


def _from_cache(*directories: Path) -> Assets | None:
    complete = (directory for directory in directories if not _missing(directory, [*_SERVERS, _KUBECTL]))
    directory = next(complete, None)
    return None if directory is None else Assets(directory, directory / _KUBECTL)


def _fetch(final: Path, fill: Callable[[Path], None]) -> Assets:
    """Runs with the lock held, so whatever lies around half done is a dead process's."""
    partial = final.with_name(f"{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        fill(partial)
        if missing := _missing(partial, [*_SERVERS, _KUBECTL]):
            raise AssetsUnavailable(f"there is no {' and no '.join(missing)} in {final.name}")
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    report(f"etcd, kube-apiserver and kubectl are in {final}")
    return Assets(final, final / _KUBECTL)


def _missing(directory: Path, names: Sequence[str]) -> list[str]:
    return [name for name in names if not os.access(directory / name, os.X_OK)]
