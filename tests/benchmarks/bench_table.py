"""The agent from the start of its process on, beside a bare loop of requests and, if there is one, another agent.

Run: python tests/benchmarks/bench_table.py [--peer COMMAND] [--rounds 5] [--applications 200] [--large 5000]

Prints one table: medians, the least and the greatest in brackets. The contenders take turns, each against a cluster
and a Compass that are as they were before, and each with the same environment: KUBECONFIG, and the settings as
variables that begin with APP_. COMMAND is a program that reads those, such as the Go agent, or a script that gives
it what else it needs and then becomes it (exec): the process itself is measured.

Times of writes are those of the API server's audit log, times of answers those of the mock Compass, CPU and memory are
those of /proc. All of them share one machine, so compare figures of one run. Nothing else should run beside.
"""

import argparse
import base64
import http.client
import json
import os
import shlex
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from threading import local
from typing import Any, cast
from urllib.parse import urlsplit

import yaml

from controller.resources import APPLICATION, SECRET
from e2e.mock_compass.examples import generate
from e2e.world import World
from tests.benchmarks.measured_world import (
    WAIT,
    cpu_seconds,
    delete_objects,
    measured_world,
    memory_mib,
    stored_objects,
)
from tests.support.audit_log import AuditLog, Request

PERIOD = 5.0  # seconds; the shortest that the Go agent takes
CYCLES = 5
THREADS = (1, 2, 4, 8)
OURS, BARE, PEER = "this agent", "bare loop", "peer"
BARE_AGENT = "bare-loop"

PAIRED = "process start to paired, s"
FIRST_CPU = "CPU until the first sync is done, s"
RESIDENT = "resident memory, MiB"
CYCLE = "CPU of an unchanged cycle, ms"
FIRST_SYNC = "first sync, Director's answer to last write, s"
CHANGE = "change, Director's answer to write, s"
RESTART = "killed and restarted in its Pod, to the next call, s"
LINES = (PAIRED, FIRST_CPU, RESIDENT, CYCLE, FIRST_SYNC, CHANGE, RESTART)

Object = dict[str, Any]
Objects = Sequence[tuple[Object, Sequence[Object]]]


class Process:
    """One contender's process."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}
        self._command, self._environment, self._log = command, {**clean, **environment}, log
        self._process: subprocess.Popen[bytes] | None = None
        self.started = 0.0

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.started = time.time()
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)

    def end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(WAIT)
            self._process = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"{self._command} has ended; its log is {self._log.read_text()[-2000:]}")
        return self._process.pid

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        return cpu_seconds(self.pid)

    def resident(self) -> float:
        """MiB."""
        return memory_mib(self.pid, "VmRSS")


@dataclass
class Bench:
    world: World
    log: AuditLog
    figures: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def note(self, line: str, contender: str, value: float) -> None:
        self.figures.setdefault((line, contender), []).append(value)

    # --- one agent ---

    def agent(self, contender: str, command: Sequence[str], count: int) -> None:
        """All lines of the table, for one contender."""
        process = Process(command, self._environment(), self.world.directory / f"{contender}.log")
        self._fresh(count)
        process.start()
        try:
            self._first_sync(process, contender, count)
            self._unchanged(process, contender)
            self._change(contender)
            process.end(signal.SIGKILL)
            calls = len(self.world.compass.requests.all())
            process.start()
            call = self.world.wait_for("a call", lambda: self.world.compass.requests.all()[calls:], timeout=WAIT)
            self.note(RESTART, contender, call[0].time - process.started)
        finally:
            process.end(signal.SIGTERM)

    def large(self, contender: str, command: Sequence[str], count: int) -> tuple[float, float]:
        """Milliseconds of CPU of an unchanged cycle, and MiB resident, with so many Applications."""
        process = Process(command, self._environment(), self.world.directory / f"{contender}.log")
        self._fresh(count)
        process.start()
        try:
            self._wait_for_writes(count)
            one = Bench(self.world, self.log)
            one._unchanged(process, contender)
            return one.figures[CYCLE, contender][0], one.figures[RESIDENT, contender][0]
        finally:
            process.end(signal.SIGTERM)

    def _environment(self) -> dict[str, str]:
        settings = self.world.environment(
            CONTROLLER_SYNC_PERIOD=f"{PERIOD:g}s", LEADER_ELECTION="true", POD_UID=str(uuid.uuid4())
        )
        return {**settings, "KUBECONFIG": str(self.world.kubeconfig)}

    def _fresh(self, count: int) -> None:
        """A cluster without a trace of an agent, and a Compass that assigns so many Applications."""
        delete_objects(self.world)
        self.world.reset()
        self.world.compass.generate_applications(count)
        self.world.configure()
        self.world.compass.requests.clear()
        self.log.clear()

    def _first_sync(self, process: Process, contender: str, count: int) -> None:
        signed = self.world.wait_for("a certificate", lambda: self._answers("signCertificate"), timeout=WAIT)
        self.note(PAIRED, contender, signed[0] - process.started)
        writes = self._wait_for_writes(count)
        self.note(FIRST_CPU, contender, process.cpu())
        self.note(FIRST_SYNC, contender, writes[-1].time - self._answers("applicationsForRuntime")[0])

    def _unchanged(self, process: Process, contender: str) -> None:
        self._wait_for_cycles(1)
        before, cycles = process.cpu(), len(self._fetches())
        self._wait_for_cycles(CYCLES)
        spent = process.cpu() - before
        self.note(CYCLE, contender, spent * 1000 / (len(self._fetches()) - cycles))
        self.note(RESIDENT, contender, process.resident())

    def _change(self, contender: str) -> None:
        application = next(iter(generate(1)))
        changed = time.time()
        text = f"changed at {changed}"
        self.world.compass.state.change_application(application["id"], {"description": text})
        write = self.world.wait_for("the change", lambda: self._updates(since=changed), timeout=WAIT)[0].time
        answers = [answer for answer in self._answers("applicationsForRuntime") if changed <= answer <= write]
        self.note(CHANGE, contender, write - answers[0])

    def _answers(self, operation: str) -> list[float]:
        return [request.time for request in self.world.compass.requests.all() if operation in request.operation]

    def _fetches(self) -> list[float]:
        """When fetches ended: answers that lie close together belong to one."""
        answers = self._answers("applicationsForRuntime")
        return [answer for answer, after in pairwise([*answers, float("inf")]) if after - answer > PERIOD / 2]

    def _wait_for_cycles(self, count: int) -> None:
        """Until so many more fetches have ended, and what follows the last of them is done."""
        before = len(self._fetches())
        self.world.wait_for(
            "cycles",
            lambda: len(self._fetches()) >= before + count and time.time() - self._fetches()[-1] > PERIOD / 4,
            timeout=WAIT,
        )

    def _wait_for_writes(self, count: int) -> list[Request]:
        """All that are needed for so many Applications."""
        needed = count + sum(_has_secret(application) for application in generate(count))
        written: list[Request] = self.world.wait_for(
            f"{needed} writes",
            lambda: created if len(created := self._created("")) >= needed else [],
            timeout=WAIT,
        )
        return written

    def _created(self, agent: str) -> list[Request]:
        return [
            request
            for request in self.log.requests(agent=agent)
            if request.verb == "create"
            and request.status == http.client.CREATED
            and request.resource in (APPLICATION.plural, SECRET.plural)
            and request.name.startswith(("mp-", "params-mp-"))
        ]

    def _updates(self, *, since: float) -> list[Request]:
        return [
            request
            for request in self.log.requests(agent="")
            if request.verb in ("update", "patch") and request.resource == APPLICATION.plural and request.time > since
        ]

    # --- the bare loop ---

    def bare_loop(self, objects: Objects, threads: int) -> float:
        """Seconds for the same objects from prepared bytes, over one connection of each thread."""
        delete_objects(self.world)
        self.log.clear()
        server = Server(self.world.kubeconfig)
        prepared = [
            (json.dumps(application).encode(), [json.dumps(secret).encode() for secret in secrets])
            for application, secrets in objects
        ]
        began = time.time()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(server.create, prepared))
        return self._created(BARE_AGENT)[-1].time - began


class Server:
    """The API server over http.client, with nothing between."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._netloc = urlsplit(cluster["server"]).netloc
        self._context = ssl.create_default_context(cadata=_decoded(cluster["certificate-authority-data"]))
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(_decoded(user["client-certificate-data"]) + _decoded(user["client-key-data"]))
            file.flush()
            self._context.load_cert_chain(file.name)
        self._of_thread = local()

    def create(self, prepared: tuple[bytes, list[bytes]]) -> None:
        application, secrets = prepared
        uid = json.loads(self._post(APPLICATION.path(), application))["metadata"]["uid"]
        for secret in secrets:
            self._post(SECRET.path("kyma-system"), secret.replace(_UID.encode(), uid.encode()))

    def _post(self, path: str, body: bytes) -> bytes:
        if not hasattr(self._of_thread, "connection"):
            self._of_thread.connection = http.client.HTTPSConnection(self._netloc, context=self._context)
        connection: http.client.HTTPSConnection = self._of_thread.connection
        connection.request("POST", path, body, {"Content-Type": "application/json", "User-Agent": BARE_AGENT})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != http.client.CREATED:
            raise RuntimeError(f"{answer.status}: {text!r}")
        return text


_UID = "00000000-0000-0000-0000-000000000000"


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


def _prepared(objects: Objects) -> Objects:
    for _, secrets in objects:
        for secret in secrets:
            secret["metadata"]["ownerReferences"][0]["uid"] = _UID
    return objects


def _has_secret(application: Object) -> bool:
    return any(bundle.get("defaultInstanceAuth") for bundle in application["bundles"])


@contextmanager
def bench() -> Iterator[Bench]:
    with measured_world() as (world, log):
        yield Bench(world, log)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=shlex.split, help="command of another agent, to run in turns with this one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--applications", type=int, default=200)
    parser.add_argument("--large", type=int, default=5_000, help="0 leaves it out")
    options = parser.parse_args()
    contenders = {OURS: [sys.executable, "-m", "controller"]} | ({PEER: options.peer} if options.peer else {})
    with bench() as one:
        threads = 0
        for _ in range(options.rounds):
            for contender, command in contenders.items():
                one.agent(contender, command, options.applications)
                if contender == OURS:
                    objects = _prepared(stored_objects(one.world))
            threads = threads or _best(one, objects)
            one.note(FIRST_SYNC, BARE, one.bare_loop(objects, threads))
        print_table(one, options, list(contenders), threads)
        if options.large:
            cpu, resident = one.large(OURS, contenders[OURS], options.large)
            print(f"\nwith {options.large:,} Applications: {cpu:.0f} ms of CPU a cycle, {resident:.0f} MiB")


def _best(one: Bench, objects: Objects) -> int:
    """The number of threads with which the bare loop is quickest."""
    return min(THREADS, key=lambda threads: one.bare_loop(objects, threads))


def print_table(one: Bench, options: argparse.Namespace, agents: list[str], threads: int) -> None:
    contenders = [OURS, BARE, *(agent for agent in agents if agent != OURS)]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{options.rounds} rounds on {os.cpu_count()} cores, load averages at the end {load}\n")
    print(f"{options.applications} Applications, period {PERIOD:g} s; the bare loop has {threads} threads\n")
    print("| | " + " | ".join(contenders) + " |\n|---|" + "---:|" * len(contenders))
    for line in LINES:
        cells = [_spread(one.figures.get((line, contender), [])) for contender in contenders]
        print(f"| {line} | " + " | ".join(cells) + " |")
    ours, bare = one.figures[FIRST_SYNC, OURS], one.figures[FIRST_SYNC, BARE]
    print(f"\nrate of the first sync / bare loop: {_spread([b / a for a, b in zip(ours, bare, strict=True)])}")


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    form = cast("Callable[[float], str]", "{:.3g}".format)
    return f"{form(statistics.median(values))} ({form(min(values))} to {form(max(values))})"


if __name__ == "__main__":
    main()
