"""Removes from a virtual environment what the agent never imports: `python trim.py /app/venv`.

The official client is made of parts, of which the agent imports three, and it requires packages that only the other
parts import. tests/integration/release/test_trimmed.py runs the agent without them.
"""

import re
import shutil
import sys
from importlib.metadata import distributions
from pathlib import Path

FOLDERS = (
    "kubernetes/aio",
    "kubernetes/client/api",
    "kubernetes/client/apis",
    "kubernetes/client/models",
    "kubernetes/config",
    "kubernetes/dynamic",
    "kubernetes/informer",
    "kubernetes/leaderelection",
    "kubernetes/stream",
)
"""In site-packages."""

DISTRIBUTIONS = (
    "aiohappyeyeballs",
    "aiohttp",
    "aiohttp-retry",
    "aiosignal",
    "annotated-types",
    "attrs",
    "charset-normalizer",
    "durationpy",
    "frozenlist",
    "multidict",
    "oauthlib",
    "propcache",
    "pydantic",
    "pydantic-core",
    "python-dateutil",
    "requests-oauthlib",
    "typing-inspection",
    "tzdata",
    "websocket-client",
    "yarl",
)
"""Removed with their records, so that the SBOM and scanners do not name them.

requests imports charset-normalizer for texts without a charset. The agent reads bytes, and needs 3 MiB less without it.
"""


def trim(packages: Path) -> None:
    """Remove them from this site-packages. Raises FileNotFoundError if one is not there: then the list is outdated."""
    for folder in FOLDERS:
        shutil.rmtree(packages / folder)
    found = {re.sub(r"[-_.]+", "-", one.name).lower(): one for one in distributions(path=[str(packages)])}
    if missing := set(DISTRIBUTIONS) - found.keys():
        raise FileNotFoundError(f"not in {packages}: {', '.join(sorted(missing))}")
    for name in DISTRIBUTIONS:
        files = found[name].files or ()
        for top in {file.parts[0] for file in files} - {".."}:
            path = packages / top
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        for script in (file for file in files if file.parts[0] == ".."):
            (packages / script).unlink()


if __name__ == "__main__":
    (found,) = Path(sys.argv[1]).glob("lib/python*/site-packages")
    trim(found)
