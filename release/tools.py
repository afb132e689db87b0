"""Where commands come from that only a release and its tests need: a variable, $PATH, the cache, or what fills it.

`python -m release.tools` gets all of them and prints their paths.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from e2e.controlplane.assets import default_cache, lock, to_stderr
from e2e.controlplane.sources import Report, SourceFailed, install

HELM = "v3.22.0"

# ruff: noqa: S607 -- apt-get and dpkg-deb are those of $PATH

Fill = Callable[[Path, Report, Mapping[str, str]], None]


def find_helm(*, environ: Mapping[str, str] = os.environ, report: Report = to_stderr) -> Path:
    """The command helm, of version 3: $HELM, or built with Go. Raises SourceFailed."""
    return _find("helm", HELM, _build_helm, environ, report)


def find_promtool(*, environ: Mapping[str, str] = os.environ, report: Report = to_stderr) -> Path:
    """The command promtool: $PROMTOOL, or out of Debian's package prometheus. Raises SourceFailed."""
    return _find("promtool", "debian", _unpack_promtool, environ, report)


def _find(name: str, version: str, fill: Fill, environ: Mapping[str, str], report: Report) -> Path:
    found = environ.get(name.upper()) or shutil.which(name, path=environ.get("PATH", ""))
    if found:
        return Path(found)
    cache = default_cache(environ).parent / name
    command = cache / version / name
    with lock(cache, report, what=name):
        if not command.exists():
            command.parent.mkdir(parents=True, exist_ok=True)
            fill(command, report, environ)
    return command


def _build_helm(command: Path, report: Report, environ: Mapping[str, str]) -> None:
    report(f"building helm {HELM}: some minutes on 2 cores, once on this machine")
    package = f"helm.sh/helm/v3/cmd/helm@{HELM}"
    install(package, command.parent, report, cache=default_cache(environ), environ=environ)


def _unpack_promtool(command: Path, report: Report, environ: Mapping[str, str]) -> None:
    """The package is not installed: it would start a server. The lists of packages are read only if that is needed."""
    folder = command.parent / "package"
    folder.mkdir(exist_ok=True)
    report("getting promtool out of Debian's package prometheus, once on this machine")
    download = ["apt-get", "--quiet", "download", "prometheus"]
    try:
        if subprocess.run(download, cwd=folder, env=environ, check=False, capture_output=True).returncode:
            subprocess.run(["apt-get", "--quiet", "update"], env=environ, check=True, capture_output=True)
            subprocess.run(download, cwd=folder, env=environ, check=True, capture_output=True)
        (package,) = folder.glob("prometheus_*.deb")
        subprocess.run(["dpkg-deb", "--extract", package, folder], env=environ, check=True, capture_output=True)
        (folder / "usr/bin/promtool").rename(command)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        why = error.stderr.decode().strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise SourceFailed(f"no promtool: set $PROMTOOL or install it (it comes with Prometheus): {why}") from error
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    for find in (find_helm, find_promtool):
        print(find())
