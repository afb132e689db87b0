"""How the tests are spread over processes, the seed of the mock Compass, and the settings of Hypothesis."""

import os

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling, Scheduling

from e2e.mock_compass.faults import choose_seed
from tests.support.crd_sets import GO_AGENT, OWN

_WITH_CRDS = ("tests/integration/connection/", "tests/integration/sync/")

# An example may take as long as it does: a machine may be slow or busy.
settings.register_profile("unhurried", deadline=None, max_examples=50)
settings.load_profile("unhurried")


def pytest_configure() -> None:
    """Before the worker processes start, which inherit the seed."""
    choose_seed()


def pytest_report_header() -> str:
    return choose_seed()


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Tests that share API servers stay together: with one set of CRDs, or in one folder. Others share a file."""

    def _split_scope(self, nodeid: str) -> str:
        path, _, test = nodeid.partition("::")
        if path.startswith(_WITH_CRDS):
            return GO_AGENT if GO_AGENT in test else OWN
        return path.rpartition("/")[0] if path.startswith("tests/integration/") else path


def pytest_xdist_auto_num_workers() -> int:
    """Four for two cores: the integration tests wait for much of their time."""
    return (os.cpu_count() or 1) * 2


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Called when tests run in more than one process."""
    return _Scheduling(config, log)
