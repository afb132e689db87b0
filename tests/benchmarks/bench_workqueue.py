"""Costs of the work queue beside those of queue.Queue, both measured alternately in one run.

Run: python -m tests.benchmarks.bench_workqueue
"""

import gc
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.benchmarks.measured_world import spread
from tests.clock import VirtualClock
from workqueue import RateLimitingQueue, ShutDown

_ROUNDS = 5
_KEYS = [f"namespace/name-{i}" for i in range(20_000)]
_MANY_KEYS = 1_000_000
_WORKERS = 8
_DELAYED_KEYS = (1_000, 10_000, 100_000, 1_000_000)
_SAMPLE = 10_000


def stdlib_one_by_one() -> None:
    q: queue.Queue[str] = queue.Queue()
    for key in _KEYS:
        q.put(key)
        q.get()
        q.task_done()


def stdlib_filled_first() -> None:
    q: queue.Queue[str] = queue.Queue()
    for key in _KEYS:
        q.put(key)
    for _ in _KEYS:
        q.get()
        q.task_done()


def one_by_one() -> None:
    q = _new_queue()
    for key in _KEYS:
        q.add(key)
        q.done(q.get())


def filled_first() -> None:
    q = _new_queue()
    for key in _KEYS:
        q.add(key)
    for _ in _KEYS:
        q.done(q.get())


def _new_queue() -> RateLimitingQueue[Any]:
    return RateLimitingQueue()


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _row(name: str, figures: list[float], unit: str) -> None:
    print(f"| {name} | {spread(figures)} {unit} |", flush=True)


def compare_with_stdlib() -> None:
    per_key = 1e6 / len(_KEYS)
    for manner, stdlib, ours in (
        ("one by one", stdlib_one_by_one, one_by_one),
        ("filled, then emptied", stdlib_filled_first, filled_first),
    ):
        costs: dict[str, list[float]] = {"queue.Queue": [], "RateLimitingQueue": []}
        for _ in range(_ROUNDS):
            costs["queue.Queue"].append(_seconds(stdlib) * per_key)
            costs["RateLimitingQueue"].append(_seconds(ours) * per_key)
        for name, figures in costs.items():
            _row(f"{name}, {manner}", figures, "us per key")
        pairs = zip(costs["RateLimitingQueue"], costs["queue.Queue"], strict=True)
        _row("RateLimitingQueue / queue.Queue", [cost / base for cost, base in pairs], "times (at most 3)")


def many_keys_many_workers() -> None:
    q: RateLimitingQueue[int] = _new_queue()
    seen: list[list[int]] = [[] for _ in range(_WORKERS)]

    def work(mine: list[int]) -> None:
        while True:
            try:
                key = q.get()
            except ShutDown:
                return
            mine.append(key)
            q.done(key)

    workers = [threading.Thread(target=work, args=(mine,)) for mine in seen]

    def run() -> None:
        for worker in workers:
            worker.start()
        for key in range(_MANY_KEYS):
            q.add(key)
        q.shut_down()
        for worker in workers:
            worker.join()

    seconds = _seconds(run)
    handed_out = [key for mine in seen for key in mine]
    missing = _MANY_KEYS - len(set(handed_out))
    twice = len(handed_out) - len(set(handed_out))
    print(f"{_MANY_KEYS} keys, {_WORKERS} workers: {seconds:.1f} s, {missing} lost, {twice} handed out twice")
    if missing or twice:
        raise SystemExit(1)


def delayed_keys() -> None:
    """One add_after() with n keys waiting already; the figure hardly grows while n grows a thousandfold."""
    for waiting in _DELAYED_KEYS:
        figures = []
        for _ in range(_ROUNDS):
            q: RateLimitingQueue[int] = RateLimitingQueue(clock=VirtualClock())
            # Scattered over the range by a multiplier prime to it: a heap gets neither its best nor its worst case.
            for i in range(waiting):
                q.add_after(i, 1.0 + i * 7_919 % waiting)

            def sample(q: RateLimitingQueue[int] = q, waiting: int = waiting) -> None:
                for i in range(_SAMPLE):
                    q.add_after(waiting + i, 0.5 + i * 7_919 % _SAMPLE / _SAMPLE * waiting)

            figures.append(_seconds(sample) * 1e6 / _SAMPLE)
        _row(f"add_after() with {waiting} keys waiting", figures, "us per call")


def main() -> None:
    print(f"{_ROUNDS} rounds\n\n| | |\n|---|---:|")
    compare_with_stdlib()
    delayed_keys()
    many_keys_many_workers()


if __name__ == "__main__":
    main()
