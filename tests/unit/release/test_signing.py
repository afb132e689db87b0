"""What is signed of a pushed image: each by its digest, the lists of packages of the platforms before the whole."""

import json
from collections.abc import Sequence

import pytest

from release.signing import SBOM, sign

IMAGE = "ghcr.io/example/agent:1.2.3"
INDEX = {
    "manifests": [
        {"digest": "sha256:amd", "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": "sha256:arm", "platform": {"os": "linux", "architecture": "arm64"}},
        {"digest": "sha256:attestation", "platform": {"os": "unknown", "architecture": "unknown"}},
    ]
}


class Commands:
    """Answers as docker and cosign do, and remembers what was run. `broken`: a command that fails."""

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.run: list[list[str]] = []

    def __call__(self, command: Sequence[str]) -> str:
        self.run.append(list(command))
        if self.broken and self.broken in command:
            raise RuntimeError(self.broken)
        if "--raw" in command:
            return json.dumps(INDEX)
        if "inspect" in command:
            return json.dumps({"digest": "sha256:index"})
        return f"container-of-{command[-1]}\n" if command[1] == "create" else ""

    def of(self, tool: str, verb: str) -> list[list[str]]:
        return [command for command in self.run if command[:2] == [tool, verb]]


def test_each_platform_and_the_whole_are_signed_by_digest() -> None:
    """The list of packages is the one in the image of that platform."""
    commands = Commands()
    sign(IMAGE, commands)
    references = ["ghcr.io/example/agent@sha256:amd", "ghcr.io/example/agent@sha256:arm"]
    assert [command[-1] for command in commands.of("cosign", "attest")] == references
    assert [command[3] for command in commands.of("docker", "cp")] == [
        f"container-of-{reference}:{SBOM}" for reference in references
    ]
    assert commands.run[-1] == ["cosign", "sign", "--yes", "ghcr.io/example/agent@sha256:index"]
    assert not any(IMAGE in command for command in commands.run if command[0] == "cosign")


@pytest.mark.parametrize("broken", ["cp", "attest"])
def test_an_image_whose_sbom_cannot_be_signed_is_not_signed(broken: str) -> None:
    """And no container is left behind."""
    commands = Commands(broken)
    with pytest.raises(RuntimeError):
        sign(IMAGE, commands)
    assert commands.of("cosign", "sign") == []
    assert len(commands.of("docker", "rm")) == len(commands.of("docker", "create")) == 1
