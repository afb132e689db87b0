"""Where etcd, kube-apiserver and kubectl come from.

Sources, in order: `$KUBEBUILDER_ASSETS`; the project's cache; the official envtest archive; a build from Go modules.
The last two fill the cache, so each happens once on a machine. When two processes ask at once, one works and the other
waits and says so. A folder appears in the cache complete or not at all.
"""

import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from e2e.controlplane import build, download
from e2e.controlplane.cache_lock import lock
from e2e.controlplane.errors import AssetsUnavailable, SourceFailed
from e2e.controlplane.progress import Report, to_stderr

ENVIRONMENT = "KUBEBUILDER_ASSETS"
SERVERS = ("etcd", "kube-apiserver")
KUBECTL = "kubectl"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What the system calls a machine, and what Go and Kubernetes call it."""


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


def find_assets(
    *,
    environ: Mapping[str, str] = os.environ,
    cache: Path | None = None,
    sources: Sequence[Source] | None = None,
    report: Report = to_stderr,
) -> Assets:
    """The first source that works. `cache` and `sources` default to the project's own.

    Raises AssetsUnavailable, which names each source and why it did not work.
    """
    cache = cache or default_cache(environ)
    sources = default_sources(cache) if sources is None else sources
    failures: list[str] = []
    try:
        return _from_environment(environ)
    except SourceFailed as error:
        failures.append(f"${ENVIRONMENT}: {error}")
        if ENVIRONMENT in environ:
            report(f"passing over ${ENVIRONMENT}: {error}")
    if assets := _from_cache(cache, sources):
        return assets
    failures.append(f"cache: nothing complete in {cache}")
    try:
        with lock(cache, report, what="the binaries of the control plane"):
            # The one that held the lock may have done the work.
            if assets := _from_cache(cache, sources):
                return assets
            for source in sources:
                try:
                    return _fetch(source, cache, report)
                except SourceFailed as error:
                    report(f"{source.name}: {error}")
                    failures.append(f"{source.name}: {error}")
    except OSError as error:
        failures.append(f"writing to the cache: {error}")
    raise AssetsUnavailable(
        "no source gave etcd, kube-apiserver and kubectl:\n" + "\n".join(f"  - {failure}" for failure in failures)
    )


def default_cache(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "compass-runtime-agent" / "controlplane"


def default_sources(cache: Path) -> list[Source]:
    return [
        Source("envtest archive", download.VERSION, partial(download.fetch, platform_name=platform_name())),
        Source("build from Go modules", build.VERSION, partial(build.fetch, cache=cache)),
    ]


def platform_name() -> str:
    """Like `linux-amd64`."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}-{MACHINES.get(machine, machine)}"


def _from_environment(environ: Mapping[str, str]) -> Assets:
    value = environ.get(ENVIRONMENT)
    if not value:
        raise SourceFailed("not set")
    directory = Path(value)
    if missing := _missing(directory, SERVERS):
        raise SourceFailed(f"{directory} lacks {' and '.join(missing)}")
    in_path = shutil.which(KUBECTL, path=environ.get("PATH", ""))
    if not _missing(directory, [KUBECTL]):
        return Assets(directory, directory / KUBECTL)
    if in_path is None:
        raise SourceFailed(f"{directory} lacks kubectl, and so does $PATH")
    return Assets(directory, Path(in_path))


def _from_cache(cache: Path, sources: Sequence[Source]) -> Assets | None:
    for source in sources:
        directory = _cached(cache, source)
        if not _missing(directory, [*SERVERS, KUBECTL]):
            return Assets(directory, directory / KUBECTL)
    return None


def _fetch(source: Source, cache: Path, report: Report) -> Assets:
    """Runs with the lock held, so whatever lies around half done is a dead process's."""
    final = _cached(cache, source)
    partial_folder = final.with_name(f"{final.name}.partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir()
    try:
        source.fetch(partial_folder, report)
        if missing := _missing(partial_folder, [*SERVERS, KUBECTL]):
            raise SourceFailed(f"gave no {' and no '.join(missing)}")
        if final.exists():
            shutil.rmtree(final)
        partial_folder.rename(final)
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
    report(f"{source.name}: etcd, kube-apiserver and kubectl are in {final}")
    return Assets(final, final / KUBECTL)


def _cached(cache: Path, source: Source) -> Path:
    return cache / f"{source.version}-{platform_name()}"


def _missing(directory: Path, names: Sequence[str]) -> list[str]:
    return [name for name in names if not _executable(directory / name)]


def _executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
