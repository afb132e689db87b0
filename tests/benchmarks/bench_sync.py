"""What a sync costs by the number of Applications, and how soon a change is there while others are created.

Run: python -m tests.benchmarks.bench_sync [--sizes 200,1000,5000,10000,20000]
"""

import argparse
from collections.abc import Sequence

from e2e.mock_compass.examples import generate
from tests.benchmarks.measured_world import CYCLES, MeasuredWorld, measured_world, spread

CHANGES = 5
_PERIOD = "2s"


def curve(measured: MeasuredWorld, sizes: Sequence[int]) -> None:
    """One agent, with ever more Applications: CPU and memory by size."""
    measured.fresh(0)
    agent = measured.world.agent(CONTROLLER_SYNC_PERIOD=_PERIOD)
    agent.start()
    before = 0
    print(f"| Applications | writes in a second | CPU of a sync, ms | resident, MiB | writes in {CYCLES} syncs |")
    print("|---:|---:|---:|---:|---|")
    for size in sizes:
        measured.log.clear()
        measured.world.compass.generate_applications(size)
        writes = measured.wait_for_writes(size, already=before)
        rate = len(writes) / (writes[-1].time - writes[0].time)
        cost = measured.cycles(agent.pid)
        print(f"| {size:,} | {rate:,.0f} | {cost.cpu:,.0f} | {cost.resident:.0f} | {cost.requests} |", flush=True)
        before = size
    agent.stop()


def changes(measured: MeasuredWorld, few: int, many: int) -> None:
    """Of some Applications, without other work and while many others are created."""
    measured.fresh(few)
    agent = measured.world.agent(CONTROLLER_SYNC_PERIOD=_PERIOD)
    agent.start()
    measured.wait_for_writes(few)
    applications = list(generate(few))
    print(f"\na change, nothing else to do: {spread([measured.change(one) for one in applications[:CHANGES]])} s")
    measured.log.clear()
    measured.world.compass.generate_applications(many, prefix="others")
    measured.wait_for("creations to begin", lambda: len(measured.created()) > many / 100)
    busy = []
    for application in applications[CHANGES:]:
        seconds = measured.change(application)
        if sum(request.resource == "applications" for request in measured.created()) >= many:
            break
        busy.append(seconds)
    print(f"a change, while {many:,} are created: {spread(busy) or 'none was in time'} s", flush=True)
    agent.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="200,1000,5000,10000,20000", help="numbers of Applications, ascending")
    parser.add_argument("--changes", default="200,5000", help="changed ones, and others that are created meanwhile")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    with measured_world() as measured:
        curve(measured, sizes)
    with measured_world() as measured:
        changes(measured, *map(int, options.changes.split(",")))


if __name__ == "__main__":
    main()
