"""The client key that is made ahead: one, when it will be needed, and never a second one beside it."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from controller.prepared_key import PreparedKey
from workqueue.clock import RealClock


class Cache:
    has_synced = True


class Keys:
    """Makes keys that are only told apart; `hold` keeps each waiting until it is set."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.hold = threading.Event()
        self.hold.set()
        self.begun = threading.Event()
        self.error: Exception | None = None

    def new(self) -> Any:
        self.begun.set()
        assert self.hold.wait(60)
        if self.error is not None:
            raise self.error
        self.made.append(f"key {len(self.made)}")
        return self.made[-1]


def prepared(keys: Keys, *, expected: bool = True, caches: tuple[Cache, ...] = (Cache(),)) -> PreparedKey:
    return PreparedKey(keys.new, caches=caches, is_expected=lambda: expected, clock=RealClock())


def test_the_key_that_was_made_ahead_is_taken() -> None:
    """Once: the next one is new."""
    keys = Keys()
    key = prepared(keys)
    key.run(threading.Event())
    assert keys.begun.wait(60)
    assert [key.take(), key.take()] == ["key 0", "key 1"]  # type: ignore[comparison-overlap]
    assert keys.made == ["key 0", "key 1"]


def test_a_key_that_is_being_made_is_waited_for() -> None:
    """Not another one beside it."""
    keys = Keys()
    keys.hold.clear()
    key = prepared(keys)
    key.run(threading.Event())
    assert keys.begun.wait(60)
    taken: list[Any] = []
    taker = threading.Thread(target=lambda: taken.append(key.take()))
    taker.start()
    keys.hold.set()
    taker.join(60)
    assert taken == keys.made == ["key 0"]


def test_without_a_pairing_to_come_none_is_made() -> None:
    """With credentials that are stored, or with nothing configured."""
    keys = Keys()
    prepared(keys, expected=False).run(threading.Event())
    assert not keys.begun.is_set()


def test_what_was_asked_for_before_is_not_made_again() -> None:
    """The pairing was quicker than the caches of this thread."""
    keys = Keys()
    key = prepared(keys)
    assert key.take() == "key 0"  # type: ignore[comparison-overlap]
    key.run(threading.Event())
    assert keys.made == ["key 0"]


def test_a_failure_is_told_to_whoever_takes_the_key() -> None:
    """And the next one is tried anew."""
    keys = Keys()
    keys.error = MemoryError("no entropy")
    key = prepared(keys)
    key.run(threading.Event())
    with pytest.raises(MemoryError, match="no entropy"):
        key.take()
    keys.error = None
    assert key.take() == "key 0"  # type: ignore[comparison-overlap]


def test_nothing_is_decided_before_the_caches_are_filled() -> None:
    """They say whether there are credentials already."""
    keys, cache = Keys(), Cache()
    cache.has_synced = False
    key = prepared(keys, caches=(Cache(), cache))
    stop = threading.Event()
    runner = threading.Thread(target=key.run, args=(stop,))
    runner.start()
    assert not keys.begun.wait(0.1)
    cache.has_synced = True
    runner.join(60)
    assert keys.begun.wait(60)
    assert key.take() == "key 0"  # type: ignore[comparison-overlap]


def test_a_stop_ends_the_wait() -> None:
    """Caches may never be filled, and a key takes seconds."""
    keys, cache = Keys(), Cache()
    cache.has_synced = False
    stop = threading.Event()
    stop.set()
    prepared(keys, caches=(cache,)).run(stop)
    assert not keys.begun.is_set()
    keys.hold.clear()
    runs: Callable[[threading.Event], None] = prepared(keys).run
    runs(threading.Event())  # returns although the key is not made yet
    keys.hold.set()
