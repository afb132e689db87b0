"""Where the scenarios run: ``--target local`` (the default), ``kind``, or ``cluster``, that of $KUBECONFIG."""

import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from e2e.scenarios.artifacts import save
from e2e.scenarios.local import LocalStage
from e2e.scenarios.stage import Stage

ARTIFACTS = Path("artifacts/e2e")

_FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("scenarios")
    group.addoption("--target", choices=("local", "kind", "cluster"), default="local", help="where the agent runs")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One for all scenarios: a cluster takes longer to start than any of them."""
    stage: Stage = LocalStage(tmp_path_factory.mktemp("stage"))
    try:
        yield stage
    finally:
        stage.close()


@pytest.fixture(autouse=True)
def artifacts(request: pytest.FixtureRequest, stage: Stage) -> Iterator[None]:
    """What a failed scenario leaves: logs, Events and objects, in a folder of its name."""
    began = time.time()
    yield
    if request.node.stash.get(_FAILED, False):
        folder = ARTIFACTS / request.config.getoption("--target") / request.node.name
        save(stage, folder, since=began)


@pytest.fixture
def connected(stage: Stage) -> Stage:
    """A paired cluster with the example landscape, all synchronised, whatever ran before."""
    stage.connect()
    return stage
