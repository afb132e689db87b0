"""Random histories: after any faults the cache equals the server, and handlers have seen a possible story.

A failure prints its seed: HISTORY_SEED=123 pytest tests/unit/informers/test_random_histories.py
"""

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
from kubernetes.client import Configuration

from informers import (
    Client,
    DeletedFinalStateUnknown,
    EventHandlers,
    ListerWatcher,
    Resource,
    SharedInformer,
    client,
)
from informers.credentials import Credentials
from informers.transport import Stop
from tests.unit.informers import history_server
from tests.unit.informers.history_server import LIST_FAULTS, SCALE, SERVER_FAULTS, WATCH_FAULTS, HistoryServer, World

Object = dict[str, Any]

GADGETS = Resource(
    history_server.GROUP, history_server.VERSION, history_server.PLURAL, history_server.KIND, namespaced=False
)
NAMES = [f"g{number}" for number in range(8)]
STEPS = 50
# The longest way back: back-offs of a minute, two silent watches, a list that nobody answers. In seconds of the clock.
PATIENCE = 2000
FIRST_SEED = int(os.environ.get("HISTORY_SEED", "1"))
AT_A_TIME = 30


class FastClock:
    """SCALE times as fast as the clock of the machine."""

    def monotonic(self) -> float:
        return time.monotonic() * SCALE

    def time(self) -> float:
        return time.time()

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        return condition.wait(None if timeout is None else timeout / SCALE)

    def sleep(self, seconds: float, stop: threading.Event) -> bool:
        return stop.wait(seconds / SCALE)


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
        self.state[name] = new

    def delete(self, obj: Object | DeletedFinalStateUnknown) -> None:
        name = obj.key if isinstance(obj, DeletedFinalStateUnknown) else obj["metadata"]["name"]
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
    faults = rng.sample([*LIST_FAULTS, *WATCH_FAULTS], rng.randint(3, 10))
    server_faults = rng.sample([*SERVER_FAULTS], rng.randint(1, 3))
    world = World(rng)
    for name in rng.sample(NAMES, rng.randint(0, len(NAMES))):
        world.put(name)
    witness = Witness()
    with HistoryServer(world, seed=seed, faults=faults, probability=rng.choice((0.3, 0.6, 0.9))) as server:
        configuration = Configuration(host=server.url)
        source = Client(configuration, Credentials(configuration), watch_read_timeout=70 / SCALE, clock=FastClock())
        informer = SharedInformer(
            ListerWatcher(source, GADGETS),
            name=f"history-{seed}",
            clock=FastClock(),
            random=rng.random,
            watch_list=rng.random() < 0.4,
        )
        informer.add_event_handler(witness.handlers)
        stop = Stop()
        thread = threading.Thread(target=informer.run, args=(stop,), name=f"history-{seed}")
        thread.start()
        try:
            for _ in range(STEPS):
                _step(rng, world, server, server_faults, informer)
            server.calm()
            wrong = _differences(informer, witness, world)
            world.put("last")
            wrong += _differences(informer, witness, world)
        finally:
            stop.set()
            thread.join(60)
            source.close()
        if thread.is_alive():
            wrong.append("the informer does not stop")
    return Outcome(seed, witness.impossible + wrong, server.met)


def _step(rng: Random, world: World, server: HistoryServer, server_faults: list[str], informer: SharedInformer) -> None:
    chance = rng.random()
    if chance < 0.45:
        world.put(rng.choice(NAMES))
    elif chance < 0.7 and (names := world.names()):
        world.delete(rng.choice(names))
    elif chance < 0.75:
        world.back_up()
    elif chance < 0.85:
        server.meet(rng.choice(server_faults), rng)
    elif chance < 0.9:
        informer.relist()
    time.sleep(rng.expovariate(1 / 0.02))


def _differences(informer: SharedInformer, witness: Witness, world: World) -> list[str]:
    """[] as soon as cache, handlers and server are equal; what differs after PATIENCE."""
    gives_up = time.monotonic() + PATIENCE / SCALE
    while True:
        with world.changed:
            actual = dict(world.objects)
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
        time.sleep(0.01)


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
    """They meet more than 25 of the kinds of fault; which ones, depends on the machine."""
    met = play_all(60, print)
    assert len(met) > 25


@pytest.mark.slow
def test_many_histories() -> None:
    """The same, many more."""
    play_all(500, print)
