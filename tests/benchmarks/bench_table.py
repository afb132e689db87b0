"""The agent from the start of its process on, beside a bare loop of requests and, if there is one, another agent.

Run: python -m tests.benchmarks.bench_table [--peer COMMAND] [--rounds 5] [--large 5000,20000]

Prints one table: medians, the least and the greatest in brackets. The contenders take turns, each against a cluster
and a Compass that are as they were before, and each with the same environment: KUBECONFIG, and the settings as
variables that begin with APP_. COMMAND is a program that reads those, such as the Go agent, or a script that gives
it what else it needs and then becomes it (exec): the process itself is measured.
"""

import argparse
import base64
import http.client
import json
import os
import re
import shlex
import ssl
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from typing import Any
from urllib.parse import urlsplit

import requests
import yaml

from controller.resources import APPLICATION, SECRET
from e2e.agent_process import AgentProcess, free_port
from e2e.mock_compass.examples import generate
from informers import Resource
from tests.benchmarks.measured_world import MeasuredWorld, cpu_seconds, measured_world, spread

APPLICATIONS = 200
PERIOD = 5.0  # seconds; the shortest that the Go agent takes
THREADS = (1, 2, 4, 8)
OURS, BARE, PEER = "this agent", "bare loop", "peer"
BARE_AGENT = "bare-loop"
ACCOUNT = "benchmark"
"""The ServiceAccount of the agent in a Pod."""

PAIRED = "start to paired, s"
SYNCHRONISED = "start to synchronised, s"
FIRST_CPU = "CPU until the first sync is done, s"
FIRST_SYNC = "first sync, Director's answer to last write, s"
RATE = "rate of the first sync, relative to the bare loop"
RECONCILES = "reconciles for each Application of a first sync"
CYCLE = "CPU of an unchanged cycle, with the pause before it, ms"
CHANGE = "change, Director's answer to write, s"
RESTART = "killed and restarted in its Pod, to the next call, s"
IN_POD = "resident memory in a Pod, MiB"
RESIDENT = "resident memory with a kubeconfig, MiB"
RUNNING_THREADS = "threads"

GOALS = {
    IN_POD: "48",
    RESIDENT: "50",
    RUNNING_THREADS: "30",
    RATE: "0.85",
    CYCLE: "10",
    PAIRED: "0.6",
    SYNCHRONISED: "2",
    RECONCILES: "1.1",
    FIRST_CPU: "1.5",
    FIRST_SYNC: "0.8",
    CHANGE: "0.5",
    RESTART: "2",
}
LARGE_GOALS = {5_000: ("80", "90"), 20_000: ("", "180")}
"""By Applications: CPU of an unchanged cycle in ms, resident memory in MiB."""

_UID = "00000000-0000-0000-0000-000000000000"
_KEPT = ("name", "namespace", "labels", "ownerReferences")
_RECONCILES = re.compile(r'^controller_runtime_reconcile_total\{controller="application".*\} (\S+)$', re.MULTILINE)

Object = dict[str, Any]
Objects = Sequence[tuple[Object, Sequence[Object]]]


class Bench:
    def __init__(self, measured: MeasuredWorld) -> None:
        self.measured = measured
        self.world = measured.world
        self._figures: dict[tuple[str, str], list[float]] = {}
        self._account = self.world.directory / "serviceaccount"
        self._metrics_port = free_port()

    def note(self, line: str, contender: str, value: float) -> None:
        self._figures.setdefault((line, contender), []).append(value)

    def figures(self, line: str, contender: str) -> list[float]:
        return self._figures.get((line, contender), [])

    def agent(self, contender: str, command: Sequence[str], count: int) -> None:
        """All lines of the table but memory in a Pod, for one contender."""
        self.measured.fresh(count)
        process = self._process(contender, command)
        started = self._start(process)
        signed = self.measured.wait_for("a certificate", lambda: self.measured.answers("signCertificate"))
        self.note(PAIRED, contender, signed[0] - started)
        writes = self.measured.wait_for_writes(count)
        self.note(FIRST_CPU, contender, cpu_seconds(process.pid))
        self.note(FIRST_SYNC, contender, writes[-1].time - self.measured.answers("applicationsForRuntime")[0])
        self.measured.wait_for("the state Synchronized", lambda: self.world.state() == "Synchronized")
        self.note(SYNCHRONISED, contender, time.time() - started)
        if contender == OURS:
            metrics = requests.get(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=10).text
            self.note(RECONCILES, contender, sum(map(float, _RECONCILES.findall(metrics))) / count)
        cost = self.measured.cycles(process.pid)
        self.note(CYCLE, contender, cost.cpu)
        self.note(RESIDENT, contender, cost.resident)
        self.note(RUNNING_THREADS, contender, cost.threads)
        self.note(CHANGE, contender, self.measured.change(next(iter(generate(1)))))
        process.kill()
        calls = len(self.world.compass.requests.all())
        started = self._start(process)
        call = self.measured.wait_for("a call", lambda: self.world.compass.requests.all()[calls:])
        self.note(RESTART, contender, call[0].time - started)
        process.stop()

    def in_pod(self, count: int) -> None:
        """Memory with the configuration of a Pod: a token in a file, and no kubeconfig."""
        self.measured.fresh(count)
        if not self._account.exists():
            self._create_account()
        host, port = urlsplit(self.world.control_plane.url).netloc.split(":")
        process = self._process(OURS, [sys.executable, "-m", "tests.benchmarks.in_pod", str(self._account)])
        process.environment |= {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port, "KUBECONFIG": ""}
        process.environment["MALLOC_ARENA_MAX"] = "1"  # of the image
        process.start()
        self.measured.wait_for_writes(count)
        self.note(IN_POD, OURS, self.measured.cycles(process.pid).resident)
        process.stop()

    def _process(self, contender: str, command: Sequence[str]) -> AgentProcess:
        return self.world.agent(
            contender.replace(" ", "-"),
            command=command,
            CONTROLLER_SYNC_PERIOD=f"{PERIOD:g}s",
            LEADER_ELECTION="true",
            METRICS_PORT=str(self._metrics_port),
            POD_UID=str(uuid.uuid4()),
        )

    @staticmethod
    def _start(process: AgentProcess) -> float:
        started = time.time()
        process.start()
        return started

    def _create_account(self) -> None:
        client = self.world.client
        account = Resource("", "v1", "serviceaccounts", "ServiceAccount")
        binding = Resource(
            "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
        )
        metadata = {"name": ACCOUNT, "namespace": "kyma-system"}
        client.create(account, {"apiVersion": "v1", "kind": account.kind, "metadata": metadata})
        role = {"apiGroup": binding.group, "kind": "ClusterRole", "name": "cluster-admin"}
        subjects = [{"kind": account.kind, "name": ACCOUNT, "namespace": "kyma-system"}]
        obj = {"apiVersion": binding.api_version, "kind": binding.kind, "metadata": {"name": ACCOUNT}}
        client.create(binding, {**obj, "roleRef": role, "subjects": subjects})
        path = f"{account.path('kyma-system')}/{ACCOUNT}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 86400}}
        self._account.mkdir()
        (self._account / "token").write_text(client.request("POST", path, body=body)["status"]["token"])
        (self._account / "ca.crt").write_bytes(self.world.control_plane.ca_pem)

    def objects(self) -> Objects:
        """Each Application and its Secrets, as they were before they were created."""
        secrets: dict[str, list[Object]] = {}
        for secret in self.world.secrets().values():
            new = _new(secret, SECRET)
            new["metadata"]["ownerReferences"][0]["uid"] = _UID
            secrets.setdefault(secret["metadata"]["labels"]["app"], []).append(new)
        applications = self.world.applications().items()
        return [(_new(application, APPLICATION), secrets.get(name, [])) for name, application in applications]

    def bare_loop(self, objects: Objects, threads: int) -> float:
        """Seconds for the same objects from prepared bytes, over one connection of each thread."""
        self.measured.fresh(0)
        server = Server(self.world.kubeconfig)
        prepared = [
            (json.dumps(application).encode(), [json.dumps(secret).encode() for secret in secrets])
            for application, secrets in objects
        ]
        began = time.time()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(server.create, prepared))
        return self.measured.created(BARE_AGENT)[-1].time - began


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


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


def _new(obj: Object, resource: Resource) -> Object:
    kept = {key: value for key, value in obj["metadata"].items() if key in _KEPT}
    return {**obj, "kind": resource.kind, "apiVersion": resource.api_version, "metadata": kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=shlex.split, help="command of another agent, to run in turns with this one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", default="5000,20000", help="further numbers of Applications; empty: none")
    options = parser.parse_args()
    contenders = {OURS: [sys.executable, "-m", "controller"]} | ({PEER: options.peer} if options.peer else {})
    with measured_world() as measured:
        bench = Bench(measured)
        threads = 0
        for _ in range(options.rounds):
            bench.in_pod(APPLICATIONS)
            for contender, command in contenders.items():
                bench.agent(contender, command, APPLICATIONS)
                if contender == OURS:
                    objects = bench.objects()
            threads = threads or min(THREADS, key=lambda number: bench.bare_loop(objects, number))
            bench.note(FIRST_SYNC, BARE, bench.bare_loop(objects, threads))
            for contender in contenders:
                seconds = bench.figures(FIRST_SYNC, contender)[-1]
                bench.note(RATE, contender, bench.figures(FIRST_SYNC, BARE)[-1] / seconds)
        print_table(bench, options.rounds, [OURS, BARE, *([PEER] if options.peer else [])], threads)
    for count in map(int, filter(None, options.large.split(","))):
        with measured_world() as measured:
            large(Bench(measured), count)


def print_table(bench: Bench, rounds: int, contenders: list[str], threads: int) -> None:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{rounds} rounds on {os.cpu_count()} cores, load averages at the end {load}")
    print(f"{APPLICATIONS} Applications, period {PERIOD:g} s; the bare loop has {threads} threads\n")
    print(f"| | {' | '.join(contenders)} | goal |\n|---|{'---:|' * len(contenders)}---:|")
    for line, goal in GOALS.items():
        cells = [spread(bench.figures(line, contender)) for contender in contenders]
        print(f"| {line} | {' | '.join(cells)} | {goal} |", flush=True)


def large(bench: Bench, count: int) -> None:
    """Once: a round takes minutes."""
    bench.measured.fresh(count)
    process = bench.world.agent(CONTROLLER_SYNC_PERIOD=f"{PERIOD:g}s", LEADER_ELECTION="true")
    process.start()
    bench.measured.wait_for_writes(count)
    cost = bench.measured.cycles(process.pid)
    process.stop()
    cpu_goal, resident_goal = LARGE_GOALS.get(count, ("", ""))
    print(f"\n| with {count:,} Applications | this agent | goal |\n|---|---:|---:|")
    print(
        f"| {CYCLE} | {cost.cpu:.0f} | {cpu_goal} |\n| {RESIDENT} | {cost.resident:.0f} | {resident_goal} |", flush=True
    )


if __name__ == "__main__":
    main()
