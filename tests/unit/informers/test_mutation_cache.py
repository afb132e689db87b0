"""Own writes over a cache that has not heard of them yet."""

import gc
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from informers import Indexer, Lister, MutationCache, NotFound
from informers.mutation_cache import TTL
from informers.testing.objects import WIDGETS, widget
from workqueue.testing import VirtualClock

Object = dict[str, Any]
V1, V2, V3 = widget("a", "1"), widget("a", "2"), widget("a", "3")
OTHERS = widget("a", "other")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def indexer() -> Indexer:
    indexer = Indexer({"color": lambda obj: obj["spec"].get("colors", ())})
    indexer.put("default/a", V1, "1")
    return indexer


@pytest.fixture
def cache(indexer: Indexer, clock: VirtualClock) -> MutationCache:
    return MutationCache(Lister(indexer, WIDGETS), clock=clock)


def seen(cache: MutationCache) -> Object | None:
    return cache.get("a", "default")


def created_again(indexer: Indexer, cache: MutationCache) -> Object:
    """An own creation in the place of what is known to be gone: seen also when the cache hears that it went."""
    assert seen(cache) is None
    again = widget("a", "9", uid="another")
    cache.mutated(again, base=None)
    assert seen(cache) is again
    indexer.remove("default/a", "5")
    assert seen(cache) is again
    return again


def test_write_is_seen_until_the_cache_moves(indexer: Indexer, cache: MutationCache) -> None:
    """First the own write; from the first event on, the cache."""
    cache.mutated(V2, base=V1)
    assert seen(cache) is V2
    indexer.put("default/a", OTHERS, "other")
    assert seen(cache) is OTHERS


def test_writes_on_top_of_each_other(indexer: Indexer, cache: MutationCache) -> None:
    """While the events of earlier own writes come in, the last one is seen."""
    cache.mutated(V2, base=V1)
    cache.mutated(V3, base=V2)
    assert seen(cache) is V3
    indexer.put("default/a", widget("a", "2"), "2")
    assert seen(cache) is V3
    indexer.put("default/a", OTHERS, "other")
    assert seen(cache) is OTHERS


def test_write_that_the_cache_knows_already(indexer: Indexer, cache: MutationCache) -> None:
    """The event was quicker than the answer: the cache is right, and what follows in it counts."""
    indexer.put("default/a", V3, "3")
    cache.mutated(V2, base=V1)
    assert seen(cache) is V3


def test_create_and_delete(indexer: Indexer, cache: MutationCache) -> None:
    """Absence is a state like others."""
    cache.deleted("a", "default", base=V1)
    again = created_again(indexer, cache)
    indexer.put("default/a", again, "9")
    indexer.remove("default/a", "10")
    assert seen(cache) is None


def test_cache_that_returns_to_the_base_has_moved(indexer: Indexer, cache: MutationCache) -> None:
    """Created by us, seen in the cache, deleted by another: gone, though absence is what the write was based on."""
    indexer.remove("default/a", "2")
    cache.mutated(V3, base=None)
    indexer.put("default/a", V3, "3")
    indexer.remove("default/a", "4")
    assert seen(cache) is None


def test_a_list_moves_the_cache(indexer: Indexer, cache: MutationCache) -> None:
    """Also when it repeats nothing of the object."""
    cache.mutated(V2, base=V1)
    indexer.replace({"default/a": OTHERS}, "7")
    indexer.replace({"default/a": V1}, "8")
    assert seen(cache) is V1


def test_same_version_of_another_object(indexer: Indexer, cache: MutationCache) -> None:
    """uid and version make the base: versions of different objects may look alike."""
    indexer.put("default/a", widget("a", "1", uid="another"), "1")
    cache.mutated(V2, base=V1)
    assert seen(cache) == widget("a", "1", uid="another")


def gone() -> Object:
    raise NotFound("there is none", status=404, reason="NotFound")


def test_a_write_on_top_of_what_a_refused_one_ran_into(indexer: Indexer, cache: MutationCache) -> None:
    """What the API server has is newer than the cache; the write on it is seen until the cache moves."""
    assert cache.refresh("a", "default", lambda: V2) is V2
    assert seen(cache) is V2
    cache.mutated(V3, base=V2)
    assert seen(cache) is V3
    indexer.put("default/a", OTHERS, "other")
    assert seen(cache) is OTHERS


def test_a_refused_write_ran_into_a_deletion(indexer: Indexer, cache: MutationCache) -> None:
    """What was created in the place of the deleted object is seen, not the deleted one."""
    assert cache.refresh("a", "default", gone) is None
    created_again(indexer, cache)
    indexer.put("default/a", OTHERS, "other")
    assert seen(cache) is OTHERS


@pytest.mark.parametrize("newer", ["own write", "event"])
def test_what_the_api_server_had_is_old_when_more_is_known_by_now(
    indexer: Indexer, cache: MutationCache, newer: str
) -> None:
    """Another thread wrote, or the cache moved, while it was asked."""

    def fetch() -> Object:
        if newer == "event":
            indexer.put("default/a", V3, "3")
        else:
            cache.mutated(V3, base=V1)
        return V2

    assert cache.refresh("a", "default", fetch) is V2
    assert seen(cache) is V3


def test_entries_end(cache: MutationCache, clock: VirtualClock) -> None:
    """A write whose event never comes is forgotten after a while."""
    cache.mutated(V2, base=V1)
    clock.advance(TTL - 1)
    assert seen(cache) is V2
    clock.advance(1)
    assert seen(cache) is V1


class Tracked(dict[str, Any]):
    """Can be referred to weakly."""


@pytest.mark.parametrize("then", ["another own write", "a change of the cache"])
def test_entries_that_nobody_reads_end_too(
    indexer: Indexer, cache: MutationCache, clock: VirtualClock, then: str
) -> None:
    """They hold no memory for ever."""
    obj = Tracked(widget("never-read", 2))
    held = weakref.ref(obj)
    cache.mutated(obj, base=None)
    del obj
    clock.advance(TTL)
    assert held() is not None
    if then == "another own write":
        cache.mutated(V2, base=V1)
    else:
        indexer.put("default/a", V2, "2")
    gc.collect()
    assert held() is None


def test_created_seen_and_deleted_before_the_answer(indexer: Indexer, cache: MutationCache) -> None:
    """The events were quicker than the answer to the create: the object is gone, not new."""
    created = widget("new", 5)
    indexer.put("default/new", created, "5")
    indexer.remove("default/new", "6")
    cache.mutated(created, base=None)
    assert cache.get("new", "default") is None
    assert cache.by_index("color", "red") == []
    again = widget("new", 7, uid="another")
    cache.mutated(again, base=None)
    assert cache.get("new", "default") is again


def test_object_that_has_left_the_cache_and_is_still_there(indexer: Indexer, cache: MutationCache) -> None:
    """A watch by label shows an object that lost the label as deleted. What a refused write ran into is right."""
    hidden = widget("a", 5)
    indexer.remove("default/a", "5")
    assert seen(cache) is None
    assert cache.refresh("a", "default", lambda: hidden) is hidden
    assert seen(cache) is hidden
    cache.mutated(V3, base=hidden)
    assert seen(cache) is V3
    indexer.put("default/a", V3, "3")
    indexer.remove("default/a", "6")
    assert seen(cache) is None


def test_gone_in_a_list_before_the_answer(indexer: Indexer, cache: MutationCache) -> None:
    """The same when it was missing from a new list, or another object has its name there for a while."""
    created = widget("new", 5)
    indexer.put("default/new", created, "5")
    indexer.replace({"default/new": widget("new", 6, uid="another")}, "6")
    indexer.replace({}, "7")
    cache.mutated(created, base=None)
    assert cache.get("new", "default") is None


def test_deleted_while_own_writes_on_it_were_not_seen_yet(indexer: Indexer, cache: MutationCache) -> None:
    """A list that skips the own writes and says that the object is gone is newer than they are."""
    first, second = widget("new", 5), widget("new", 6)
    cache.mutated(first, base=None)
    cache.mutated(second, base=first)
    indexer.put("default/new", first, "5")
    assert cache.get("new", "default") is second
    indexer.replace({}, "9")
    assert cache.get("new", "default") is None


@pytest.fixture
def _eager_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_eager_threads")
def test_index_never_goes_back_in_time(indexer: Indexer, cache: MutationCache) -> None:
    """However reads and the cache's moves meet: what was seen of an own write is not unseen when its event comes."""
    versions = [0]

    def write() -> None:
        for number in range(2, 1000):
            new = widget("a", number, colors=["red"])
            cache.mutated(new, base=cache.get("a", "default"))
            while versions[-1] < number:
                time.sleep(0)
            indexer.put("default/a", new, str(number))

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        versions += [int(obj["metadata"]["resourceVersion"]) for obj in cache.by_index("color", "red")]
    assert versions == sorted(versions)


def test_index(indexer: Indexer, cache: MutationCache) -> None:
    """Objects are found by the values of the own write: added, moved and deleted ones."""
    red, blue, new = (
        widget("r", 2, colors=["red"]),
        widget("b", 3, colors=["blue"]),
        widget("n", 4, colors=["red"]),
    )
    indexer.put("default/r", red, "2")
    indexer.put("default/b", blue, "3")
    turned = widget("b", 5, colors=["red"])
    cache.mutated(turned, base=blue)
    cache.mutated(new, base=None)
    cache.deleted("r", "default", base=red)
    assert cache.by_index("color", "red") == [turned, new]
    assert cache.by_index("color", "blue") == []
    assert indexer.by_index("color", "blue") == [blue]
    with pytest.raises(KeyError, match="no index 'size'"):
        cache.by_index("size", "1")
