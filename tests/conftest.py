"""How the tests are spread over processes."""

import os

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling, Scheduling

from tests.support.crd_sets import GO_AGENT


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Tests that share API servers stay together: those of a folder with one set of CRDs. Others share a file."""

    def _split_scope(self, nodeid: str) -> str:
        path, _, test = nodeid.partition("::")
        if not path.startswith("tests/integration/"):
            return path
        return f"{path.rpartition('/')[0]} {GO_AGENT if GO_AGENT in test else ''}"


def pytest_xdist_auto_num_workers() -> int:
    """Three for two cores: the integration tests wait for much of their time."""
    return (os.cpu_count() or 1) * 3 // 2


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Called when tests run in more than one process."""
    return _Scheduling(config, log)
