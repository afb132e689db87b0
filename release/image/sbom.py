"""Lists what is in the image as CycloneDX JSON, inside the image: `python sbom.py /app/venv /rootfs VERSION`.

Python packages are read from the records that pip has left in the virtual environment, Debian packages from those that
rootfs.py has copied. The same image gives the same list, byte by byte: it holds no time and no random number.
"""

import json
import sys
from collections.abc import Iterator
from email.parser import HeaderParser
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

PLACE = Path("usr/share/sbom/compass-runtime-agent.cdx.json")
STATUS = Path("var/lib/dpkg/status.d")

Component = dict[str, Any]


def main(environment: Path, root: Path, version: str) -> None:
    components = sorted([*_python(environment), *_debian(root / STATUS)], key=lambda one: str(one["purl"]))
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": "compass-runtime-agent", "version": version}},
        "components": components,
    }
    target = root / PLACE
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(bom, indent=2) + "\n")


def _python(environment: Path) -> Iterator[Component]:
    (packages,) = environment.glob("lib/python*/site-packages")
    for distribution in distributions(path=[str(packages)]):
        name, version = distribution.metadata["Name"], distribution.version
        component = _component(name, version, f"pkg:pypi/{name.lower().replace('_', '-')}@{version}")
        if "License-Expression" in distribution.metadata:
            component["licenses"] = [{"expression": distribution.metadata["License-Expression"]}]
        yield component


def _debian(records: Path) -> Iterator[Component]:
    for record in records.iterdir():
        fields = HeaderParser().parsestr(record.read_text())
        name, version, architecture = fields["Package"], fields["Version"], fields["Architecture"]
        yield _component(name, version, f"pkg:deb/debian/{name}@{version}?arch={architecture}")


def _component(name: str, version: str, purl: str) -> Component:
    return {"type": "library", "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
