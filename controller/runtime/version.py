"""Version and commit of this build."""

import os
from importlib.metadata import version

# The image sets both in its environment.
VERSION = os.environ.get("BUILD_VERSION") or version("compass-runtime-agent")
COMMIT = os.environ.get("BUILD_REVISION") or "unknown"
