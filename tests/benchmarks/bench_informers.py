"""Informers side by side: ours, the official client's SharedInformer, client-go's dynamic informer.

Run: python -m tests.benchmarks.bench_informers [--rounds 5] [--objects 10000] [--no-server]

Each figure is from a process of its own; the peers take turns, so that what else the machine does meets all alike. The
Go peer is built once when `go` is there. Figures are medians with the least and the greatest.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
GO_SOURCE = Path(__file__).parent / "go_informer"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compass-runtime-agent" / "benchmarks"
EVENTS = 10_000
CACHE_SIZES = (1_000, 10_000, 50_000)
TIMEOUT = 300

Figures = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Informers side by side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--no-server", action="store_true", help="leave out the real API server")
    arguments = parser.parse_args()
    go = build_go_peer()
    with tempfile.TemporaryDirectory() as directory:
        canned(Path(directory), go, arguments.rounds, arguments.objects)
        growth(Path(directory), arguments.rounds)
        if not arguments.no_server:
            real(Path(directory), go, arguments.rounds, arguments.objects)


def canned(directory: Path, go: Path | None, rounds: int, objects: int) -> None:
    names = ["ours", "ours-listed", "ours-trimmed", "ours-tuned", "official", "official-tuned"]
    names += ["ours-pods-tuned", "official-pods-tuned"] + (["client-go"] if go else [])
    with canned_server(objects, EVENTS, directory) as (kubeconfig, sizes):
        results = measure(names, kubeconfig, objects, EVENTS, rounds, go)
    print(
        f"\n{objects} objects from canned answers: {sizes[0] / objects / 1024:.1f} KiB each, {sizes[0] / 2**20:.0f} MiB"
    )
    table(
        results,
        [("sync_seconds", 1, "sync s"), ("sync_cpu_seconds", 1, "sync CPU s"), ("held_bytes", 2**20, "held MiB")],
    )
    print(f"\n{EVENTS} changes in one burst")
    table(results, [("event_ms", 1, "ms each"), ("event_cpu_ms", 1, "CPU ms each")])
    print("\nratios of medians" + ("" if go else "; client-go: no go on this machine, not measured"))
    ratio(
        results,
        "sync_cpu_seconds",
        "official-pods-tuned",
        "ours-pods-tuned",
        "official with models / ours, sync CPU",
        ">= 5",
    )
    ratio(
        results, "sync_seconds", "official-pods-tuned", "ours-pods-tuned", "official with models / ours, sync", ">= 5"
    )
    ratio(results, "sync_seconds", "official-tuned", "ours-tuned", "official with dicts / ours, sync", ">= 5")
    ratio(results, "held_bytes", "ours-pods-tuned", "official-pods-tuned", "ours / official with models, held", "< 1")
    ratio(results, "held_bytes", "ours-trimmed", "official", "ours trimmed / official with dicts, held", "< 1")
    if go:
        ratio(results, "sync_seconds", "ours-tuned", "client-go", "ours / client-go, sync", "<= 3")
        ratio(results, "event_cpu_ms", "ours-tuned", "client-go", "ours / client-go, CPU per event", "-")
    for name in ("ours", "ours-trimmed"):
        held = statistics.median(results[name]["held_bytes"]) / sizes[0]
        print(f"  {f'{name}: held / JSON size':<46} {held:8.2f}  target <= 5")


def growth(directory: Path, rounds: int) -> None:
    results: dict[str, Figures] = {}
    for size in CACHE_SIZES:
        with canned_server(size, EVENTS, directory) as (kubeconfig, _):
            measured = measure(["ours-tuned"], kubeconfig, size, EVENTS, rounds, None)
        results[f"{size} objects"] = measured["ours-tuned"]
    print("\ncost of a change by the number of cached objects (ours-tuned; target <= 0.1 ms, no growth)")
    table(results, [("event_ms", 1, "ms each"), ("event_cpu_ms", 1, "CPU ms each")])


def real(directory: Path, go: Path | None, rounds: int, objects: int) -> None:
    from controller.resources import APPLICATION
    from e2e.controlplane import ControlPlane
    from informers import Client
    from tests.benchmarks.informer.objects import application

    with ControlPlane() as plane:
        plane.apply_crds(ROOT / "config/crd/applications.yaml")
        kubeconfig = plane.write_kubeconfig(directory / "real")
        client = Client.load(str(kubeconfig))
        with ThreadPoolExecutor(8) as pool:
            for created in [pool.submit(client.create, APPLICATION, _writable(application(n))) for n in range(objects)]:
                created.result()
        client.list(APPLICATION, limit=1)
        names = ["ours-tuned", "ours-listed-tuned", "official-tuned"] + (["client-go"] if go else [])
        results = measure(names, kubeconfig, objects, 0, rounds, go)
    print(f"\n{objects} Applications from a real API server")
    table(
        results,
        [("sync_seconds", 1, "sync s"), ("sync_cpu_seconds", 1, "sync CPU s"), ("held_bytes", 2**20, "held MiB")],
    )


def _writable(obj: dict[str, object]) -> dict[str, object]:
    metadata = obj["metadata"]
    assert isinstance(metadata, dict)
    for name in ("uid", "generation", "creationTimestamp", "managedFields"):
        del metadata[name]
    return obj


def measure(
    names: Sequence[str], kubeconfig: Path, objects: int, events: int, rounds: int, go: Path | None
) -> dict[str, Figures]:
    results: dict[str, Figures] = {name: {} for name in names}
    for _ in range(rounds):
        for name in names:
            peer = [str(go)] if name == "client-go" else [sys.executable, "-m", "tests.benchmarks.informer.peer", name]
            command = [*peer, str(kubeconfig), str(objects), str(events)]
            run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False)
            if run.returncode:
                raise SystemExit(f"{name} failed:\n{run.stderr}")
            for figure, value in json.loads(run.stdout).items():
                results[name].setdefault(figure, []).append(value)
    return results


@contextmanager
def canned_server(objects: int, events: int, directory: Path) -> Iterator[tuple[Path, list[int]]]:
    """A kubeconfig for it, and the sizes of its lists of Applications and Pods in bytes."""
    command = [sys.executable, "-m", "tests.benchmarks.informer.canned_server", str(objects), str(events)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url, *sizes = server.stdout.readline().split()
        kubeconfig = directory / f"canned-{objects}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "canned",
            "clusters": [{"name": "canned", "cluster": {"server": url}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "canned", "context": {"cluster": "canned", "user": "nobody"}}],
        }
        kubeconfig.write_text(yaml.safe_dump(config))
        try:
            yield kubeconfig, [int(size) for size in sizes]
        finally:
            server.kill()


def build_go_peer() -> Path | None:
    """The built program; None without Go. What was built before is built anew only where it changed."""
    go = shutil.which("go")
    if go is None:
        return None
    CACHE.mkdir(parents=True, exist_ok=True)
    program = CACHE / "go_informer"
    changed = max(path.stat().st_mtime for path in GO_SOURCE.iterdir())
    if program.exists() and program.stat().st_mtime > changed:
        return program
    print("building the Go peer (minutes, the first time) ...", file=sys.stderr)
    environment = os.environ | {"GOFLAGS": "-mod=readonly -buildvcs=false"}
    build = subprocess.run(
        [go, "build", "-o", str(program), "."],
        cwd=GO_SOURCE,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if build.returncode:
        raise SystemExit(f"the Go peer cannot be built:\n{build.stderr}")
    return program


def table(results: dict[str, Figures], columns: Sequence[tuple[str, float, str]]) -> None:
    print(f"  {'':<22}" + "".join(f"{title:>32}" for _, _, title in columns))
    for name, figures in results.items():
        cells = []
        for figure, unit, _ in columns:
            values = [value / unit for value in figures[figure]]
            cells.append(f"{statistics.median(values):.3f} [{min(values):.3f} .. {max(values):.3f}]")
        print(f"  {name:<22}" + "".join(f"{cell:>32}" for cell in cells))


def ratio(results: dict[str, Figures], figure: str, above: str, below: str, title: str, target: str) -> None:
    value = statistics.median(results[above][figure]) / statistics.median(results[below][figure])
    print(f"  {title:<46} {value:8.2f}  target {target}")


if __name__ == "__main__":
    main()
