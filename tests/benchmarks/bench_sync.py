"""What the sync costs: the agent as a process on a real API server, beside a bare loop of the same requests.

Run: python -m tests.benchmarks.bench_sync [--quick] [--plot docs/performance.svg]

Times are read from the audit log of the API server and the request log of the mock Compass, CPU and memory of the
agent from /proc. API server, etcd, mock Compass and agent share one machine, so compare figures of one run only.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from controller.resources import APPLICATION, COMPASS_CONNECTION, SECRET
from e2e.agent_process import AgentProcess
from e2e.mock_compass.examples import generate
from e2e.world import World
from informers import Client
from tests.benchmarks.measured_world import (
    WAIT,
    cpu_seconds,
    delete_objects,
    measured_world,
    memory_mib,
    stored_objects,
)
from tests.benchmarks.plot import Series, write_plot
from tests.support.audit_log import AGENT, AuditLog, Request

THREADS = 8
SMALL, LARGE = 200, 5_000
CURVE = (200, 1_000, 5_000, 10_000, 20_000)
ROUNDS = 5
LARGE_ROUNDS = 2  # a round takes a minute
CYCLES = 5
BARE = "bare-loop"

Object = dict[str, Any]


@dataclass(frozen=True)
class Cost:
    """Of unchanged cycles: seconds of CPU each, MiB resident afterwards and at the most, requests in all of them."""

    cpu: float
    resident: float
    peak: float
    requests: dict[str, int]


class Bench:
    def __init__(self, world: World, log: AuditLog) -> None:
        self.world = world
        self.log = log
        self.agent: AgentProcess | None = None

    # --- the agent ---

    def start(self, *, period: str) -> AgentProcess:
        self.agent = self.world.agent(CONTROLLER_SYNC_PERIOD=period)
        self.agent.start()
        return self.agent

    def stop(self) -> None:
        if self.agent is not None:
            self.agent.stop()
            self.agent = None

    def assign(self, count: int, *, prefix: str = "generated") -> None:
        self.world.compass.generate_applications(count, prefix=prefix)

    def fetches(self) -> list[tuple[float, float]]:
        """When the first and the last request of each fetch were answered."""
        ends: dict[str, tuple[float, float]] = {}
        for request in self.world.compass.requests.all():
            if "applicationsForRuntime" in request.operation and request.request_id:
                begin, _ = ends.get(request.request_id, (request.time, 0.0))
                ends[request.request_id] = (begin, request.time)
        return sorted(ends.values())

    def created(self, agent: str = AGENT) -> list[Request]:
        return [
            request
            for request in self.log.requests(agent=agent)
            if request.resource in ("applications", "secrets") and request.is_write
        ]

    def wait_for_applications(self, count: int) -> None:
        self.world.wait_for(f"{count} Applications", lambda: self._synced() >= count, timeout=WAIT)

    def _synced(self) -> int:
        connection = self.world.connection()
        counts = ((connection or {}).get("status") or {}).get("applications") or {}
        return int(counts.get("synced", 0)) if self.world.state() == "Synchronized" else 0

    # --- figures ---

    def first_sync(self, count: int) -> tuple[float, int]:
        """Seconds from the Director's answer to the last write, and the number of writes."""
        self.world.client.patch(
            COMPASS_CONNECTION,
            "compass-connection",
            {"status": {"connectionState": "Connected", "applications": {"synced": 0}}},
            subresource="status",
        )
        self.world.compass.requests.clear()
        self.log.clear()
        self.start(period="1h")
        self.wait_for_applications(count)
        writes = self.created()
        seconds = writes[-1].time - self.fetches()[0][1]
        self.stop()
        return seconds, len(writes)

    def bare_loop(self, kubeconfig: Path, objects: Sequence[tuple[Object, Sequence[Object]]]) -> tuple[float, int]:
        """The same objects, created by a pool of threads that does nothing else."""
        self.log.clear()
        client = Client.load(str(kubeconfig), user_agent=BARE)

        def create(pair: tuple[Object, Sequence[Object]]) -> None:
            application, secrets = pair
            uid = client.create(APPLICATION, application)["metadata"]["uid"]
            for secret in secrets:
                secret["metadata"]["ownerReferences"][0]["uid"] = uid
                client.create(SECRET, secret)

        began = time.time()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(create, objects))
        client.close()
        writes = self.created(BARE)
        return writes[-1].time - began, len(writes)

    def cycles(self) -> Cost:
        """Of a running agent with nothing to do; the cycle that is being worked on is waited for first."""
        assert self.agent is not None
        pid = self.agent.pid
        self._wait_for_cycles(2)
        self.log.clear()
        before = cpu_seconds(pid)
        self._wait_for_cycles(CYCLES)
        cpu = (cpu_seconds(pid) - before) / CYCLES
        requests: dict[str, int] = {}
        for request in self.log.requests():
            what = f"{request.verb} {request.resource}"
            requests[what] = requests.get(what, 0) + 1
        return Cost(cpu, memory_mib(pid, "VmRSS"), memory_mib(pid, "VmHWM"), requests)

    def _wait_for_cycles(self, count: int) -> None:
        """Until the status of that many more cycles is written, so that all work of the last one is in."""
        for _ in range(count):
            self.world.wait_for("the next cycle", partial(self._is_after, self._attempt()), timeout=WAIT)

    def _is_after(self, last: str) -> bool:
        return self._attempt() != last

    def _attempt(self) -> str:
        text: str = (self.world.connection() or {})["status"]["synchronizationStatus"][
            "lastSuccessfulApplication"
        ] or ""
        return text

    def change(self, application_id: str, text: str) -> float:
        """Seconds from the answer of the Director that has a change to the write of it."""
        name = "mp-" + self.world.compass.state.application(application_id)["name"].replace(" ", "-")  # type: ignore[index]
        changed = time.time()
        self.world.compass.state.change_application(application_id, {"description": text})
        write = self.world.wait_for("the change", lambda: self._update_of(name, changed), timeout=WAIT)
        ends = [end for begin, end in self.fetches() if begin >= changed and end <= write]
        # A fetch that had begun already may have had it on one of its later pages.
        return write - (ends[0] if ends else max(end for _, end in self.fetches() if end <= write))

    def _update_of(self, name: str, since: float) -> float:
        times = [
            request.time
            for request in self.log.requests()
            if request.verb == "update" and request.name == name and request.time > since
        ]
        return min(times, default=0.0)


@contextmanager
def bench() -> Iterator[Bench]:
    with measured_world() as (world, log):
        one = Bench(world, log)
        world.configure()
        one.start(period="1h")
        world.wait_for_state("Synchronized", timeout=WAIT)
        one.stop()
        yield one


def first_syncs(one: Bench, count: int, rounds: int) -> None:
    """Agent and bare loop in turns."""
    one.assign(count)
    kubeconfig = one.world.kubeconfig
    agent, bare, writes = [], [], 0
    for _ in range(rounds):
        seconds, writes = one.first_sync(count)
        objects = stored_objects(one.world)
        delete_objects(one.world)
        bare_seconds, bare_writes = one.bare_loop(kubeconfig, objects)
        assert bare_writes == writes == len(objects) + sum(len(secrets) for _, secrets in objects)
        delete_objects(one.world)
        agent.append(seconds)
        bare.append(bare_seconds)
    ratios = [b / a for a, b in zip(agent, bare, strict=True)]
    print(f"first sync of {count:,} ({writes:,} writes), {rounds} rounds")
    print(f"  agent, answer to last write  {_spread(agent, 's')}   {writes / statistics.median(agent):,.0f} writes/s")
    print(f"  bare loop, {THREADS} threads  {_spread(bare, 's')}   {writes / statistics.median(bare):,.0f} writes/s")
    print(f"  rate of the agent / bare     {_spread(ratios, '')}", flush=True)


def unchanged(one: Bench, count: int) -> Cost:
    one.assign(count)
    one.start(period="2s")
    one.wait_for_applications(count)
    cost = one.cycles()
    print(
        f"unchanged, {count:,}: {cost.cpu * 1000:.0f} ms of CPU a cycle, requests in {CYCLES} cycles: {cost.requests}, "
        f"{cost.resident:.0f} MiB resident (at the most {cost.peak:.0f})",
        flush=True,
    )
    return cost


def changes(one: Bench, others: int) -> None:
    """With the agent of `unchanged` still running."""
    ids = [application["id"] for application in generate(SMALL)]
    idle = [one.change(ids[number], f"changed {number}") for number in range(ROUNDS)]
    print(f"a change, nothing else to do: {_spread(idle, 's')}", flush=True)
    one.log.clear()
    one.assign(others, prefix="others")
    one.world.wait_for("creations to begin", lambda: len(one.created()) > 50, timeout=WAIT)
    busy, created = [], 0
    for number in range(ROUNDS, ROUNDS + 20):
        seconds = one.change(ids[number], f"changed {number}")
        created = sum(request.verb == "create" and request.resource == "applications" for request in one.created())
        if created >= others:
            break
        busy.append(seconds)
    print(
        f"a change, while {others:,} are being created: {_spread(busy, 's') if busy else 'none was in time'}",
        flush=True,
    )


def curve(one: Bench, sizes: Sequence[int]) -> list[tuple[int, float, Cost]]:
    """The same agent, with ever more Applications."""
    rows = []
    before = 0
    one.start(period="2s")
    for size in sizes:
        one.log.clear()
        one.assign(size)
        one.wait_for_applications(size)
        writes = one.created()
        rate = len(writes) / (writes[-1].time - writes[0].time)
        cost = one.cycles()
        rows.append((size, rate, cost))
        print(
            f"{size:>7,}: {rate:6,.0f} writes/s from {before:,}, {cost.cpu * 1000:6,.0f} ms of CPU a cycle, "
            f"{cost.resident:4.0f} MiB, requests {cost.requests}",
            flush=True,
        )
        before = size
    one.stop()
    return rows


def _spread(values: Sequence[float], unit: str) -> str:
    return f"{statistics.median(values):.2f} {unit} ({min(values):.2f} to {max(values):.2f})"


def _run(what: Callable[[Bench], object]) -> None:
    with bench() as one:
        what(one)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: to see that it works")
    parser.add_argument("--plot", type=Path, help="write the curve as SVG to this file")
    options = parser.parse_args()
    large, rounds = (500, 1) if options.quick else (LARGE, ROUNDS)
    _run(lambda one: first_syncs(one, SMALL, rounds))
    _run(lambda one: first_syncs(one, large, 1 if options.quick else LARGE_ROUNDS))

    def steady(one: Bench) -> None:
        unchanged(one, SMALL)
        changes(one, large)
        one.stop()

    _run(steady)
    _run(lambda one: _plotted(curve(one, CURVE[:2] if options.quick else CURVE), options.plot))


def _plotted(rows: Sequence[tuple[int, float, Cost]], path: Path | None) -> None:
    if path is None:
        return
    write_plot(
        path,
        x=[size for size, _, _ in rows],
        x_title="Applications",
        series=(
            Series("CPU of an unchanged cycle, ms", [cost.cpu * 1000 for _, _, cost in rows], "#1f5fa8"),
            Series("resident memory, MiB", [cost.resident for _, _, cost in rows], "#b3541e"),
        ),
    )


if __name__ == "__main__":
    main()
