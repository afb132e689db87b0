"""Writes the manifests, the Helm chart and the kubectl plugin of a version into a folder."""

import argparse
import os
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from controller.settings import variables
from e2e.controlplane.assets import find_assets
from release import plugin
from release.archives import tar_gz
from release.chart import NAME, chart
from release.manifests import ROOT, objects, render


def main() -> int:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    parser.add_argument("--version", default=project["version"], help="has to be the one of pyproject.toml")
    parser.add_argument("--image", required=True, metavar="NAME", help="where the image is, without a tag")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    version: str = project["version"]
    if options.version != version:
        print(f"error: the version is {version} in pyproject.toml, and {options.version} is asked for", file=sys.stderr)
        return 1
    kubectl = find_assets().kubectl
    options.output.mkdir(parents=True, exist_ok=True)
    manifests = render(kubectl, image=f"{options.image}:{version}", labels={"app.kubernetes.io/version": version})
    apply = f"# {NAME} {version}: kubectl apply --server-side -f"
    write(options.output / "install.yaml", f"{apply} install.yaml\n{manifests}")
    kyma = render(kubectl, "kyma", image=f"{options.image}:{version}")
    write(options.output / "kyma.yaml", f"{apply} kyma.yaml, where Kyma's operator runs\n{kyma}")
    write(options.output / "plugin-roles.yaml", render(kubectl, "plugin", image=f"{options.image}:{version}"))
    write(options.output / "private-ca.yaml", (ROOT / "config/private-ca/patch.yaml").read_text())
    prometheus = objects(render(kubectl, "prometheus", image=f"{options.image}:{version}"))
    files = chart(
        [
            *objects(render(kubectl, image=f"{options.image}:{version}")),
            *(one for one in prometheus if one["kind"] != "PrometheusRule"),  # has templates of its own
        ],
        version=version,
        description=project["description"],
        home=project["urls"]["Source"],
        image=options.image,
        settings=variables(),
    )
    modified = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    path = options.output / f"{NAME}-chart-{version}.tgz"
    write(path, tar_gz({f"{NAME}/{name}": text.encode() for name, text in files.items()}, modified=modified))
    executable = plugin.executable(version, modified=modified)
    write(options.output / plugin.COMMAND, executable)
    (options.output / plugin.COMMAND).chmod(0o755)
    krew = plugin.archive(executable, modified=modified)
    path = options.output / f"{plugin.COMMAND}-{version}.tar.gz"
    write(path, krew)
    home = project["urls"]["Source"]
    url = f"{home}/releases/download/v{version}/{path.name}"
    write(options.output / "compass.yaml", plugin.krew_manifest(krew, version=version, home=home, url=url))
    return 0


def write(path: Path, content: str | bytes) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    print(path)


if __name__ == "__main__":
    sys.exit(main())
