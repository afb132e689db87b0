"""Signs a pushed image and the SBOMs of its platforms: `python -m release.signing REGISTRY/NAME:TAG`.

Everything is signed by digest: the index of the platforms, so that a signature is for exactly what the tag named then,
and beside the image of each platform the list of packages that is in that image. Needs docker with buildx, and cosign,
which takes the identity of a workflow of GitHub without a key. Runs with the standard library alone.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

SBOM = "/usr/share/sbom/compass-runtime-agent.cdx.json"

Run = Callable[[Sequence[str]], str]
"""Runs a command and gives its standard output. Raises CalledProcessError."""


def sign(image: str, run: Run) -> None:
    """Sign the image of that tag. Raises what `run` raises: then it is not signed as a whole."""
    repository = image.rpartition(":")[0]
    digest = json.loads(run(["docker", "buildx", "imagetools", "inspect", image, "--format", "{{json .Manifest}}"]))
    index = json.loads(run(["docker", "buildx", "imagetools", "inspect", image, "--raw"]))
    # buildx keeps its own attestations as images of an unknown platform.
    platforms = [one["digest"] for one in index["manifests"] if one["platform"]["os"] != "unknown"]
    with tempfile.TemporaryDirectory() as folder:
        for platform in platforms:
            sbom = Path(folder) / "sbom.cdx.json"
            reference = f"{repository}@{platform}"
            container = run(["docker", "create", reference]).strip()
            try:
                run(["docker", "cp", "--quiet", f"{container}:{SBOM}", str(sbom)])
            finally:
                run(["docker", "rm", container])
            run(["cosign", "attest", "--yes", "--type", "cyclonedx", "--predicate", str(sbom), reference])
    run(["cosign", "sign", "--yes", f"{repository}@{digest['digest']}"])


def _run(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m release.signing", description=__doc__)
    parser.add_argument("image", help="REGISTRY/NAME:TAG, as it was pushed")
    sign(parser.parse_args().image, _run)
