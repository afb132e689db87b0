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
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from e2e.controlplane.sources import ARCHIVE_VERSION, BUILD_VERSION, Report, SourceFailed, build, download

ENVIRONMENT = "KUBEBUILDER_ASSETS"
_SERVERS = ("etcd", "kube-apiserver")
_KUBECTL = "kubectl"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}  # what the system calls a machine, and what Go calls it


class AssetsUnavailable(Exception):
    """No source gave etcd, kube-apiserver and kubectl; names each source and its reason."""


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


@dataclass(frozen=True)
class Source:
    """A way to get all binaries of one Kubernetes version.

    `fetch` puts etcd, kube-apiserver and kubectl into an empty folder, or raises SourceFailed with the reason.
    """

    name: str
    version: str
    fetch: Callable[[Path, Report], None]


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def find_assets(
    *,
    environ: Mapping[str, str] = os.environ,
    cache: Path | None = None,
    sources: Sequence[Source] | None = None,
    report: Report = to_stderr,
) -> Assets:
    """The first source that works. `cache` and `sources` default to the project's own. Raises AssetsUnavailable."""
    cache = cache or default_cache(environ)
    if sources is None:
        sources = [
            Source("envtest archive", ARCHIVE_VERSION, partial(download, platform=platform_name())),
            Source("build from Go modules", BUILD_VERSION, partial(build, cache=cache)),
        ]
    if environ.get(ENVIRONMENT):
        return _from_environment(Path(environ[ENVIRONMENT]), environ)
    if assets := _from_cache(cache, sources):
        return assets
    failures = []
    with lock(cache, report, what="the binaries of the control plane"):
        # The one that held the lock may have done the work.
        if assets := _from_cache(cache, sources):
            return assets
        for source in sources:
            try:
                return _fetch(source, cache, report)
            except SourceFailed as error:
                report(f"{source.name}: {error}")
                failures.append(f"  - {source.name}: {error}")
    raise AssetsUnavailable("\n".join(["no source gave etcd, kube-apiserver and kubectl:", *failures]))


@contextlib.contextmanager
def lock(cache: Path, report: Report, *, what: str) -> Iterator[None]:
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


def default_cache(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "compass-runtime-agent" / "controlplane"


def platform_name() -> str:
    """Like `linux-amd64`."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}-{_MACHINES.get(machine, machine)}"


def _from_environment(directory: Path, environ: Mapping[str, str]) -> Assets:
    if missing := _missing(directory, _SERVERS):
        raise AssetsUnavailable(f"${ENVIRONMENT}: {directory} lacks {' and '.join(missing)}")
    kubectl = shutil.which(_KUBECTL, path=f"{directory}{os.pathsep}{environ.get('PATH', '')}")
    if kubectl is None:
        raise AssetsUnavailable(f"${ENVIRONMENT}: {directory} lacks kubectl, and so does $PATH")
    return Assets(directory, Path(kubectl))


def _from_cache(cache: Path, sources: Sequence[Source]) -> Assets | None:
    for source in sources:
        directory = _cached(cache, source)
        if not _missing(directory, [*_SERVERS, _KUBECTL]):
            return Assets(directory, directory / _KUBECTL)
    return None


def _fetch(source: Source, cache: Path, report: Report) -> Assets:
    """Runs with the lock held, so whatever lies around half done is a dead process's."""
    final = _cached(cache, source)
    partial_folder = final.with_name(f"{final.name}.partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir()
    try:
        source.fetch(partial_folder, report)
        if missing := _missing(partial_folder, [*_SERVERS, _KUBECTL]):
            raise SourceFailed(f"gave no {' and no '.join(missing)}")
        if final.exists():
            shutil.rmtree(final)
        partial_folder.rename(final)
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
    report(f"{source.name}: etcd, kube-apiserver and kubectl are in {final}")
    return Assets(final, final / _KUBECTL)


def _cached(cache: Path, source: Source) -> Path:
    return cache / f"{source.version}-{platform_name()}"


def _missing(directory: Path, names: Sequence[str]) -> list[str]:
    return [name for name in names if not os.access(directory / name, os.X_OK)]
