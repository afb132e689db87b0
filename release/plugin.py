"""The kubectl plugin as one file that Python runs, and its manifest for krew.

The file is a zip archive of modules after a first line that names the interpreter. It has nothing that is compiled, so
one file is for all systems and all versions of Python from 3.11.
"""

import hashlib
import io
import time
import zipfile
from collections.abc import Iterator, Mapping
from importlib.metadata import distribution
from typing import Any

import yaml

from release.archives import tar_gz
from release.image.trim import FOLDERS
from release.manifests import ROOT

COMMAND = "kubectl-compass"

_OWN = ("controller", "informers", "kubectl_compass", "workqueue")
_DISTRIBUTIONS = ("kubernetes", "prometheus-client", "pyyaml", "typing-extensions", "urllib3")
_PLATFORMS = ("darwin", "linux")
_SHORT_DESCRIPTION = "Show and repair the connection to Compass"

_MAIN = '''"""`kubectl compass`, or the completion of its command line if the file has that name."""

import sys

if sys.version_info < (3, 11):
    sys.exit("kubectl compass: Python 3.11 or newer is needed; python3 is Python " + sys.version.split()[0])

if sys.argv[0].endswith("kubectl_complete-compass"):
    from kubectl_compass.completion import main
else:
    from kubectl_compass.__main__ import main

sys.exit(main())
'''


def executable(version: str, *, modified: int) -> bytes:
    """The file. The same sources and time (seconds since 1970) give the same bytes."""
    files = {
        "__main__.py": _MAIN.encode(),
        # Where the program reads its version.
        f"compass_runtime_agent-{version}.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: compass-runtime-agent\nVersion: {version}\n".encode()
        ),
        **dict(_own_modules()),
        **dict(_required_modules()),
    }
    zipped = io.BytesIO(b"#!/usr/bin/env python3\n")
    zipped.seek(0, io.SEEK_END)
    with zipfile.ZipFile(zipped, "a", zipfile.ZIP_DEFLATED) as archive:
        for path, data in sorted(files.items()):
            info = zipfile.ZipInfo(path, time.gmtime(modified)[:6])
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return zipped.getvalue()


def archive(plugin: bytes, *, modified: int) -> bytes:
    """What krew installs from: the file and its license."""
    return tar_gz({"LICENSE": (ROOT / "LICENSE").read_bytes(), COMMAND: plugin}, modified=modified, programs={COMMAND})


def krew_manifest(archived: bytes, *, version: str, home: str, url: str) -> str:
    """The manifest of the plugin for krew. `url`: where the archive is."""
    manifest: Mapping[str, Any] = {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "compass"},
        "spec": {
            "version": f"v{version}",
            "homepage": home,
            "shortDescription": _SHORT_DESCRIPTION,
            "description": "Shows the connection of a Kyma cluster to Compass and its Applications, finds problems and "
            "their cures, stores one-time tokens, and asks the Compass Runtime Agent for a synchronisation, a new "
            "certificate or a new pairing.",
            "caveats": "Needs Python 3.11 or newer as python3 in $PATH.",
            "platforms": [
                {
                    "selector": {"matchExpressions": [{"key": "os", "operator": "In", "values": list(_PLATFORMS)}]},
                    "uri": url,
                    "sha256": hashlib.sha256(archived).hexdigest(),
                    "bin": COMMAND,
                    "files": [{"from": name, "to": "."} for name in (COMMAND, "LICENSE")],
                }
            ],
        },
    }
    return yaml.safe_dump(manifest, sort_keys=False)


def _own_modules() -> Iterator[tuple[str, bytes]]:
    for package in _OWN:
        for file in (ROOT / package).rglob("*.py"):
            yield file.relative_to(ROOT).as_posix(), file.read_bytes()


def _required_modules() -> Iterator[tuple[str, bytes]]:
    """With their licenses."""
    for name in _DISTRIBUTIONS:
        for file in distribution(name).files or ():
            is_module = file.suffix == ".py" and not file.as_posix().startswith(FOLDERS)
            if is_module or "licenses" in file.parts:
                yield file.as_posix(), file.read_binary()
