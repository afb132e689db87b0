"""A control plane with an audit log, a mock Compass, an agent as a process, and what they cost.

Times of writes are those of the API server's audit log, times of answers those of the mock Compass, CPU and memory are
those of /proc. All of them share one machine, so compare figures of one run. Nothing else should run beside.
"""

import compileall
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from controller.applications.conversion import SECRETS_SELECTOR
from controller.resources import APPLICATION, SECRET
from e2e.mock_compass.examples import generate
from e2e.world import World
from tests.support.audit_log import AuditLog, Request

CYCLES = 5
_WAIT = 900.0  # seconds, for the largest step
_FETCH_SECONDS = 1.0  # answers that lie closer together belong to one fetch
_PACKAGES = ("controller", "informers", "workqueue")
_ROOT = Path(__file__).parents[2]

Object = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """Of unchanged cycles: ms of CPU each with the pause before it, MiB resident, threads, requests in all of them."""

    cpu: float
    resident: float
    threads: float
    requests: dict[str, int]


class MeasuredWorld:
    """What happens in a world, by its logs."""

    def __init__(self, world: World, log: AuditLog) -> None:
        self.world = world
        self.log = log

    def fresh(self, count: int) -> None:
        """A cluster without a trace of an agent, and a Compass that assigns so many Applications."""
        self.world.client.request("DELETE", APPLICATION.path(), timeout=_WAIT)
        secrets = {"labelSelector": SECRETS_SELECTOR}
        self.world.client.request("DELETE", SECRET.path("kyma-system"), query=secrets, timeout=_WAIT)
        self.world.reset()
        self.world.compass.generate_applications(count)
        self.world.configure()
        self.forget()

    def forget(self) -> None:
        """What the logs have so far."""
        self.world.compass.requests.clear()
        self.log.clear()

    def wait_for(self, what: str, condition: Callable[[], T]) -> T:
        return self.world.wait_for(what, condition, timeout=_WAIT)

    def answers(self, operation: str) -> list[float]:
        return [request.time for request in self.world.compass.requests.all() if operation in request.operation]

    def fetches(self) -> list[float]:
        """When fetches ended."""
        answers = [*self.answers("applicationsForRuntime"), float("inf")]
        return [answer for answer, after in pairwise(answers) if after - answer > _FETCH_SECONDS]

    def created(self, agent: str = "") -> list[Request]:
        """Creations of Applications and their Secrets, by clients whose user agent begins so."""
        return [
            request
            for request in self.log.requests(agent=agent)
            if request.verb == "create"
            and request.status == HTTPStatus.CREATED
            and request.resource in (APPLICATION.plural, SECRET.plural)
            and request.name.startswith(("mp-", "params-mp-"))
        ]

    def wait_for_writes(self, count: int, *, already: int = 0) -> list[Request]:
        """All that so many Applications need beyond those that are there; since `forget`."""
        applications = list(generate(count))[already:]
        needed = sum(1 + any(one.get("defaultInstanceAuth") for one in app["bundles"]) for app in applications)
        written: list[Request] = self.wait_for(
            f"{needed} writes", lambda: found if len(found := self.created()) >= needed else []
        )
        return written

    def cycles(self, pid: int) -> Cost:
        """Of an agent with nothing to do; the cycle that is being worked on is waited for first."""
        self._wait_for_cycles(1)
        self.log.clear()
        before, fetches = cpu_seconds(pid), len(self.fetches())
        self._wait_for_cycles(CYCLES)
        cpu = (cpu_seconds(pid) - before) * 1000 / (len(self.fetches()) - fetches)
        requests: dict[str, int] = {}
        for request in self.log.requests(agent=""):
            if request.is_write and request.resource != "leases":
                what = f"{request.verb} {request.resource}"
                requests[what] = requests.get(what, 0) + 1
        return Cost(cpu, status(pid, "VmRSS") / 1024, status(pid, "Threads"), requests)

    def _wait_for_cycles(self, count: int) -> None:
        """Until so many more fetches have ended, and what follows the last of them is done."""
        before = len(self.fetches())
        self.wait_for(
            "cycles",
            lambda: len(self.fetches()) >= before + count and time.time() - self.fetches()[-1] > _FETCH_SECONDS,
        )

    def change(self, application: Object) -> float:
        """Seconds from the answer of the Director that has a change to the write of it."""
        name = f"mp-{application['name'].replace(' ', '-')}"
        changed = time.time()
        self.world.compass.state.change_application(application["id"], {"description": f"changed at {changed}"})

        def writes() -> list[float]:
            return [
                request.time
                for request in self.log.requests(agent="")
                if request.verb in ("update", "patch") and request.name == name and request.time > changed
            ]

        write = self.wait_for("the change", writes)[0]
        return write - max(answer for answer in self.answers("applicationsForRuntime") if answer <= write)


@contextmanager
def measured_world() -> Iterator[MeasuredWorld]:
    """Nothing is configured and no agent runs.

    The agent's modules are compiled, as those of an installed agent and of the image are, even where
    PYTHONDONTWRITEBYTECODE is set.
    """
    for package in _PACKAGES:
        compileall.compile_dir(_ROOT / package, quiet=1)
    with tempfile.TemporaryDirectory() as folder:
        log = AuditLog(Path(folder), bodies=False)
        with World.local(Path(folder), apiserver_flags=log.flags) as world:
            world.install_crds()
            yield MeasuredWorld(world, log)


def cpu_seconds(pid: int) -> float:
    """Seconds that all threads of a process have run so far, by the scheduler's clock."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def status(pid: int, field: str) -> int:
    """A number of /proc/PID/status, such as VmRSS, in KiB, or Threads."""
    return int(Path(f"/proc/{pid}/status").read_text().partition(f"{field}:")[2].split()[0])


def spread(values: Sequence[float]) -> str:
    """The median, the least and the greatest."""
    if not values:
        return ""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"
