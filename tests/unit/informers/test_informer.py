"""SharedInformer: what handlers are told, in which order, and what is not told twice."""

import asyncio
import gc
import logging
import threading
import weakref
from functools import partial
from typing import Any

import pytest

from informers import (
    CacheMutated,
    DeletedFinalStateUnknown,
    EventHandlers,
    Forbidden,
    MutationCache,
    SharedInformer,
    WatchEvent,
    mutation_detector,
    object_key,
    wait_for_sync,
)
from informers.handlers import Added, Deleted, Registration, Updated
from informers.transport import Stop
from tests.clock import VirtualClock
from tests.fake_api_server.cluster import Cluster
from tests.fake_api_server.in_process import InProcess, api_error
from tests.fake_api_server.objects import widget
from tests.fake_api_server.waiting import HastyClock, eventually
from tests.unit.informers.conftest import Start
from workqueue.clock import Clock

Object = dict[str, Any]


class Recorder:
    """Handlers that write down what they are told: "+a", "+a initial", "~a", "-a", "?a"."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.handlers = EventHandlers(on_add=self._add, on_update=self._update, on_delete=self._delete)

    def _add(self, obj: Object, is_initial_list: bool) -> None:
        self.log.append(f"+{obj['metadata']['name']}" + (" initial" if is_initial_list else ""))

    def _update(self, old: Object, new: Object) -> None:
        same = old["metadata"]["resourceVersion"] == new["metadata"]["resourceVersion"]
        self.log.append(("=" if same else "~") + new["metadata"]["name"])

    def _delete(self, obj: Object | DeletedFinalStateUnknown) -> None:
        if isinstance(obj, DeletedFinalStateUnknown):
            assert obj.obj is not None
            assert obj.key == object_key(obj.obj)
            self.log.append(f"?{obj.obj['metadata']['name']}")
        else:
            self.log.append(f"-{obj['metadata']['name']}")


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def source(cluster: Cluster) -> InProcess:
    return InProcess(cluster)


def make(source: InProcess, clock: Clock | None = None, **arguments: Any) -> SharedInformer:
    return SharedInformer(source, name="widgets", clock=clock or HastyClock(), watch_list=False, **arguments)


def test_history(cluster: Cluster, source: InProcess, start: Start) -> None:
    """Adds of the first list are marked; updates and deletes follow in the order of the server."""
    cluster.put("a")
    cluster.put("b")
    informer, recorder = make(source), Recorder()
    registration = informer.add_event_handler(recorder.handlers)
    assert not registration.has_synced
    start(informer)
    eventually(lambda: registration.has_synced)
    assert recorder.log == ["+a initial", "+b initial"]
    cluster.put("c")
    cluster.put("a")
    eventually(lambda: len(recorder.log) == 4)
    assert informer.indexer.resource_version == "5"
    cluster.delete("b")
    eventually(lambda: len(recorder.log) == 5)
    assert recorder.log[2:] == ["+c", "~a", "-b"]
    assert informer.indexer.resource_version == "6"


def test_empty_list_is_synced(cluster: Cluster, source: InProcess, start: Start) -> None:
    """An empty list is a list: informer and handler are synced. The cache has its version, and that of a bookmark."""
    informer, recorder = make(source), Recorder()
    registration = informer.add_event_handler(recorder.handlers)
    assert informer.indexer.resource_version == ""
    stop = start(informer)
    assert wait_for_sync([informer, registration], stop, HastyClock())
    assert informer.indexer.resource_version == "1"
    cluster.bookmark()
    eventually(lambda: informer.indexer.resource_version == "2")


def test_wait_for_sync_ends_with_the_stop(source: InProcess) -> None:
    """False when the stop came before the first list."""
    stop = Stop()
    stop.set()
    assert not wait_for_sync([make(source)], stop, HastyClock())


def test_new_list_is_told_as_differences(cluster: Cluster, source: InProcess, start: Start) -> None:
    """Gone objects first, as tombstones; then what changed or came. Unchanged ones are no news."""
    for name in "abc":
        cluster.put(name)
    informer, recorder = make(source), Recorder()
    registration = informer.add_event_handler(recorder.handlers)
    start(informer)
    eventually(lambda: registration.has_synced)
    with cluster.changed:
        cluster.delete("a")
        cluster.put("b")
        cluster.put("d")
        cluster.compact()
    eventually(lambda: len(recorder.log) == 6)
    assert recorder.log[3:] == ["?a", "~b", "+d"]
    assert source.lists == 2


@pytest.mark.parametrize("gone", [True, False])
def test_own_write_that_no_event_showed_is_told_by_the_next_list(
    cluster: Cluster, source: InProcess, start: Start, gone: bool
) -> None:
    """Otherwise no handler would notice that somebody deleted it, or removed the labels of the selector."""
    clock, recorder = HastyClock(), Recorder()
    informer = make(source, clock)
    registration = informer.add_event_handler(recorder.handlers)
    start(informer)
    eventually(lambda: registration.has_synced)
    with cluster.changed:
        cache = MutationCache(informer.indexer, clock=clock)
        cache.mutated(cluster.put("own"), base=None)
        if gone:
            cluster.delete("own")
        cluster.compact()
    eventually(lambda: source.lists == 2)
    with cluster.changed:
        cluster.put("later")
        cluster.compact()
    eventually(lambda: recorder.log[-1:] == ["+later"])
    assert source.lists == 3
    assert recorder.log == ["+own", *(["?own"] if gone else []), "+later"]


def test_what_changes_nothing_is_not_told(source: InProcess, start: Start) -> None:
    """The deletion of an object that was not told of, and an event that comes for the second time."""
    events = [("DELETED", "never-seen", 9), ("ADDED", "a", 10), ("ADDED", "a", 10), ("ADDED", "b", 11)]
    source.watch_faults.append([WatchEvent(kind, widget(name, version)) for kind, name, version in events])
    informer, recorder = make(source), Recorder()
    informer.add_event_handler(recorder.handlers)
    start(informer)
    eventually(lambda: recorder.log[-1:] == ["+b"])
    assert recorder.log == ["+a", "+b"]


def test_object_replaced_unseen_is_one_update(cluster: Cluster, source: InProcess, start: Start) -> None:
    """Deleted and created again between two lists is one update, with another uid."""
    cluster.put("a")
    informer = make(source)
    uids: list[tuple[str, str]] = []
    handlers = EventHandlers(on_update=lambda old, new: uids.append((old["metadata"]["uid"], new["metadata"]["uid"])))
    informer.add_event_handler(handlers)
    start(informer)
    eventually(lambda: informer.has_synced)
    with cluster.changed:
        cluster.delete("a")
        cluster.put("a")
        cluster.compact()
    eventually(lambda: uids)
    assert uids == [("uid-1", "uid-2")]


def test_cache_is_written_before_handlers_are_called(cluster: Cluster, source: InProcess, start: Start) -> None:
    """A handler reads from the cache what it was told, or newer."""
    informer = make(source)
    stale: list[str] = []

    def check(obj: Object, *_: object) -> None:
        cached = informer.indexer.get(obj["metadata"]["name"], "default")
        if cached is None or int(cached["metadata"]["resourceVersion"]) < int(obj["metadata"]["resourceVersion"]):
            stale.append(obj["metadata"]["name"])

    seen: list[object] = []
    informer.add_event_handler(EventHandlers(on_add=check, on_update=lambda _, new: (check(new), seen.append(new))))  # type: ignore[arg-type, func-returns-value]
    start(informer)
    eventually(lambda: informer.has_synced)
    for _ in range(200):
        cluster.put("a")
    eventually(lambda: seen and seen[-1]["metadata"]["resourceVersion"] == "201")  # type: ignore[index]
    assert not stale


def test_late_handler_is_shown_the_cache(cluster: Cluster, source: InProcess, start: Start) -> None:
    """It sees all objects as an initial list, and each later change once: no gap, no overlap."""
    informer = make(source)
    start(informer)
    eventually(lambda: informer.has_synced)  # a list that comes later has the objects in another order
    recorders = []
    registrations = []
    for number in range(50):
        cluster.put(f"w{number}")
        recorder = Recorder()
        recorders.append(recorder)
        registrations.append(informer.add_event_handler(recorder.handlers))
    cluster.put("last")
    for recorder in recorders:
        eventually(lambda recorder=recorder: recorder.log and recorder.log[-1] == "+last")  # type: ignore[misc]
        names = [line[1:].split()[0] for line in recorder.log]
        assert names == [f"w{number}" for number in range(50)] + ["last"]
    assert all(registration.has_synced for registration in registrations)
    latest = Recorder()
    informer.add_event_handler(latest.handlers)
    eventually(lambda: latest.log == [f"+{name} initial" for name in names])


def test_slow_handler_holds_up_nobody(cluster: Cluster, source: InProcess, start: Start) -> None:
    """Another handler and the cache go on while one handler blocks; it is then told all, in order."""
    informer, slow, quick = make(source), Recorder(), Recorder()
    gate = threading.Event()
    blocked = EventHandlers(on_add=lambda obj, initial: (gate.wait(10), slow.handlers.on_add(obj, initial)))  # type: ignore[arg-type, func-returns-value]
    slow_registration = informer.add_event_handler(blocked)
    informer.add_event_handler(quick.handlers)
    cluster.put("a")
    start(informer)
    cluster.put("b")
    eventually(lambda: len(quick.log) == 2)
    assert len(informer.indexer) == 2
    assert not slow.log
    assert informer.has_synced
    assert not slow_registration.has_synced
    gate.set()
    eventually(lambda: len(slow.log) == 2)
    eventually(lambda: slow_registration.has_synced)
    assert [line[:2] for line in slow.log] == ["+a", "+b"]


@pytest.mark.parametrize("error_type", [LookupError, SystemExit, asyncio.CancelledError])
def test_failing_handler_skips_one_change(
    cluster: Cluster,
    source: InProcess,
    start: Start,
    caplog: pytest.LogCaptureFixture,
    error_type: type[BaseException],
) -> None:
    """Whatever it raises is logged, with handler and object, costs a pause of one second, and the next is delivered."""
    clock = HastyClock()
    informer = make(source, clock)
    seen: list[str] = []

    def fail_on_a(obj: Object, _: bool) -> None:
        if obj["metadata"]["name"] == "a":
            raise error_type("a is not to my taste")
        seen.append(obj["metadata"]["name"])

    registration = informer.add_event_handler(EventHandlers(on_add=fail_on_a))
    cluster.put("a")
    cluster.put("b")
    start(informer)
    eventually(lambda: seen == ["b"])
    eventually(lambda: registration.has_synced)
    assert clock.sleeps == [1.0]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], error_type)
    assert (getattr(record, "informer", ""), getattr(record, "object", "")) == ("widgets", "default/a")
    assert getattr(record, "handler", "").endswith("test_failing_handler_skips_one_change.<locals>.fail_on_a")


def test_removed_handler_is_called_no_more(cluster: Cluster, source: InProcess, start: Start) -> None:
    """Removal is idempotent and leaves the others alone."""
    informer, removed, kept = make(source), Recorder(), Recorder()
    registration = informer.add_event_handler(removed.handlers)
    informer.add_event_handler(kept.handlers)
    start(informer)
    cluster.put("a")
    eventually(lambda: removed.log and kept.log)
    informer.remove_event_handler(registration)
    informer.remove_event_handler(registration)
    cluster.put("b")
    eventually(lambda: len(kept.log) == 2)
    assert len(removed.log) == 1


def test_handler_removed_before_the_run_is_never_called(cluster: Cluster, source: InProcess, start: Start) -> None:
    """There is no call to wait for."""
    informer, removed = make(source), Recorder()
    registration = informer.add_event_handler(removed.handlers)
    informer.remove_event_handler(registration)
    registration.join()
    start(informer)
    cluster.put("a")
    eventually(lambda: informer.indexer.get("a", "default"))
    assert not removed.log


def test_registration_of_another_informer_is_left_alone(cluster: Cluster, source: InProcess, start: Start) -> None:
    """Removing it here does nothing to it there."""
    informer, other, recorder = make(source), make(source), Recorder()
    registration = informer.add_event_handler(recorder.handlers)
    other.remove_event_handler(registration)
    start(informer)
    cluster.put("a")
    eventually(lambda: len(recorder.log) == 1)


def test_removed_handler_can_be_waited_for(cluster: Cluster, source: InProcess, start: Start) -> None:
    """Removal returns while a call is in progress; join() when it is over and no other will come."""
    informer = make(source)
    entered, release, left = (threading.Event() for _ in range(3))

    def slow(obj: Object, initial: bool) -> None:
        entered.set()
        release.wait(60)
        left.set()

    registration = informer.add_event_handler(EventHandlers(on_add=slow))
    cluster.put("a")
    cluster.put("b")
    start(informer)
    assert entered.wait(60)
    informer.remove_event_handler(registration)
    assert not left.is_set()
    release.set()
    registration.join()
    assert left.is_set()


def registered(handlers: EventHandlers) -> Registration:
    return Registration(handlers, informer_name="widgets", informer_has_synced=lambda: True, clock=HastyClock())


def test_a_handler_has_synced_after_its_initial_list() -> None:
    """Later changes in its buffer say nothing about that. A handler that hangs does not keep the process."""
    gate = threading.Event()

    def hang(_obj: Object, _initial: bool) -> None:
        gate.wait(60)

    registration = registered(EventHandlers(on_add=hang))
    registration.notify([Added(widget("a", 1), True)])
    registration.notify([Updated(widget("a", 1), widget("a", 2))])
    registration.start()
    assert not registration.has_synced
    assert [thread.daemon for thread in threading.enumerate() if thread.name == "widgets-handler"] == [True]
    gate.set()
    eventually(lambda: registration.has_synced)
    registration.stop()
    registration.join()


def test_a_failure_names_what_it_knows(caplog: pytest.LogCaptureFixture) -> None:
    """The key of an object whose state is unknown, and a handler that is no function."""
    registration = registered(EventHandlers(on_delete=partial(int)))  # type: ignore[arg-type]
    registration.notify([Deleted(DeletedFinalStateUnknown("default/a", None))])
    registration.start()
    eventually(lambda: caplog.records)
    registration.stop()
    registration.join()
    (record,) = caplog.records
    assert getattr(record, "object", "") == "default/a"
    assert getattr(record, "handler", "").startswith("functools.partial(<class 'int'>")


class WeakObject(dict[str, Any]):
    """A dict that can be referred to weakly."""


def test_what_was_told_is_not_kept() -> None:
    """A list after an outage replaces all objects; those before must not stay until the next change."""
    news: list[Object] = []
    handlers = EventHandlers(on_update=lambda _, new: news.append(new))
    registration = registered(handlers)
    olds = [WeakObject(widget(name, 1)) for name in "abc"]
    kept = [weakref.ref(old) for old in olds]
    registration.notify([Updated(old, widget("new", 2)) for old in olds])
    del olds
    registration.start()
    eventually(lambda: len(news) == 3)
    eventually(lambda: [old() for old in kept] == [None] * 3)
    registration.stop()
    registration.join()


def test_handlers_come_and_go_while_objects_change(cluster: Cluster, source: InProcess, start: Start) -> None:
    """Each sees a whole history while it is there; none is left over."""
    informer = make(source)
    start(informer)
    over = threading.Event()
    failures: list[BaseException] = []

    def come_and_go() -> None:
        try:
            while not over.is_set():
                recorder = Recorder()
                registration = informer.add_event_handler(recorder.handlers)
                eventually(lambda: registration.has_synced)  # noqa: B023
                informer.remove_event_handler(registration)
                registration.join()
                known: set[str] = set()
                for line in recorder.log:
                    assert (line[1] in known) == (line[0] in "~=-"), recorder.log
                    known ^= {line[1]} if line[0] in "+-" else set()
        except BaseException as error:  # noqa: BLE001 - looked at below
            failures.append(error)

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(300):
        cluster.put("abc"[number % 3])
        if number % 7 == 0:
            cluster.delete("abc"[number % 3])
    over.set()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert informer._store.registrations == []


def test_runs_once(source: InProcess) -> None:
    """An informer cannot be run again, nor be given handlers after its end."""
    informer = make(source)
    stop = Stop()
    stop.set()
    informer.run(stop)
    with pytest.raises(RuntimeError, match="run twice"):
        informer.run(stop)
    with pytest.raises(RuntimeError, match="has stopped"):
        informer.add_event_handler(EventHandlers())


def test_all_threads_end(cluster: Cluster, source: InProcess) -> None:
    """run() returns when its threads have ended, the handlers' last."""
    before = set(threading.enumerate())
    informer = make(source)
    entered, left = threading.Event(), threading.Event()
    release = threading.Event()

    def slow(obj: Object, initial: bool) -> None:
        entered.set()
        release.wait(10)
        left.set()

    informer.add_event_handler(EventHandlers(on_add=slow))
    cluster.put("a")
    stop = Stop()
    thread = threading.Thread(target=informer.run, args=(stop,))
    thread.start()
    assert entered.wait(10)
    stop.set()
    thread.join(0.2)
    assert thread.is_alive(), "it did not wait for the handler"
    release.set()
    thread.join(10)
    assert left.is_set()
    eventually(lambda: set(threading.enumerate()) <= before)


class TestFailure:
    """An informer that fails says why, once, and leaves nothing behind."""

    def test_leaves_no_threads(self, cluster: Cluster, source: InProcess) -> None:
        """Nor what they hold on to, although nobody sets the stop event."""
        before = set(threading.enumerate())
        cluster.put("a")
        gone = []
        for _ in range(20):
            informer = make(source, indexers={"broken": lambda obj: obj["nothing"]})
            informer.add_event_handler(EventHandlers())
            gone.append(weakref.ref(informer.indexer))
            with pytest.raises(KeyError):
                informer.run(Stop())
        del informer
        eventually(lambda: set(threading.enumerate()) <= before)
        gc.collect()
        assert not [one for one in gone if one() is not None]

    @pytest.mark.parametrize("error_type", [LookupError, SystemExit])
    def test_of_its_timer(self, source: InProcess, error_type: type[BaseException]) -> None:
        """What goes wrong in the thread that waits for a streamed list ends the informer, with that error."""

        class BrokenClock(VirtualClock):
            def monotonic(self) -> float:
                if threading.current_thread().name.endswith("-timer"):
                    raise error_type("by a mistake")
                return super().monotonic()

        clock = BrokenClock()
        source.hanging_watches = 1
        informer = SharedInformer(source, name="widgets", clock=clock)
        failures: list[BaseException] = []

        def run() -> None:
            try:
                informer.run(Stop())
            except BaseException as error:  # noqa: BLE001 - looked at below
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        clock.wait_for_waiters(1)
        eventually(lambda: source.watches == 1)
        clock.advance(10)
        thread.join(60)
        assert [type(error) for error in failures] == [error_type]


class TestTransform:
    """The transform function makes what is stored and told."""

    def test_what_is_stored(self, cluster: Cluster, source: InProcess, start: Start) -> None:
        """Lists, events and handlers all show the transformed object."""

        def strip(obj: Object) -> Object:
            return obj | {"spec": {}}

        informer = make(source, transform=strip)
        told: list[Object] = []
        informer.add_event_handler(EventHandlers(on_add=lambda obj, _: told.append(obj)))
        cluster.put("a", size=1)
        start(informer)
        eventually(lambda: informer.has_synced)
        cluster.put("b", size=2)
        eventually(lambda: len(told) == 2)
        assert [obj["spec"] for obj in (*told, *informer.indexer.list())] == [{}] * 4

    @pytest.mark.parametrize("result", [None, [], {}, {"metadata": None}])
    def test_no_object(self, cluster: Cluster, source: InProcess, start: Start, result: Any) -> None:
        """Is a failure: what is stored can be read by all."""
        informer = make(source, transform=lambda obj: result if obj["metadata"]["name"] == "bad" else obj)
        cluster.put("bad")
        cluster.put("good")
        start(informer)
        eventually(lambda: informer.indexer.keys() == ["default/good"])

    @pytest.mark.parametrize("watch_list", [False, True], ids=["list", "streamed list"])
    def test_failure_on_a_list(
        self, cluster: Cluster, source: InProcess, start: Start, watch_list: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What is known of the object is kept, as the object exists; the others are taken; the failure is logged."""
        broken: set[str] = set()

        def shaky(obj: Object) -> Object:
            if obj["metadata"]["name"] in broken:
                raise LookupError("not now")
            return obj

        cluster.put("a")
        informer = SharedInformer(source, name="widgets", clock=HastyClock(), watch_list=watch_list, transform=shaky)
        recorder = Recorder()
        informer.add_event_handler(recorder.handlers)
        start(informer)
        eventually(lambda: recorder.log == ["+a initial"])
        broken |= {"a", "new"}
        with cluster.changed:
            cluster.put("a")
            cluster.put("new")
            cluster.put("good")
            cluster.compact()
        eventually(lambda: recorder.log == ["+a initial", "+good"])
        kept = informer.indexer.get("a", "default")
        assert kept is not None
        assert kept["metadata"]["resourceVersion"] == "2"
        (record,) = [record for record in caplog.records if "Cannot transform" in record.message]
        assert (getattr(record, "objects", 0), getattr(record, "first", "")) == (2, "default/a")
        broken.clear()
        cluster.put("a")
        eventually(lambda: recorder.log[2:] == ["~a"])


def test_same_version_of_another_state_is_an_update(cluster: Cluster, source: InProcess, start: Start) -> None:
    """A restored server gives a version for the second time."""
    cluster.put("a", color="red")
    informer, recorder = make(source), Recorder()
    informer.add_event_handler(recorder.handlers)
    start(informer)
    eventually(lambda: recorder.log)
    with cluster.changed:
        cluster.objects["default/a"] = {**cluster.objects["default/a"], "spec": {"color": "blue"}}
    informer.relist()
    eventually(lambda: recorder.log == ["+a initial", "=a"])
    cached = informer.indexer.get("a", "default")
    assert cached is not None
    assert cached["spec"] == {"color": "blue"}


@pytest.mark.parametrize("first", ["a", "b"], ids=["of a list", "of a watch"])
def test_mutation_of_a_cached_object_ends_the_informer(
    cluster: Cluster, source: InProcess, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """With the detector on, a handler that changes a cached object is found out, by object and field."""
    monkeypatch.setattr(mutation_detector, "CHECK_PERIOD", 0.01)
    informer = make(source)

    def change_a(obj: Object, _: bool) -> None:
        if obj["metadata"]["name"] == "a":
            obj["spec"].update(secret="hidden")
        else:
            cluster.put("a")

    informer.add_event_handler(EventHandlers(on_add=change_a))
    cluster.put(first)
    with pytest.raises(CacheMutated, match=r"Widget default/a was changed by its reader at \.spec\.secret") as caught:
        informer.run(Stop())
    assert "hidden" not in str(caught.value)


class TestStreamedListWithoutEnd:
    """It is waited for as long as it makes progress, and then done without."""

    @pytest.fixture
    def source(self, source: InProcess) -> InProcess:
        source.ignores_initial_events = True
        return source

    def start_streaming(self, source: InProcess, clock: VirtualClock, start: Start) -> SharedInformer:
        informer = SharedInformer(source, name="widgets", clock=clock)
        start(informer)
        clock.wait_for_waiters(1)
        # The clock is waited on before the stream is open, and only an open one can be ended for its silence.
        eventually(lambda: source.is_watched)
        return informer

    @pytest.mark.parametrize("objects", [0, 3])
    def test_is_replaced_by_a_list(
        self, cluster: Cluster, source: InProcess, clock: VirtualClock, start: Start, objects: int
    ) -> None:
        """Ten seconds without an event or an answer are enough; it is requested again only after an hour."""
        for number in range(objects):
            cluster.put(f"w{number}")
        informer = self.start_streaming(source, clock, start)
        eventually(lambda: source.sent == objects)
        clock.advance(10)
        clock.wait_for_waiters(1)
        assert source.lists == 0
        clock.advance(10)
        eventually(lambda: informer.has_synced)
        assert len(informer.indexer) == objects
        cluster.put("later")
        eventually(lambda: informer.indexer.get("later", "default"))
        with cluster.changed:
            cluster.delete("later")
            cluster.compact()

        def listed_again() -> bool:
            clock.advance(1)  # the back-off may begin at any of these moments
            return informer.indexer.get("later", "default") is None

        eventually(listed_again)
        assert (source.lists, source.streamed_lists) == (2, 1)
        eventually(lambda: source.is_watched)
        clock.advance(3600)
        informer.relist()
        eventually(lambda: source.streamed_lists == 2)
        assert source.lists == 2

    def test_where_changes_never_end(
        self, cluster: Cluster, source: InProcess, clock: VirtualClock, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Each ten seconds there is a warning; after five minutes that was no list."""
        informer = self.start_streaming(source, clock, start)
        for number in range(30):
            clock.wait_for_waiters(1)  # its last look is over
            cluster.put(f"w{number}")
            eventually(lambda number=number: source.sent > number)  # type: ignore[misc]
            assert source.lists == 0
            clock.advance(10)
        eventually(lambda: informer.has_synced)
        assert len(informer.indexer) == 30
        warnings = [record for record in caplog.records if "not complete" in record.message]
        assert [getattr(record, "waitedSeconds", None) for record in warnings] == [*range(10, 300, 10)]


def test_streamed_list_without_an_answer_is_replaced_once(
    cluster: Cluster, source: InProcess, clock: VirtualClock, start: Start
) -> None:
    """It says nothing about the server: the list after the next one is streamed again."""
    source.hanging_watches = 1
    cluster.put("a")
    informer = SharedInformer(source, name="widgets", clock=clock)
    start(informer)
    clock.wait_for_waiters(1)
    eventually(lambda: source.watches == 1)
    clock.advance(10)
    eventually(lambda: informer.has_synced)
    assert (source.lists, source.streamed_lists) == (1, 1)
    eventually(lambda: source.is_watched)
    with cluster.changed:
        cluster.put("b")
        cluster.compact()
        source.end_watches()

    def listed_again() -> bool:
        clock.advance(1)  # the back-off may begin at any of these moments
        return informer.indexer.get("b", "default") is not None

    eventually(listed_again)
    assert (source.lists, source.streamed_lists) == (1, 2)


class TestRelist:
    """After an outage of the network, events on a connection from before it are late or lost."""

    def watched(self, source: InProcess, clock: VirtualClock, start: Start) -> SharedInformer:
        """An informer that has waited after an error, has begun to list at 5 s, and watches. The time is 7 s."""
        source.list_faults.append(api_error(Forbidden, "Forbidden", 403))
        informer = make(source, clock)
        start(informer)
        clock.wait_for_waiters(1)
        clock.advance(5)
        eventually(lambda: informer.is_watching)
        assert informer.indexer.listed_at == 5
        clock.advance(2)
        return informer

    @pytest.mark.parametrize("since", [None, 5, 6])
    def test_lists_at_once(
        self, since: float | None, cluster: Cluster, source: InProcess, clock: VirtualClock, start: Start
    ) -> None:
        """Without a wait, and then it watches again."""
        informer = self.watched(source, clock, start)
        informer.relist(since=since)
        eventually(lambda: source.lists == 3 and informer.is_watching)
        cluster.put("a")
        eventually(lambda: informer.indexer.get("a", "default"))
        assert clock.monotonic() == 7

    def test_leaves_a_newer_list_alone(
        self, cluster: Cluster, source: InProcess, clock: VirtualClock, start: Start
    ) -> None:
        """Each informer lists once after an outage, whoever noticed the return first."""
        informer = self.watched(source, clock, start)
        informer.relist(since=4.9)
        cluster.put("a")
        eventually(lambda: informer.indexer.get("a", "default"))
        assert (source.lists, source.watches) == (2, 1)

    def test_ends_a_watch_without_an_answer(self, source: InProcess, clock: VirtualClock, start: Start) -> None:
        """Its packets may be repeated only after a long wait."""
        source.hanging_watches = 1
        informer = make(source, clock)
        start(informer)
        eventually(lambda: source.watches == 1)
        assert not informer.is_watching
        informer.relist(since=0)
        eventually(lambda: informer.is_watching)
        assert (source.lists, source.watches) == (2, 2)

    def test_ends_a_list_without_an_answer(
        self, cluster: Cluster, source: InProcess, clock: VirtualClock, start: Start
    ) -> None:
        """When its first page comes after all, the thread that waited for it does not ask for the second."""
        cluster.put("a")
        cluster.put("b")
        cluster.page_size = 1
        source.held = threading.Event()
        informer = make(source, clock)
        start(informer)
        eventually(lambda: source.lists == 1)
        informer.relist()
        eventually(lambda: informer.is_watching)
        assert [bool(token) for token in source.tokens] == [False, False, True]
        assert clock.monotonic() == 0

    def test_leaves_a_newer_list_alone_that_is_not_complete(
        self, source: InProcess, clock: VirtualClock, start: Start
    ) -> None:
        """However long it takes: to end it would be no progress."""
        source.held = held = threading.Event()
        informer = make(source, clock)
        start(informer)
        eventually(lambda: source.lists == 1)
        informer.relist(since=-1)
        held.set()
        eventually(lambda: informer.is_watching)
        assert source.lists == 1

    def test_ends_a_wait_of_a_newer_round(self, source: InProcess, clock: VirtualClock, start: Start) -> None:
        """It may have begun before the server was back, after the last sign that it was away."""
        source.list_faults.append(api_error(Forbidden, "Forbidden", 403))
        informer = make(source, clock)
        start(informer)
        clock.wait_for_waiters(1)
        informer.relist(since=-1)
        eventually(lambda: informer.is_watching)
        assert clock.monotonic() == 0

    def test_waits_start_anew(self, source: InProcess, clock: VirtualClock, start: Start) -> None:
        """The cause of the earlier failures may be gone."""
        source.list_faults.extend([api_error(Forbidden, "Forbidden", 403)] * 6)
        informer = SharedInformer(source, name="widgets", clock=clock, random=lambda: 0.0, watch_list=False)
        start(informer)
        for wait in (0.8, 1.6, 3.2, 6.4):
            clock.wait_for_waiters(1)
            clock.advance(wait)
        clock.wait_for_waiters(1)
        assert source.lists == 5
        informer.relist()
        eventually(lambda: source.lists == 6)
        clock.wait_for_waiters(1)
        clock.advance(0.8)
        eventually(lambda: informer.is_watching)


class TestDistrust:
    """An answer of the API server contradicts the cache: the server was restored, and watches say nothing of it."""

    def test_lists_again_with_back_off(
        self, cluster: Cluster, source: InProcess, clock: VirtualClock, start: Start
    ) -> None:
        """A write into a restored server, say. More of them cause no storm of lists."""
        informer = SharedInformer(source, name="widgets", clock=clock, random=lambda: 0.0, watch_list=False)
        start(informer)
        eventually(lambda: informer.is_watching)
        for lists, wait in enumerate((0.8, 1.6, 3.2), 2):
            cluster.put(f"w{lists}")
            eventually(lambda lists=lists: informer.indexer.get(f"w{lists}", "default"))  # type: ignore[misc]
            informer.indexer.distrust()
            clock.wait_for_waiters(1)
            informer.indexer.distrust()
            clock.advance(wait)
            eventually(lambda lists=lists: source.lists == lists and informer.is_watching)  # type: ignore[misc]

    def test_ends_no_list(self, source: InProcess, clock: VirtualClock, start: Start) -> None:
        """A list in progress is of the latest state."""
        source.held = held = threading.Event()
        informer = make(source, clock)
        start(informer)
        eventually(lambda: source.lists == 1)
        informer.indexer.distrust()
        held.set()
        eventually(lambda: informer.is_watching)
        assert source.lists == 1

    def test_ends_no_streamed_list(self, source: InProcess, clock: VirtualClock, start: Start) -> None:
        source.ignores_initial_events = True
        informer = SharedInformer(source, name="widgets", clock=clock)
        start(informer)
        eventually(lambda: source.is_watched)
        informer.indexer.distrust()
        assert source.is_watched
