"""Where the binaries come from: order, cache, atomicity, lock, and the error when nothing works."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

import pytest

from e2e.controlplane import AssetsUnavailable
from e2e.controlplane.assets import Assets, Source, default_cache, default_sources, find_assets, platform_name
from e2e.controlplane.errors import SourceFailed
from e2e.controlplane.progress import Report

ALL = ("etcd", "kube-apiserver", "kubectl")


def executables(directory: Path, *names: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).write_text("")
        (directory / name).chmod(0o755)
    return directory


def giving(*names: str, version: str = "v1", log: list[str] | None = None) -> Source:
    """A source that gives these files, and notes in `log` that it was asked."""

    def fetch(directory: Path, report: Report) -> None:
        if log is not None:
            log.append(version)
        executables(directory, *names)

    return Source(f"source {version}", version, fetch)


def failing(reason: str, version: str = "v0", error: type[BaseException] = SourceFailed) -> Source:
    """A source that fails half way."""

    def fetch(directory: Path, report: Report) -> None:
        executables(directory, "etcd")
        raise error(reason)

    return Source(f"source {version}", version, fetch)


class Finder:
    """find_assets() with everything from a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self.environ = {"PATH": str(folder / "path")}
        self.reported: list[str] = []

    def __call__(self, *sources: Source) -> Assets:
        return find_assets(environ=self.environ, cache=self.cache, sources=sources, report=self.reported.append)

    def in_cache(self) -> list[str]:
        return sorted(entry.name for entry in self.cache.iterdir() if entry.name != "lock")


@pytest.fixture
def find(tmp_path: Path) -> Finder:
    return Finder(tmp_path)


def test_the_environment_comes_first(find: Finder, tmp_path: Path) -> None:
    """A complete $KUBEBUILDER_ASSETS is used, whatever the cache has; nothing is fetched."""
    find(giving(*ALL))
    find.environ["KUBEBUILDER_ASSETS"] = str(executables(tmp_path / "given", *ALL))
    log: list[str] = []
    assets = find(giving(*ALL, log=log))
    assert assets.etcd == tmp_path / "given" / "etcd"
    assert assets.kube_apiserver == tmp_path / "given" / "kube-apiserver"
    assert assets.kubectl == tmp_path / "given" / "kubectl"
    assert log == []


def test_kubectl_may_be_in_the_path(find: Finder, tmp_path: Path) -> None:
    """$KUBEBUILDER_ASSETS without kubectl will do when $PATH has one."""
    find.environ["KUBEBUILDER_ASSETS"] = str(executables(tmp_path / "given", "etcd", "kube-apiserver"))
    executables(tmp_path / "path", "kubectl")
    assert find() == Assets(tmp_path / "given", tmp_path / "path" / "kubectl")


@pytest.mark.parametrize(
    ("present", "lacking"),
    [
        pytest.param(["etcd", "kubectl"], "lacks kube-apiserver", id="no kube-apiserver"),
        pytest.param([], "lacks etcd and kube-apiserver", id="empty"),
        pytest.param(["etcd", "kube-apiserver"], "lacks kubectl, and so does $PATH", id="no kubectl anywhere"),
    ],
)
def test_an_incomplete_environment_is_passed_over_aloud(
    find: Finder, tmp_path: Path, present: list[str], lacking: str
) -> None:
    """An incomplete $KUBEBUILDER_ASSETS is reported with what it lacks, and the next source is used."""
    find.environ["KUBEBUILDER_ASSETS"] = str(executables(tmp_path / "given", *present))
    assert find(giving(*ALL)).directory == find.cache / f"v1-{platform_name()}"
    assert lacking in find.reported[0]


def test_a_file_that_cannot_be_executed_does_not_count(find: Finder, tmp_path: Path) -> None:
    """A binary without the executable bit is a missing one."""
    find.environ["KUBEBUILDER_ASSETS"] = str(executables(tmp_path / "given", *ALL))
    (tmp_path / "given" / "etcd").chmod(0o644)
    with pytest.raises(AssetsUnavailable, match="lacks etcd"):
        find()


def test_sources_are_tried_in_order_until_one_works(find: Finder) -> None:
    """A source that fails is reported; the first that works ends the search."""
    log: list[str] = []
    assets = find(failing("no network"), giving(*ALL, version="v1", log=log), giving(*ALL, version="v2", log=log))
    assert assets.directory.name == f"v1-{platform_name()}"
    assert log == ["v1"]
    assert "source v0: no network" in find.reported


def test_what_was_fetched_is_cached(find: Finder) -> None:
    """A second search asks no source, and finds what any of the sources left."""
    log: list[str] = []
    sources = (failing("no network"), giving(*ALL, log=log))
    assert find(*sources) == find(*sources)
    assert log == ["v1"]


def test_an_incomplete_cache_is_filled_again(find: Finder) -> None:
    """A cached folder from which a file was removed is replaced as a whole."""
    first = find(giving(*ALL))
    first.etcd.unlink()
    (first.directory / "left-over").write_text("")
    again = find(giving(*ALL))
    assert again == first
    assert sorted(entry.name for entry in again.directory.iterdir()) == sorted(ALL)


@pytest.mark.parametrize("error", [SourceFailed, KeyboardInterrupt, RuntimeError])
def test_a_failed_source_leaves_nothing_in_the_cache(find: Finder, error: type[BaseException]) -> None:
    """A folder appears in the cache complete or not at all, also when a person breaks off."""
    with pytest.raises((AssetsUnavailable, KeyboardInterrupt, RuntimeError)):
        find(failing("half way", error=error))
    assert find.in_cache() == []


def test_a_source_that_gives_too_little_has_failed(find: Finder) -> None:
    """A source that ends well without one of the binaries does not get into the cache."""
    with pytest.raises(AssetsUnavailable, match="gave no kube-apiserver"):
        find(giving("etcd", "kubectl"))
    assert find.in_cache() == []


def test_remains_of_a_dead_process_are_cleared(find: Finder) -> None:
    """What a killed process left half done does not get into the result."""
    executables(find.cache / f"v1-{platform_name()}.partial", "junk")
    assets = find(giving(*ALL))
    assert find.in_cache() == [assets.directory.name]
    assert not (assets.directory / "junk").exists()


def test_the_error_names_every_source_and_its_reason(find: Finder, tmp_path: Path) -> None:
    """When nothing works, one error has the reason for each source, in order."""
    find.environ["KUBEBUILDER_ASSETS"] = str(tmp_path / "nowhere")
    with pytest.raises(AssetsUnavailable) as failed:
        find(failing("no network", "v0"), failing("no Go", "v1"))
    lines = str(failed.value).splitlines()
    expected = ["$KUBEBUILDER_ASSETS: ", "cache: ", "source v0: no network", "source v1: no Go"]
    assert len(lines) == 1 + len(expected)
    for line, text in zip(lines[1:], expected, strict=True):
        assert text in line


def test_an_unset_environment_is_named_but_not_reported(find: Finder) -> None:
    """Not to set $KUBEBUILDER_ASSETS is normal: no progress line, but the final error mentions it."""
    with pytest.raises(AssetsUnavailable, match=r"\$KUBEBUILDER_ASSETS: not set"):
        find()
    assert find.reported == []


def test_a_cache_that_cannot_be_written_is_named(find: Finder) -> None:
    """A file where the cache folder should be gives the clear error, not an OSError."""
    find.cache.write_text("")
    with pytest.raises(AssetsUnavailable, match=r"writing to the cache: .*File exists"):
        find(giving(*ALL))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({"XDG_CACHE_HOME": "/x"}, Path("/x"), id="set"),
        pytest.param({"XDG_CACHE_HOME": ""}, Path.home() / ".cache", id="empty"),
        pytest.param({}, Path.home() / ".cache", id="unset"),
    ],
)
def test_the_cache_is_in_the_users_cache_folder(environ: dict[str, str], expected: Path) -> None:
    """The XDG rule: an empty variable counts as unset."""
    assert default_cache(environ) == expected / "compass-runtime-agent" / "controlplane"


def test_the_archive_is_preferred_to_a_build(tmp_path: Path) -> None:
    """A download takes seconds, a build minutes."""
    assert [source.name for source in default_sources(tmp_path)] == ["envtest archive", "build from Go modules"]


SEEKER = """
    import sys
    from pathlib import Path
    from e2e.controlplane.assets import Source, find_assets

    def fetch(directory, report):
        print("fetching", flush=True)
        sys.stdin.readline()
        for name in ("etcd", "kube-apiserver", "kubectl"):
            (directory / name).touch(mode=0o755)

    report = lambda line: print(line, flush=True)
    sources = [Source("s", "v1", fetch)]
    found = find_assets(environ={"PATH": ""}, cache=Path(sys.argv[1]), sources=sources, report=report)
    print(found.directory, flush=True)
"""


class Seeker:
    """A process of its own that looks for assets; its source waits for go_on()."""

    def __init__(self, cache: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SEEKER), str(cache)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        return cast(IO[str], self.process.stdout).readline().strip()

    def go_on(self) -> None:
        stdin = cast(IO[str], self.process.stdin)
        stdin.write("\n")
        stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def seeker(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], Seeker]:
    def start() -> Seeker:
        started = Seeker(tmp_path / "cache")
        request.addfinalizer(started.close)
        return started

    return start


def test_of_two_processes_one_works_and_the_other_waits(seeker: Callable[[], Seeker]) -> None:
    """The second says that it waits, asks no source, and gets what the first one fetched."""
    first = seeker()
    assert first.line() == "fetching"
    second = seeker()
    assert "waiting" in second.line()
    first.go_on()
    assert first.line().startswith("s: ")
    folder = first.line()
    assert folder.endswith(f"v1-{platform_name()}")
    assert second.line() == folder


def test_a_waiting_process_takes_over_from_a_killed_one(seeker: Callable[[], Seeker]) -> None:
    """The lock dies with its holder; what that one left half done does not matter."""
    first = seeker()
    assert first.line() == "fetching"
    second = seeker()
    assert "waiting" in second.line()
    first.process.kill()
    assert second.line() == "fetching"
    second.go_on()
    assert second.line().startswith("s: ")
    assert second.line().endswith(f"v1-{platform_name()}")
