"""Where the command helm comes from: $HELM, $PATH, the project's cache, or a build that fills the cache.

`python -m release.helm` does that and prints the path.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from e2e.controlplane import build
from e2e.controlplane.assets import default_cache
from e2e.controlplane.cache_lock import lock
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
    with lock(cache, report, what="helm"):
        if not helm.exists():
            report(f"building helm {VERSION}: some minutes on 2 cores, once on this machine")
            build.install(f"{PACKAGE}@{VERSION}", helm.parent, report, cache=default_cache(environ), environ=environ)
    return helm


if __name__ == "__main__":
    print(find_helm())
