"""Where the scenarios run: `--target local` (the default), `kind`, or `cluster`, that of $KUBECONFIG."""

import json
import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from controller.resources import CONFIG_MAP
from e2e.controlplane import find_assets
from e2e.kyma.go_agent import leave_objects
from e2e.kyma.operator import KymaOperator
from e2e.mock_compass.faults import choose_seed
from e2e.scenarios.artifacts import save
from e2e.scenarios.deployed import AGENT_IMAGE, MOCK_IMAGE, DeployedTarget, Images
from e2e.scenarios.documents import Page
from e2e.scenarios.local import LocalTarget
from e2e.scenarios.target import Target, run
from e2e.world import OWN_CRDS
from informers import NotFound

CONFIG = OWN_CRDS.parent
ARTIFACTS = Path("artifacts/e2e")

_FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("scenarios")
    group.addoption("--target", choices=("local", "kind", "cluster"), default="local", help="where the agent runs")
    group.addoption("--soak-seconds", type=float, default=1800.0, help="how long soak.py takes")
    group.addoption("--soak-seed", type=int, help="of its faults; it prints the one it has used")
    group.addoption("--agent-image", default=AGENT_IMAGE, help="of the agent; with kind it is loaded from Docker")
    group.addoption("--mock-image", default=MOCK_IMAGE, help="of the mock Compass; with kind it is loaded from Docker")


def pytest_report_header() -> str:
    return choose_seed()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One for all scenarios: a cluster takes longer to start than any of them."""
    target = _target(request, tmp_path_factory)
    try:
        yield target
    finally:
        target.close()


def _target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Target:
    options = request.config
    kind = options.getoption("--target")
    if kind == "local":
        return LocalTarget(tmp_path_factory.mktemp("target"))
    images = Images(options.getoption("--agent-image"), options.getoption("--mock-image"))
    kubectl = options.getoption("--kind-kubectl-bin") or find_assets().kubectl
    if kind == "kind":
        cluster = request.getfixturevalue("kind_cluster")  # of pytest-kind, with its options
        for image in (images.agent, images.mock_compass):
            cluster.load_docker_image(image)
        return DeployedTarget(
            kubeconfig=cluster.kubeconfig_path.absolute(),
            kubectl=Path(kubectl),
            images=replace(images, labels=_labels(images.agent)),
            node_shell=partial(_docker_exec, f"{cluster.name}-control-plane"),
            clean_up=options.getoption("--keep-cluster"),
        )
    kubeconfig = os.environ.get("KUBECONFIG")
    if not kubeconfig:
        raise pytest.UsageError("--target cluster: KUBECONFIG does not say which one")
    return DeployedTarget(
        kubeconfig=Path(kubeconfig), kubectl=Path(kubectl), images=images, node_shell=None, clean_up=True
    )


def _docker_exec(container: str, command: str) -> str:
    return run(["docker", "exec", container, "sh", "-c", command])


def _labels(image: str) -> dict[str, str]:
    labels: dict[str, str] = json.loads(
        run(["docker", "image", "inspect", "--format", "{{json .Config.Labels}}", image])
    )
    return labels


@pytest.fixture(autouse=True)
def artifacts(request: pytest.FixtureRequest, target: Target) -> Iterator[None]:
    """What a failed scenario leaves: logs, Events and objects, in a folder of its name."""
    began = time.time()
    yield
    if request.node.stash.get(_FAILED, False):
        folder = ARTIFACTS / request.config.getoption("--target") / request.node.name
        save(target, folder, since=began)


@pytest.fixture
def connected(target: Target) -> Target:
    """A paired cluster with the example landscape, all synchronised, whatever ran before."""
    target.connect()
    return target


@pytest.fixture
def upgrade(target: Target, tmp_path: Path) -> Page:
    """docs/upgrade.md."""
    return Page(target, "upgrade.md", tmp_path)


@pytest.fixture
def go_agent(connected: Target) -> Iterator[Target]:
    """A cluster that the Go agent has paired and synchronised, with nothing of this agent in it but the CRDs."""
    connected.stop_agents()
    leave_objects(connected, connected.compass.configuration(token="used long ago"))  # noqa: S106 - it is no token
    with _without_agent(connected):
        yield connected


@pytest.fixture
def bare(target: Target) -> Iterator[Target]:
    """A cluster that has the namespaces and the CRDs, and nothing else of an agent."""
    target.compass.reset()
    _install_crds(target)  # there are none when this is the first scenario
    target.disconnect()
    with _without_agent(target):
        yield target


@contextmanager
def _without_agent(target: Target) -> Iterator[None]:
    """Inside the block no agent is installed, and a Deployment of it runs. What is left at its end is removed."""
    target.uninstall()
    target.remove(CONFIG_MAP, "compass-ca", "kyma-system")
    with target.deployments():
        yield
        for folder in ("kyma", "agent"):
            target.kubectl("delete", "--ignore-not-found", "-k", str(CONFIG / folder))
        KymaOperator(target.client).remove()
        _install_crds(target)
    authority = {"ca.crt": target.compass.ca_pem}
    target.put(CONFIG_MAP, {"metadata": {"name": "compass-ca", "namespace": "kyma-system"}, "data": authority})


def _install_crds(target: Target) -> None:
    target.kubectl("apply", "-k", str(CONFIG / "crd"))
    target.wait_for("the CRDs to be served", lambda: _serves_applications(target))


def _serves_applications(target: Target) -> bool:
    try:
        target.applications()
    except NotFound:
        return False
    return True
