"""Many producers, many workers, threads switched as often as possible: the promises hold."""

import random
import threading
from collections import Counter

from tests.clock import VirtualClock
from tests.unit.workqueue.conftest import Threads
from workqueue import RateLimitingQueue, ShutDown

PRODUCERS = 6
WORKERS = 6
ADDS = 300
KEYS = 20


class Desired:
    """Level-based work: each key has a version that producers raise and workers catch up with."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.wanted: Counter[int] = Counter()
        self.reached: Counter[int] = Counter()
        self.at_work: set[int] = set()
        self.handed_out = 0

    def raise_version(self, key: int) -> None:
        with self.lock:
            self.wanted[key] += 1

    def start(self, key: int) -> int:
        with self.lock:
            assert key not in self.at_work, "one key at two workers"
            self.at_work.add(key)
            self.handed_out += 1
            return self.wanted[key]

    def finish(self, key: int, version: int) -> None:
        with self.lock:
            self.at_work.remove(key)
            self.reached[key] = version


def consume(queue: RateLimitingQueue[int], desired: Desired) -> None:
    while True:
        try:
            key = queue.get()
        except ShutDown:
            return
        version = desired.start(key)
        desired.finish(key, version)
        queue.done(key)


def produce(queue: RateLimitingQueue[int], desired: Desired, seed: int) -> None:
    chooser = random.Random(seed)
    for _ in range(ADDS):
        key = chooser.randrange(KEYS)
        desired.raise_version(key)
        queue.add(key, priority=chooser.randrange(3))


def test_all_work_is_done_by_one_worker_at_a_time(threads: Threads, eager_switching: None) -> None:
    """After the last add of each key a worker starts on it, before the shutdown too, and never two at once."""
    queue: RateLimitingQueue[int] = RateLimitingQueue()
    desired = Desired()
    for _ in range(WORKERS):
        threads.start(consume, queue, desired)
    producers = [threading.Thread(target=produce, args=(queue, desired, seed)) for seed in range(PRODUCERS)]
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join()
    queue.shut_down()
    threads.join()
    assert desired.reached == desired.wanted
    assert desired.handed_out <= PRODUCERS * ADDS
    assert sum(desired.wanted.values()) == PRODUCERS * ADDS


def test_shutdown_amid_adds_hangs_nobody(threads: Threads, eager_switching: None) -> None:
    """Adds, gets and dones that race with the shutdown all end, and what was handed out was with one worker."""
    for seed in range(20):
        queue: RateLimitingQueue[int] = RateLimitingQueue()
        desired = Desired()
        for _ in range(WORKERS):
            threads.start(consume, queue, desired)
        for number in range(PRODUCERS):
            threads.start(produce, queue, desired, seed * PRODUCERS + number)
        threads.start(queue.shut_down)
        threads.join()
        assert len(queue) == 0


def test_delayed_keys_reach_the_workers(clock: VirtualClock, threads: Threads, eager_switching: None) -> None:
    """Delays of many producers all end in work while time goes on, whether workers sleep or race."""
    queue: RateLimitingQueue[int] = RateLimitingQueue(clock=clock)
    desired = Desired()

    def produce_later(seed: int) -> None:
        chooser = random.Random(seed)
        for _ in range(ADDS):
            key = chooser.randrange(KEYS)
            desired.raise_version(key)
            queue.add_after(key, chooser.randrange(5))

    for _ in range(WORKERS):
        threads.start(consume, queue, desired)
    producers = [threading.Thread(target=produce_later, args=(seed,)) for seed in range(PRODUCERS)]
    for producer in producers:
        producer.start()
    while any(producer.is_alive() for producer in producers):
        clock.advance(0.5)
    clock.wait_for_waiters(WORKERS)
    clock.advance(5)
    clock.wait_for_waiters(WORKERS)
    assert desired.reached == desired.wanted
    queue.shut_down()
