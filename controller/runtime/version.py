"""Version and commit of this build."""

import os
import subprocess
from importlib.metadata import version
from pathlib import Path

_SOURCE = Path(__file__).parents[2]
_UNKNOWN = "unknown"


def _commit_of_source() -> str:
    """The checked-out commit, if the program runs from its sources."""
    if not (_SOURCE / ".git").exists():
        return _UNKNOWN
    command = ["git", "-C", str(_SOURCE), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=5).stdout.strip()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return _UNKNOWN


# The image sets both in its environment.
VERSION = os.environ.get("BUILD_VERSION") or version("compass-runtime-agent")
COMMIT = os.environ.get("BUILD_REVISION") or _commit_of_source()
