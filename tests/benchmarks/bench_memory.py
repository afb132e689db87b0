"""How much memory reading from a Director takes at most, for answers of any size, shape and compression.

Run: python -m tests.benchmarks.bench_memory

Each figure is the peak of the resident memory of a process of its own, which has all of the agent imported, fetches,
keeps what the agent keeps, and fetches once more. The Director's answers are made while they are sent.
"""

import tempfile
from pathlib import Path
from typing import Any

from controller.compass.limits import Limits
from tests.support.large_answers import (
    MIB,
    Answering,
    LargeDirector,
    Tenant,
    WithSurprise,
    fetched,
    hostile,
    large_application,
    one_answer,
)
from tests.unit.compass.https_server import Authority, pem, server_context

SIZES = (10, 50, 200, 500)  # MiB of JSON


def main() -> None:
    print("the peak of a process that fetches\n")
    print("| the Director answers | JSON, MiB | peak, plain | peak, gzip | outcome |\n|---|---:|---:|---:|---|")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for size in SIZES:
            bench.print_row("usual applications, in pages", size, Tenant.of_size(size * MIB))
        for size in SIZES:
            bench.print_row("large applications, in pages", size, Tenant.of_size(size * MIB, large_application))
        for size in SIZES:
            bench.print_row("one answer to everything", size, one_answer(size * MIB))
        worst = hostile("different keys", Limits().answer_bytes * 98 // 100)
        bench.print_row("nearly as much as is taken, then what parses worst", 26, WithSurprise(Tenant(11_000), worst))


class Bench:
    def __init__(self, folder: Path) -> None:
        authority = Authority("Benchmark CA")
        self._context = server_context(authority)
        self._ca_file = folder / "ca.pem"
        self._ca_file.write_bytes(pem(authority.certificate))

    def print_row(self, what: str, size: int, answer: Answering) -> None:
        peaks: list[str] = []
        report: dict[str, Any] = {}
        for compressed in (False, True):
            with LargeDirector(self._context, answer, compressed=compressed) as director:
                report = fetched(director.url, self._ca_file)
            peaks.append(f"{report['peak']:.0f} MiB")
        outcome = f"{report['applied']:,} applied" if "applied" in report else report["error"].partition(";")[0]
        print(f"| {what} | {size} | {' | '.join(peaks)} | {outcome} |", flush=True)


if __name__ == "__main__":
    main()
