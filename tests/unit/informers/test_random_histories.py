"""Random histories: after any faults the cache equals the server, and handlers have seen a possible story.

A failure prints its seed: HISTORY_SEED=123 pytest tests/unit/informers/test_random_histories.py
"""

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from informers import DeletedFinalStateUnknown, EventHandlers, ListerWatcher, SharedInformer, client
from informers.transport import Stop
from tests.fake_api_server.objects import WIDGETS, status, widget
from tests.fake_api_server.server import (
    Answer,
    CloseWithoutAnswer,
    CutMidLine,
    End,
    EndMidLine,
    FakeAPIServer,
    Fault,
    NoAnswer,
    Raw,
    Silent,
    Twice,
)
from tests.fake_api_server.waiting import FastClock

Object = dict[str, Any]

SCALE = 100.0  # so many seconds of the informer pass in one
NAMES = [f"w{number}" for number in range(8)]
STEPS = 50
# The longest way back: back-offs of a minute, two silent watches, a list that nobody answers. In seconds of the clock.
PATIENCE = 2000
FIRST_SEED = int(os.environ.get("HISTORY_SEED", "1"))
AT_A_TIME = 30


def line(kind: str, obj: Object) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


GHOST = widget("ghost", 99_999_999)  # must not be used
TABLE = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": "9"}, "rows": []}
FAULTS: dict[str, list[Fault]] = {
    "list": [
        Answer(500, "InternalError"),
        Answer(429, "TooManyRequests", retry_after="1"),
        Answer(403, "Forbidden"),
        Answer(410, "Expired"),
        Answer(200, body=b"<html><body>Please log in</body></html>"),
        Answer(200, body=json.dumps(TABLE).encode()),
        CloseWithoutAnswer(),
        NoAnswer(),
    ],
    "watch": [
        Answer(500, "InternalError"),
        Answer(429, "TooManyRequests"),
        Answer(410, "Expired"),
        CloseWithoutAnswer(),
        End(),
        End(after=2),
        EndMidLine(after=1),
        CutMidLine(after=2),
        Twice(),
        Silent(),
        Raw(line("ERROR", status(410, "Expired")) + line("ADDED", GHOST)),
        Raw(line("ERROR", status(500, "InternalError"))),
        Raw(b'{"type": "MODIFIED", "object": {"kind": \n'),
        Raw(line("ADDED", GHOST | {"kind": "Gadget"})),
    ],
}
SERVER_FAULTS = ["restart", "outage", "compaction", "restore", "restore unnoticed", "restore told"]


@dataclass
class Witness:
    """What a handler is told, and what of it is impossible."""

    state: dict[str, Object] = field(default_factory=dict)
    impossible: list[str] = field(default_factory=list)

    def add(self, obj: Object, is_initial_list: bool) -> None:
        name = obj["metadata"]["name"]
        if name in self.state:
            self.impossible.append(f"add of {name}, which is there")
        self.state[name] = obj

    def update(self, old: Object, new: Object) -> None:
        name = new["metadata"]["name"]
        if self.state.get(name) != old:
            self.impossible.append(f"update of {name} from another state than the last one")
        if old == new:
            self.impossible.append(f"update of {name} without a change")
        self.state[name] = new

    def delete(self, obj: Object | DeletedFinalStateUnknown) -> None:
        name = obj.key.partition("/")[2] if isinstance(obj, DeletedFinalStateUnknown) else obj["metadata"]["name"]
        if self.state.pop(name, None) is None:
            self.impossible.append(f"deletion of {name}, which is not there")

    @property
    def handlers(self) -> EventHandlers:
        return EventHandlers(on_add=self.add, on_update=self.update, on_delete=self.delete)


@dataclass(frozen=True)
class Outcome:
    seed: int
    wrong: list[str]
    met: Counter[str]


def play(seed: int) -> Outcome:
    """One history."""
    rng = Random(seed)
    faults = {verb: rng.sample(those, rng.randint(1, 6)) for verb, those in FAULTS.items()}
    server_faults = rng.sample(SERVER_FAULTS, rng.randint(1, 3))
    probability = rng.choice((0.3, 0.6, 0.9))
    choices = Random(f"{seed} faults")
    met: Counter[str] = Counter()

    def choose(verb: str) -> Fault | None:
        fault = choices.choice(faults[verb]) if choices.random() < probability else None
        met[f"{verb}: {fault}"] += fault is not None
        return fault

    witness = Witness()
    with FakeAPIServer() as server:
        server.choose = choose
        server.cluster.page_size = rng.choice((None, 3))
        for name in rng.sample(NAMES, rng.randint(0, len(NAMES))):
            server.cluster.put(name)
        informer = SharedInformer(
            ListerWatcher(server.client(watch_read_timeout=70 / SCALE, clock=FastClock(SCALE)), WIDGETS),
            name=f"history-{seed}",
            clock=FastClock(SCALE),
            random=rng.random,
            watch_list=rng.random() < 0.4,
        )
        informer.add_event_handler(witness.handlers)
        stop = Stop()
        thread = threading.Thread(target=informer.run, args=(stop,), name=f"history-{seed}")
        thread.start()
        try:
            for _ in range(STEPS):
                _step(rng, server, server_faults, informer, met)
            server.choose = lambda _verb: None
            wrong = _differences(informer, witness, server)
            server.cluster.put("last")
            wrong += _differences(informer, witness, server)
        finally:
            stop.set()
            thread.join(60)
        if thread.is_alive():
            wrong.append("the informer does not stop")
    return Outcome(seed, witness.impossible + wrong, +met)


def _step(
    rng: Random, server: FakeAPIServer, server_faults: list[str], informer: SharedInformer, met: Counter[str]
) -> None:
    cluster = server.cluster
    chance = rng.random()
    if chance < 0.45:
        cluster.put(rng.choice(NAMES), value=rng.randrange(1 << 30))
    elif chance < 0.7:
        cluster.delete(rng.choice(NAMES))
    elif chance < 0.75:
        cluster.back_up()
    elif chance < 0.85:
        fault = rng.choice(server_faults)
        met[f"server: {fault}"] += _meet(fault, server, rng)
    elif chance < 0.9:
        informer.relist()
    elif chance < 0.95:
        cluster.bookmark()
    time.sleep(rng.expovariate(1 / 0.02))


def _meet(fault: str, server: FakeAPIServer, rng: Random) -> bool:
    """A fault of the server as a whole. False if it has no backup to be restored from."""
    is_met = True
    if fault in ("restart", "outage", "restore"):
        server.refuse()
    if fault == "outage":
        time.sleep(rng.uniform(1, 60) / SCALE)
    elif fault.startswith("restore"):
        is_met = server.cluster.restore(tells_older_versions=fault == "restore told")
    else:
        server.cluster.compact()
    if fault in ("restart", "outage", "restore"):
        server.accept()
    return is_met


def _differences(informer: SharedInformer, witness: Witness, server: FakeAPIServer) -> list[str]:
    """[] as soon as cache, handlers and server are equal; what differs after PATIENCE."""
    gives_up = time.monotonic() + PATIENCE / SCALE
    while True:
        with server.cluster.changed:
            actual = {obj["metadata"]["name"]: obj for obj in server.cluster.objects.values()}
        cached = {obj["metadata"]["name"]: obj for obj in informer.indexer.list()}
        wrong = [
            f"{what} differs"
            for what, seen in (("the cache", cached), ("the handler", witness.state))
            if seen != actual
        ]
        if not wrong:
            return []
        if time.monotonic() > gives_up:
            return [f"{each}; last error: {informer.last_error}" for each in wrong]
        server.cluster.bookmark()  # so that a watch is not ended because it is silent
        time.sleep(0.05)


def play_all(count: int, report: Callable[[str], None]) -> Counter[str]:
    """How often each fault was met. Fails with the seeds of all histories with a wrong end."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        outcomes = [*pool.map(play, range(FIRST_SEED, FIRST_SEED + count))]
    met: Counter[str] = Counter()
    for outcome in outcomes:
        met += outcome.met
    report(f"seeds {FIRST_SEED} to {FIRST_SEED + count - 1}, faults met: {dict(met)}")
    wrong = {outcome.seed: outcome.wrong for outcome in outcomes if outcome.wrong}
    assert not wrong, "\n".join(f"HISTORY_SEED={seed}: {'; '.join(why)}" for seed, why in wrong.items())
    return met


@pytest.fixture(autouse=True)
def _fast_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LIST_TIMEOUT", client.LIST_TIMEOUT / SCALE)


def test_histories() -> None:
    """They meet more than 20 of the kinds of fault; which ones, depends on the machine."""
    met = play_all(60, print)
    assert len(met) > 20


@pytest.mark.slow
def test_many_histories() -> None:
    """The same, many more."""
    play_all(500, print)
