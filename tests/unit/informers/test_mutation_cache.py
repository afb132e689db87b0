"""Own writes over a cache that has not heard of them yet."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from informers import Indexer, MutationCache, NotFound
from tests.clock import VirtualClock
from tests.fake_api_server.objects import WIDGETS, widget

Object = dict[str, Any]
V1, V2, V3 = widget("a", "1"), widget("a", "2"), widget("a", "3")
OTHERS = widget("a", "4")


@pytest.fixture
def distrusts() -> list[bool]:
    """One item for each time the cache was found to be wrong."""
    return []


@pytest.fixture
def indexer(distrusts: list[bool]) -> Indexer:
    indexer = Indexer(
        WIDGETS, {"color": lambda obj: obj["spec"].get("colors", ())}, on_distrust=lambda: distrusts.append(True)
    )
    indexer.put("default/a", V1, "1")
    return indexer


@pytest.fixture
def cache(indexer: Indexer, clock: VirtualClock) -> MutationCache:
    return MutationCache(indexer, clock=clock)


def seen(cache: MutationCache) -> Object | None:
    return cache.get("a", "default")


def known(text: str) -> Object | None:
    """The object a at this version; "9'" is another object of that name, "-" none."""
    return None if text == "-" else widget("a", text.rstrip("'"), uid="another" if "'" in text else "")


class Play:
    """A script of what happens to the object a, which the cache has at version 1, and of what is seen of it:

    write BASE VERSION, delete BASE      own writes
    event VERSION, gone VERSION          what the watch brings
    list VERSION AT [BEGAN]              what a list has, its own version, and when it began
    read VERSION                         what the API server has after a refused write
    sees VERSION, distrusts              what is seen, and that the cache was found to be wrong
    """

    def __init__(self, indexer: Indexer, cache: MutationCache, clock: VirtualClock, distrusts: list[bool]) -> None:
        self.indexer, self.cache, self.clock, self.distrusted = indexer, cache, clock, distrusts

    def write(self, base: str, version: str) -> None:
        self.cache.mutated(known(version) or {}, base=known(base))

    def delete(self, base: str) -> None:
        self.cache.deleted("a", "default", base=known(base))

    def event(self, version: str) -> None:
        self.indexer.put("default/a", known(version) or {}, version.rstrip("'"))

    def gone(self, version: str) -> None:
        self.indexer.remove("default/a", version)

    def list(self, version: str, at: str, began: str = "0") -> None:
        obj = known(version)
        self.indexer.replace({"default/a": obj} if obj else {}, at, listed_at=float(began))

    def read(self, version: str) -> None:
        def fetch() -> Object:
            if version == "-":
                raise NotFound("there is none", status=404, reason="NotFound")
            return known(version) or {}

        assert self.cache.refresh("a", "default", fetch) == known(version)

    def wait(self, seconds: str) -> None:
        self.clock.advance(float(seconds))

    def sees(self, version: str) -> None:
        assert seen(self.cache) == known(version)

    def distrusts(self) -> None:
        assert self.distrusted


RULES = {
    "while the events of earlier own writes come in, the last one is seen": (
        "write 1 2; write 2 3; sees 3; event 2; sees 3; event 4; sees 4"
    ),
    "an event was quicker than the answer: the cache is right": "event 3; write 1 2; sees 3",
    "two threads wrote, and the answer to the first write came last": "write 2 3; write 1 2; sees 3",
    "the events of what was deleted do not show it again; a later object of that name is seen": (
        "write 1 2; delete 2; sees -; event 2; sees -; event 4; sees 4"
    ),
    "a deleted object whose version is not known is seen until the cache hears that it went": "delete -; sees 1",
    "absence is a state like others; a creation in its place is seen also when the cache hears of the deletion": (
        "delete 1; sees -; write - 9'; sees 9'; gone 5; sees 9'; event 9'; gone 10; sees -"
    ),
    "created, seen in the cache, deleted by another: gone, though absence is what the write was based on": (
        "gone 2; write - 3; event 3; gone 4; sees -"
    ),
    "a list that is later than the write settles it, also when the object came and went while the watch was down": (
        "gone 2; write - 5; sees 5; list - 7; sees -"
    ),
    "a list that began after the answer settles it, whatever its version: the API server may have been restored": (
        "wait 5; write 1 50; list 1 1 4.9; sees 50; list 2 2 5.1; sees 2"
    ),
    "without comparable versions own writes are not shown: a write on the outdated object is refused": (
        "event v1; write v1 v2; sees v1"
    ),
    "a write on top of what a refused one ran into is seen until the cache moves": (
        "read 2; sees 2; write 2 3; sees 3; event 4; sees 4"
    ),
    "a refused write ran into a deletion: what was created in its place is seen, not the deleted object": (
        "read -; sees -; write - 9'; sees 9'; gone 5; sees 9'; event 10; sees 10"
    ),
    "created, seen and deleted before the answer: the object is gone, not new": (
        "gone 2; event 5; gone 6; write - 5; sees -; write - 7'; sees 7'"
    ),
    "so it is if it was missing from a list, or another object had its name there for a while": (
        "gone 2; event 5; list 6' 6; list - 7; write - 5; sees -"
    ),
    "a watch by label shows an object without the label as deleted: what a refused write ran into is right": (
        "gone 5; sees -; read 5; sees 5; write 5 7; sees 7; event 7; gone 8; sees -"
    ),
    "a list that skips own writes and says that the object is gone is newer than they are": (
        "gone 2; write - 5; write 5 6; event 5; sees 6; list - 9; sees -"
    ),
    "a read that is older than the cache tells of a restore, and the next write is based on it": (
        "event 9; read 5; distrusts; sees 5"
    ),
    "so does one that is older than an own write": "event 9; write 9 11; read 5; distrusts; sees 5",
}


@pytest.mark.parametrize("script", RULES.values(), ids=RULES.keys())
def test_what_is_seen(
    script: str, indexer: Indexer, cache: MutationCache, clock: VirtualClock, distrusts: list[bool]
) -> None:
    """After each step of the script."""
    play = Play(indexer, cache, clock, distrusts)
    for step in script.split("; "):
        verb, *words = step.split()
        getattr(play, verb)(*words)


def test_same_changes_mean_same_objects(indexer: Indexer, cache: MutationCache) -> None:
    """Each change counts, of the cache and of what is shown instead of it. A later version of the same does not, nor
    does a read that shows what the cache has.
    """
    numbers = [cache.changes()]
    changes: list[Callable[[], object]] = [
        lambda: indexer.put("default/a", V2, "2"),
        lambda: cache.mutated(V3, base=V2),
        lambda: indexer.put("default/a", V3, "3"),
        lambda: indexer.remove("default/a", "4"),
        lambda: indexer.replace({"default/a": OTHERS}, "5"),
        lambda: cache.refresh("a", "default", lambda: widget("a", "6")),
        lambda: indexer.put("default/a", widget("a", "7"), "7"),
    ]
    for change in changes:
        change()
        numbers.append(cache.changes())
    assert len(set(numbers)) == len(changes) + 1
    indexer.caught_up("8")
    cache.refresh("a", "default", lambda: widget("a", "7"))
    assert cache.changes() == numbers[-1]


def test_what_events_have_shown_and_removed_is_not_expected(indexer: Indexer, cache: MutationCache) -> None:
    """The answer of the write came after the events of its object, so handlers know all of it."""
    new = widget("new", "5")
    indexer.put("default/new", new, "5")
    indexer.remove("default/new", "6")
    cache.mutated(new, base=None)
    indexer.replace({}, "7", listed_at=1.0)
    assert indexer.missed() == {}


def test_an_answer_without_a_version_is_not_shown(indexer: Indexer, cache: MutationCache) -> None:
    """Nor is it expected: it cannot be compared with what the cache has."""
    new = widget("new", "5")
    del new["metadata"]["resourceVersion"]
    cache.mutated(new, base=None)
    assert cache.get("new", "default") is None
    indexer.replace({}, "7", listed_at=1.0)
    assert indexer.missed() == {}


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


def test_entries_that_nobody_reads_end_too(indexer: Indexer, cache: MutationCache) -> None:
    """With the next write, also behind an object that was written again and again: memory is bounded."""
    cache.mutated(V2, base=V1)
    written = [widget(f"w{number}", number) for number in range(10, 20)]
    for obj in written:
        cache.mutated(obj, base=None)
    cache.mutated(widget("a", 25), base=V2)
    for obj in written:
        indexer.put(f"default/{obj['metadata']['name']}", obj, obj["metadata"]["resourceVersion"])
    cache.mutated(widget("last", 30), base=None)
    assert list(cache._entries) == ["default/a", "default/last"]


@pytest.mark.parametrize(
    ("answer", "base", "distrusted"),
    [
        (widget("a", "50"), V1, False),
        (widget("a", "9"), widget("a", "9"), False),  # it has changed nothing
        (widget("a", "8"), widget("a", "9"), True),
        (widget("new", "50"), None, False),
        (widget("new", "9"), None, True),
        (widget("a", "9", uid="another"), None, True),
        (widget("new", "v9"), None, False),
    ],
)
def test_an_answer_that_is_older_than_the_cache_tells_of_a_restore(
    answer: Object, base: Object | None, distrusted: bool, indexer: Indexer, cache: MutationCache, distrusts: list[bool]
) -> None:
    """The cache is at version 10, and the object a at version 9."""
    indexer.put("default/a", widget("a", "9"), "10")
    cache.mutated(answer, base=base)
    assert bool(distrusts) is distrusted


@pytest.fixture
def _eager_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_eager_threads")
def test_what_was_seen_never_goes_back_in_time(indexer: Indexer, cache: MutationCache) -> None:
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
        seen_now = seen(cache)
        assert seen_now is not None
        versions.append(int(seen_now["metadata"]["resourceVersion"]))
    assert versions == sorted(versions)
