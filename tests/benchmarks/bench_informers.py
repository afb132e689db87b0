"""Informers side by side: ours, the official client's SharedInformer, client-go's dynamic informer.

Run: python -m tests.benchmarks.bench_informers [--rounds 5] [--objects 10000]

Each figure is from a process of its own; the peers take turns, so that what else the machine does meets all alike. The
Go peer is built once when `go` is there. Figures are medians with the least and the greatest.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import yaml

from controller.resources import APPLICATION
from e2e.controlplane import ControlPlane
from informers import Client
from tests.benchmarks.informer.canned_server import Server
from tests.benchmarks.informer.objects import application
from tests.benchmarks.measured_world import spread

ROOT = Path(__file__).resolve().parents[2]
GO_SOURCE = Path(__file__).parent / "go_informer"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compass-runtime-agent" / "benchmarks"
EVENTS = 10_000
CACHE_SIZES = (1_000, 10_000, 50_000)
TIMEOUT = 300
COLUMNS = (("sync_seconds", 1), ("sync_cpu_seconds", 1), ("held_bytes", 2**20), ("event_ms", 1), ("event_cpu_ms", 1))

Figures = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Informers side by side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--objects", type=int, default=10_000)
    arguments = parser.parse_args()
    go = build_go_peer()
    with tempfile.TemporaryDirectory() as directory:
        canned(Path(directory), go, arguments.rounds, arguments.objects)
        growth(Path(directory), arguments.rounds)
        real(Path(directory), go, arguments.rounds, arguments.objects)


def canned(directory: Path, go: Path | None, rounds: int, objects: int) -> None:
    names = ["ours-tuned", "ours", "official-tuned", "ours-pods-tuned", "official-pods-tuned"]
    with canned_server(objects, EVENTS, directory) as (kubeconfig, size):
        results = measure([*names, *(["client-go"] if go else [])], kubeconfig, objects, EVENTS, rounds, go)
    kib = size / objects / 1024
    print(f"{objects} objects of {kib:.1f} KiB, {size / 2**20:.0f} MiB in all, from canned answers\n")
    table(results)


def growth(directory: Path, rounds: int) -> None:
    """The cost of a change by the number of cached objects."""
    results: dict[str, Figures] = {}
    for size in CACHE_SIZES:
        with canned_server(size, EVENTS, directory) as (kubeconfig, _):
            measured = measure(["ours-tuned"], kubeconfig, size, EVENTS, rounds, None)
        results[f"ours-tuned, {size} objects"] = measured["ours-tuned"]
    table(results)


def real(directory: Path, go: Path | None, rounds: int, objects: int) -> None:
    with ControlPlane() as plane:
        plane.apply_crds(ROOT / "config/crd/applications.yaml")
        kubeconfig = plane.write_kubeconfig(directory / "real")
        client = Client.load(str(kubeconfig))
        with ThreadPoolExecutor(8) as pool:
            for created in [pool.submit(client.create, APPLICATION, _writable(application(n))) for n in range(objects)]:
                created.result()
        names = ["ours-tuned", "official-tuned", *(["client-go"] if go else [])]
        results = measure(names, kubeconfig, objects, 0, rounds, go)
    table({f"{name}, real API server": figures for name, figures in results.items()})


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
def canned_server(objects: int, events: int, directory: Path) -> Iterator[tuple[Path, int]]:
    """A kubeconfig for it, and the size of its list of Applications in bytes."""
    with Server(objects, events) as server:
        kubeconfig = directory / f"canned-{objects}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "canned",
            "clusters": [{"name": "canned", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "canned", "context": {"cluster": "canned", "user": "nobody"}}],
        }
        kubeconfig.write_text(yaml.safe_dump(config))
        yield kubeconfig, len(server.applications.answer)


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


def table(results: dict[str, Figures]) -> None:
    print("| | first list, s | CPU of it, s | memory held, MiB | a change in a burst, ms | CPU of it, ms |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, figures in results.items():
        cells = [spread([value / unit for value in figures.get(figure, [])]) for figure, unit in COLUMNS]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print()


if __name__ == "__main__":
    main()
