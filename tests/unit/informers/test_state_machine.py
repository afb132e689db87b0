"""For any sequence of changes and faults the cache ends equal to the server, and what handlers see is consistent."""

import threading
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from informers import (
    ConnectionFailed,
    DeletedFinalStateUnknown,
    EventHandlers,
    Expired,
    Forbidden,
    ServerError,
    SharedInformer,
    TooManyRequests,
    WatchEvent,
    object_key,
)
from informers.transport import Stop
from tests.fake_api_server.cluster import Cluster
from tests.fake_api_server.in_process import InProcess, api_error
from tests.fake_api_server.objects import status
from tests.fake_api_server.waiting import HastyClock, eventually

Object = dict[str, Any]

NAMES = st.sampled_from("abcdef")
ERRORS = st.sampled_from(
    [
        api_error(ServerError, "InternalError", 500),
        api_error(Forbidden, "Forbidden", 403),
        api_error(TooManyRequests, "TooManyRequests", 429),
        api_error(Expired, "Expired", 410),
        api_error(ConnectionFailed, ConnectionFailed.REFUSED, 0),
        api_error(ConnectionFailed, ConnectionFailed.BROKEN, 0),
    ]
)
WRONG_KIND = {"kind": "Gadget", "apiVersion": "v1", "metadata": {"name": "x", "resourceVersion": "999999"}}
STREAMS = st.sampled_from(
    [
        [],  # closed at once
        [WatchEvent("ERROR", status(410, "Expired"))],
        [WatchEvent("ERROR", status(410, "Gone"))],
        [WatchEvent("ERROR", status(429, "TooManyRequests"))],
        [WatchEvent("ERROR", status(500, "InternalError"))],
        [WatchEvent("ADDED", WRONG_KIND)],
    ]
)


class History:
    """A handler that holds what it was told against the rules: per object add, updates, delete, in rising versions."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.objects: dict[str, Object] = {}
        self.broken: list[str] = []
        self.handlers = EventHandlers(on_add=self._add, on_update=self._update, on_delete=self._delete)

    def _add(self, obj: Object, is_initial_list: bool) -> None:
        with self.lock:
            key = object_key(obj)
            if key in self.objects:
                self.broken.append(f"{key} was added twice")
            self.objects[key] = obj

    def _update(self, old: Object, new: Object) -> None:
        with self.lock:
            key = object_key(new)
            if self.objects.get(key) is not old:
                self.broken.append(f"{key} was updated from what was not the last told")
            if version(old) > version(new):
                self.broken.append(f"{key} went back in time")
            self.objects[key] = new

    def _delete(self, obj: Object | DeletedFinalStateUnknown) -> None:
        with self.lock:
            if isinstance(obj, DeletedFinalStateUnknown):
                key = obj.key
                if self.objects.get(key) is not obj.obj:
                    self.broken.append(f"the tombstone of {key} is not of the last told")
            else:
                key = object_key(obj)
            if self.objects.pop(key, None) is None:
                self.broken.append(f"{key} was deleted, but never added")


def version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])


class InformerMachine(RuleBasedStateMachine):
    """The server changes and fails while the informer runs in its threads."""

    @initialize(watch_list=st.booleans(), page_size=st.sampled_from([None, 2]))
    def run(self, watch_list: bool, page_size: int | None) -> None:
        self.cluster = Cluster()
        self.source = InProcess(self.cluster, page_size=page_size)
        self.informer = SharedInformer(self.source, name="widgets", clock=HastyClock(), watch_list=watch_list)
        self.histories = [History()]
        self.informer.add_event_handler(self.histories[0].handlers)
        self.stop = Stop()
        self.thread = threading.Thread(target=self.informer.run, args=(self.stop,))
        self.thread.start()

    @rule(name=NAMES)
    def put(self, name: str) -> None:
        self.cluster.put(name)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        self.cluster.delete(name)

    @rule(name=NAMES)
    def recreate(self, name: str) -> None:
        with self.cluster.changed:
            self.cluster.delete(name)
            self.cluster.put(name)

    @rule()
    def bookmark(self) -> None:
        self.cluster.bookmark()

    @rule()
    def compact(self) -> None:
        self.cluster.compact()

    @rule(name=NAMES)
    def lose_the_history_of_a_change(self, name: str) -> None:
        with self.cluster.changed:
            self.cluster.delete(name)
            self.cluster.compact()

    @rule(error=ERRORS)
    def fail_a_list(self, error: Any) -> None:
        self.source.list_faults.append(error)

    @rule(fault=st.one_of(ERRORS, STREAMS))
    def fail_a_watch(self, fault: Any) -> None:
        self.source.watch_faults.append(fault)
        self.source.end_watches()

    @rule()
    def end_watches(self) -> None:
        self.source.end_watches()

    @rule()
    def late_handler(self) -> None:
        self.histories.append(History())
        self.informer.add_event_handler(self.histories[-1].handlers)

    @rule()
    def catch_up(self) -> None:
        self.cluster.put("sentinel")
        eventually(lambda: self.view(self.informer.indexer.list()) == self.cluster.objects)
        for history in self.histories:
            eventually(lambda history=history: self.view(history.objects.values()) == self.cluster.objects)  # type: ignore[misc]

    @invariant()
    def histories_are_consistent(self) -> None:
        for history in getattr(self, "histories", []):
            assert not history.broken

    def view(self, objs: Any) -> dict[str, Object]:
        return {object_key(obj): obj for obj in list(objs)}

    def teardown(self) -> None:
        if not hasattr(self, "thread"):
            return
        try:
            self.catch_up()
            self.histories_are_consistent()
        finally:
            self.stop.set()
            self.thread.join(60)
        assert not self.thread.is_alive()


TestInformerMachine = InformerMachine.TestCase
TestInformerMachine.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
