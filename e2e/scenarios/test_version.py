"""Which build it is, as log, command line, metrics and image show it."""

import re

from e2e.scenarios.target import Target


def test_version_and_commit_are_shown_everywhere(connected: Target) -> None:
    """Version and commit are in the first line, in --version, in a metric and in the image. No series is _created."""
    said = re.fullmatch(r"compass-runtime-agent (\S+) \(commit (\S+)\)", connected.command("--version").strip())
    assert said
    version, commit = said.groups()
    labels = connected.image_labels()
    assert not labels or labels["org.opencontainers.image.version"] == version
    assert not labels or labels["org.opencontainers.image.revision"] == commit
    for replica in connected.replicas():
        first = connected.logs()[replica].splitlines()[0]
        assert f"version={version} commit={commit}" in first
        assert "=2s" in first
        assert "None" not in first
        metrics = connected.ask(replica, "metrics")
        assert f'compass_runtime_agent_build_info{{commit="{commit}",version="{version}"}} 1' in metrics
        assert "_created" not in metrics
