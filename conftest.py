"""The seed of the mock Compass: one for a run, printed at its beginning, so that a failure can be repeated.

And examples of Hypothesis may take as long as they do: a machine may be slow or busy.
"""

import os
import random

from hypothesis import settings

from e2e.mock_compass.disorder import SEED_VARIABLE


def pytest_configure() -> None:
    """Before other processes of the run are started, which inherit it."""
    os.environ.setdefault(SEED_VARIABLE, str(random.SystemRandom().getrandbits(32)))
    settings.register_profile("unhurried", deadline=None)
    settings.load_profile("unhurried")


def pytest_report_header() -> str:
    return f"mock Compass: {SEED_VARIABLE}={os.environ[SEED_VARIABLE]}"
