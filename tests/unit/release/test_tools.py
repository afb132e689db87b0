"""Where helm and promtool come from."""

from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.controlplane.sources import SourceFailed
from release.tools import HELM, find_helm, find_promtool


@pytest.mark.parametrize(("name", "find"), [("HELM", find_helm), ("PROMTOOL", find_promtool)])
def test_a_variable_names_the_command(name: str, find: Callable[..., Path]) -> None:
    assert find(environ={name: "/opt/command"}) == Path("/opt/command")


def test_what_is_in_the_cache_is_not_made_again(tmp_path: Path) -> None:
    helm = tmp_path / "compass-runtime-agent/helm" / HELM / "helm"
    helm.parent.mkdir(parents=True)
    helm.touch()
    assert find_helm(environ={"XDG_CACHE_HOME": str(tmp_path), "PATH": ""}) == helm


def test_without_a_source_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match=r"set \$PROMTOOL or install it"):
        find_promtool(environ={"XDG_CACHE_HOME": str(tmp_path), "PATH": str(tmp_path)}, report=lambda _: None)
