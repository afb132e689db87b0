"""Where commands come from that only a release and its tests need: a variable, $PATH, the cache, or what fills it.

`python -m release.tools` gets all of them and prints their paths.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from e2e.controlplane.assets import default_cache, lock
from e2e.controlplane.sources import AssetsUnavailable, install, report

HELM = "v3.22.0"

# ruff: noqa: S607 -- apt-get and dpkg-deb are those of $PATH


def find_helm() -> Path:
    """The command helm, of version 3: $HELM, or built with Go. Raises AssetsUnavailable."""
    return _find("helm", HELM, _build_helm)


def find_promtool() -> Path:
    """The command promtool: $PROMTOOL, or out of Debian's package prometheus. Raises AssetsUnavailable."""
    return _find("promtool", "debian", _unpack_promtool)


def _find(name: str, version: str, fill: Callable[[Path], None]) -> Path:
    found = os.environ.get(name.upper()) or shutil.which(name)
    if found:
        return Path(found)
    cache = default_cache().parent / name
    command = cache / version / name
    with lock(cache, what=name):
        if not command.exists():
            command.parent.mkdir(parents=True, exist_ok=True)
            fill(command)
    return command


def _build_helm(command: Path) -> None:
    report(f"building helm {HELM}: some minutes on 2 cores, once on this machine")
    package = f"helm.sh/helm/v3/cmd/helm@{HELM}"
    install(package, command.parent, default_cache())


def _unpack_promtool(command: Path) -> None:
    """The package is not installed: it would start a server. The lists of packages are read only if that is needed."""
    folder = command.parent / "package"
    folder.mkdir(exist_ok=True)
    report("getting promtool out of Debian's package prometheus, once on this machine")
    download = ["apt-get", "--quiet", "download", "prometheus"]
    try:
        if subprocess.run(download, cwd=folder, check=False, capture_output=True).returncode:
            subprocess.run(["apt-get", "--quiet", "update"], check=True, capture_output=True)
            subprocess.run(download, cwd=folder, check=True, capture_output=True)
        (package,) = folder.glob("prometheus_*.deb")
        subprocess.run(["dpkg-deb", "--extract", package, folder], check=True, capture_output=True)
        (folder / "usr/bin/promtool").rename(command)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        why = error.stderr.decode().strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise AssetsUnavailable(f"no promtool: set $PROMTOOL or install Prometheus: {why}") from error
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    for find in (find_helm, find_promtool):
        print(find())
