"""The project's fixtures beside what Compass and Kyma have published.

`COMPASS_PUBLISHED_DATA` names a folder with the published schemas and CRDs. They are not part of the project, so
without that variable these tests are not collected. All other tests need the fixtures only.
"""

import os
from pathlib import Path

import pytest

_VARIABLE = "COMPASS_PUBLISHED_DATA"

collect_ignore_glob = [] if _VARIABLE in os.environ else ["test_*.py"]


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder with the published schemas and CRDs."""
    return Path(os.environ[_VARIABLE])
