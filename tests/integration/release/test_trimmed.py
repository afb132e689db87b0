"""The image leaves out what the agent never imports: the agent does all of its work without it."""

import os
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from e2e.mock_compass.examples import landscape
from e2e.world import World
from release.image.trim import FOLDERS, trim
from release.manifests import ROOT

IMPORT_ALL = """
import importlib, pkgutil
for name in ("workqueue", "informers", "controller", "kubectl_compass"):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        importlib.import_module(module.name)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, str]]:
    """A Python with the packages that the image has, and its environment: links to those of this one."""
    packages = tmp_path_factory.mktemp("image") / "lib/python3/site-packages"
    required = re.findall(r"^[\w-]+(?===)", (ROOT / "requirements/runtime.txt").read_text(), re.MULTILINE)
    for name in (*required, "compass-runtime-agent"):
        for file in distribution(name).files or ():
            link, source = packages / file, Path(str(file.locate()))
            if not source.exists():
                continue
            link.parent.mkdir(parents=True, exist_ok=True)
            if set(FOLDERS).isdisjoint(map(str, file.parents)):  # the files of the others are removed below
                link.symlink_to(source.resolve())
    trim(packages)
    left = {path.name for path in packages.iterdir()}
    assert not left & {"aiohttp", "charset_normalizer", "oauthlib", "pydantic"}
    path = os.pathsep.join(map(str, (packages, ROOT)))
    environment = re.findall(r'(PYTHON\w+)=("[^"]*"|\S+)', (ROOT / "Dockerfile").read_text().split("AS agent")[1])
    image = {name: value.strip('"') for name, value in environment}
    return [sys.executable, "-S"], {**image, "PATH": os.environ["PATH"], "PYTHONPATH": path}


def test_each_module_can_be_imported(python: tuple[list[str], dict[str, str]]) -> None:
    command, environment = python
    done = subprocess.run([*command, "-c", IMPORT_ALL], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_agent_pairs_and_synchronises(python: tuple[list[str], dict[str, str]], tmp_path: Path) -> None:
    command, environment = python
    with World.local(tmp_path) as world:
        world.install_crds()
        for application in landscape():
            world.compass.put_application(application)
        world.configure()
        settings = {**environment, **world.environment(), "KUBECONFIG": str(world.kubeconfig)}
        with (tmp_path / "log").open("wb") as log:
            agent = subprocess.Popen([*command, "-m", "controller"], env=settings, stdout=log, stderr=log)
        try:
            world.wait_for_state("Synchronized")
            assert len(world.applications()) == len(landscape())
        finally:
            agent.terminate()
            assert agent.wait(30) == 0
