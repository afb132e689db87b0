"""Where the command helm comes from: $HELM, $PATH, the project's cache, or a build that fills the cache.

`python -m release.helm` does that and prints the path.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from e2e.controlplane import build
from e2e.controlplane.assets import default_cache
from e2e.controlplane.progress import Report, to_stderr

VERSION = "v3.22.0"
PACKAGE = "helm.sh/helm/v3/cmd/helm"


def find_helm(*, environ: Mapping[str, str] = os.environ, report: Report = to_stderr) -> Path:
    """The command helm, of version 3. Raises SourceFailed when it is not there and cannot be built."""
    found = environ.get("HELM") or shutil.which("helm", path=environ.get("PATH", ""))
    if found:
        return Path(found)
    cache = default_cache(environ).parent / "helm"
    helm = cache / VERSION / "helm"
    with _lock(cache, report):
        if not helm.exists():
            report(f"building helm {VERSION}: some minutes on 2 cores, once on this machine")
            build.install(f"{PACKAGE}@{VERSION}", helm.parent, report, cache=default_cache(environ), environ=environ)
    return helm


@contextlib.contextmanager
def _lock(cache: Path, report: Report) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another process is getting helm; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    print(find_helm())
