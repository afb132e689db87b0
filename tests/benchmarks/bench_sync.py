"""What a sync costs by the number of Applications, and how soon a change is there while others are created.

Run: python -m tests.benchmarks.bench_sync [--sizes 200,1000,5000,10000,20000] [--plot docs/performance.svg]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from e2e.mock_compass.examples import generate
from tests.benchmarks.measured_world import CYCLES, MeasuredWorld, measured_world, spread

CHANGES = 5
_PERIOD = "2s"

_WIDTH, _HEIGHT = 360, 240  # of a panel of the plot, in pixels
_LEFT, _TOP, _RIGHT, _BOTTOM = 58, 34, 16, 40


def curve(measured: MeasuredWorld, sizes: Sequence[int]) -> tuple[list[float], list[float]]:
    """One agent, with ever more Applications: CPU and memory by size."""
    measured.fresh(0)
    agent = measured.world.agent(CONTROLLER_SYNC_PERIOD=_PERIOD)
    agent.start()
    cpu, resident, before = [], [], 0
    print(f"| Applications | writes in a second | CPU of a sync, ms | resident, MiB | writes in {CYCLES} syncs |")
    print("|---:|---:|---:|---:|---|")
    for size in sizes:
        measured.log.clear()
        measured.world.compass.generate_applications(size)
        writes = measured.wait_for_writes(size, already=before)
        rate = len(writes) / (writes[-1].time - writes[0].time)
        cost = measured.cycles(agent.pid)
        print(f"| {size:,} | {rate:,.0f} | {cost.cpu:,.0f} | {cost.resident:.0f} | {cost.requests} |", flush=True)
        cpu.append(cost.cpu)
        resident.append(cost.resident)
        before = size
    agent.stop()
    return cpu, resident


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


def write_plot(path: Path, sizes: Sequence[int], *panels: tuple[str, Sequence[float], str]) -> None:
    """Lines over the number of Applications as SVG: title, values and colour, one panel for each."""
    drawn = "".join(
        f'<g transform="translate({number * _WIDTH},0)">{_panel(sizes, *panel)}</g>'
        for number, panel in enumerate(panels)
    )
    width = _WIDTH * len(panels)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{_HEIGHT}" viewBox="0 0 {width} {_HEIGHT}" '
        f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#ffffff"/>{drawn}</svg>\n'
    )


def _panel(sizes: Sequence[int], title: str, values: Sequence[float], colour: str) -> str:
    right, top, bottom = max(sizes), max(values) * 1.1, _HEIGHT - _BOTTOM
    parts = [f'<text x="{_LEFT}" y="20" font-size="13">{title}</text>']
    for step in range(5):
        y = bottom - step / 4 * (bottom - _TOP)
        x = _LEFT + step / 4 * (_WIDTH - _LEFT - _RIGHT)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{top * step / 4:,.0f}</text>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{right * step / 4:,.0f}</text>')
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 6}" text-anchor="middle">Applications</text>')
    points = [
        (_LEFT + size / right * (_WIDTH - _LEFT - _RIGHT), bottom - value / top * (bottom - _TOP))
        for size, value in zip(sizes, values, strict=True)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    return "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="200,1000,5000,10000,20000", help="numbers of Applications, ascending")
    parser.add_argument("--changes", default="200,5000", help="changed ones, and others that are created meanwhile")
    parser.add_argument("--plot", type=Path, help="write the curve as SVG to this file")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    with measured_world() as measured:
        cpu, resident = curve(measured, sizes)
    if options.plot:
        memory = ("resident memory, MiB", resident, "#b3541e")
        write_plot(options.plot, sizes, ("CPU of a sync without changes, ms", cpu, "#1f5fa8"), memory)
    with measured_world() as measured:
        changes(measured, *map(int, options.changes.split(",")))


if __name__ == "__main__":
    main()
