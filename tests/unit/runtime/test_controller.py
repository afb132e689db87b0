"""The rules of a controller: what follows from each outcome, which keys an event adds, and how it stops."""

import json
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller.runtime import LOW_PRIORITY, Controller, Metrics, ReconcileFailed, Result, logs
from controller.runtime.controller import Predicate
from informers import ConnectionFailed, DeletedFinalStateUnknown, EventHandlers, Forbidden, Stop, Stopped
from tests.clock import VirtualClock
from tests.unit.runtime.conftest import Threads

Object = dict[str, Any]
WAIT = 60.0


class Script:
    """A reconciler that returns or raises the outcomes, then succeeds; it notes when it got which key."""

    def __init__(self, clock: VirtualClock, *outcomes: object) -> None:
        self._clock = clock
        self._outcomes = list(outcomes)
        self.calls: list[tuple[float, str]] = []

    def __call__(self, key: str) -> Result:
        self.calls.append((round(self._clock.monotonic(), 6), key))
        outcome = self._outcomes.pop(0) if self._outcomes else Result()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome  # type: ignore[return-value]

    @property
    def times(self) -> list[float]:
        return [time for time, _ in self.calls]


class Panic(BaseException):
    """As a panic of an extension module in Rust comes: no Exception."""


class FakeRegistration:
    has_synced = True


class FakeInformer:
    def __init__(self) -> None:
        self.handlers: EventHandlers | None = None
        self.registration = FakeRegistration()
        self.removed = False

    def add_event_handler(self, handlers: EventHandlers) -> Any:
        self.handlers = handlers
        return self.registration

    def remove_event_handler(self, registration: object) -> None:
        assert registration is self.registration
        self.removed = True


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, {"controller": "test", **labels})


def obj(name: str, *, version: str = "1", **labels: str) -> Object:
    return {"metadata": {"name": name, "namespace": "ns", "resourceVersion": version, "labels": labels}}


def name_of(object_: Object) -> Iterable[str]:
    return (object_["metadata"]["name"],)


class TestOutcomes:
    """controller-runtime's rules: error, requeue after, success."""

    @pytest.mark.parametrize(
        ("outcome", "result", "errors", "panics", "again_after"),
        [
            (Result(), "success", 0, 0, None),
            (Result(requeue_after=30), "requeue_after", 0, 0, 30.0),
            (Result(requeue_after=0), "requeue_after", 0, 0, 0.0),
            (Result(requeue_after=-5), "requeue_after", 0, 0, 0.0),
            (OSError("no answer"), "error", 1, 0, 0.005),
            (Forbidden("no"), "error", 1, 0, 0.005),
            (ReconcileFailed("no"), "error", 1, 0, 0.005),
            (KeyError("spec"), "error", 1, 1, 0.005),
            (SystemExit(), "error", 1, 1, 0.005),
            (Panic("called `Option::unwrap()` on a `None` value"), "error", 1, 1, 0.005),
            ("not a Result", "error", 1, 1, 0.005),
        ],
        ids=str,
    )
    def test_the_outcome_decides_metrics_and_retry(
        self,
        outcome: Any,
        result: Any,
        errors: Any,
        panics: Any,
        again_after: Any,
        clock: VirtualClock,
        threads: Threads,
    ) -> None:
        """Each outcome has one result, is counted as what it is, and brings the key back when its rule says so."""
        metrics = Metrics()
        # The second reconcile blocks: what is counted and queued after the first one stands still.
        second = threading.Event()
        release = threading.Event()
        script = Script(clock, outcome)

        def reconcile(key: str) -> Result:
            if script.calls:
                second.set()
                release.wait(WAIT)
            return script(key)

        controller = Controller("test", reconcile, clock=clock, metrics=metrics)
        threads.start(controller.run)
        controller.enqueue("a")
        if again_after is None:
            clock.wait_for_waiters(1)
            clock.advance(2000)
            clock.wait_for_waiters(1)
            assert script.times == [0.0]
        else:
            if again_after > 0:
                clock.wait_for_waiters(1)
                clock.advance(again_after - 0.001)
                clock.wait_for_waiters(1)
                assert not second.is_set()
                clock.advance(0.001)
            assert second.wait(WAIT)
            assert metrics.registry.get_sample_value("controller_runtime_active_workers", {"controller": "test"}) == 1
        for name in ("success", "error", "requeue_after"):
            assert sample(metrics.registry, "controller_runtime_reconcile_total", result=name) == (name == result)
        assert sample(metrics.registry, "controller_runtime_reconcile_errors_total") == errors
        assert sample(metrics.registry, "controller_runtime_reconcile_panics_total") == panics
        assert sample(metrics.registry, "controller_runtime_reconcile_time_seconds_count") == 1
        release.set()

    @pytest.mark.parametrize(("between", "wait"), [(Result(), None), (Result(requeue_after=60), 60)], ids=str)
    def test_a_success_forgets_failures(self, between: Any, wait: Any, clock: VirtualClock, threads: Threads) -> None:
        """After a success, and before a requeue after a delay, the count of failures starts anew."""
        script = Script(clock, OSError(), OSError(), between, OSError())
        controller = Controller("test", script, clock=clock)
        threads.start(controller.run)
        controller.enqueue("a")
        for seconds in (0.005, 0.010):
            clock.wait_for_waiters(1)
            clock.advance(seconds)
        clock.wait_for_waiters(1)
        if wait:
            clock.advance(wait)
        else:
            controller.enqueue("a")
        clock.wait_for_waiters(1)
        assert len(script.calls) == 4
        clock.advance(0.005)
        clock.wait_for_waiters(1)
        assert len(script.calls) == 5

    def test_an_unexpected_error_is_logged_with_traceback(
        self, clock: VirtualClock, threads: Threads, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A reconcile that raises neither ends the worker nor goes unnoticed."""
        script = Script(clock, KeyError("spec"))
        controller = Controller("test", script, clock=clock)
        threads.start(controller.run)
        controller.enqueue("a")
        clock.wait_for_waiters(1)
        controller.enqueue("b")
        clock.wait_for_waiters(1)
        assert [key for _, key in script.calls] == ["a", "b"]
        record = next(r for r in caplog.records if r.levelno == logging.ERROR)
        assert record.getMessage() == "Reconcile failed"
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], KeyError)

    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (ConnectionFailed("connection refused", reason=ConnectionFailed.REFUSED), "connection refused"),
            (ReconcileFailed("Secret ns/a: exists and is not ours"), "Secret ns/a: exists and is not ours"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_an_expected_failure_is_one_line_without_traceback(
        self, error: Exception, text: str, clock: VirtualClock, threads: Threads, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The log shows what failed and why, once for each try."""
        controller = Controller("test", Script(clock, error), clock=clock)
        threads.start(controller.run)
        controller.enqueue("a")
        clock.wait_for_waiters(1)
        (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
        assert record.levelno == logging.WARNING
        assert record.exc_info is None
        assert text in record.error  # type: ignore[attr-defined]

    def test_an_error_that_ends_a_worker_ends_the_controller(self, clock: VirtualClock, threads: Threads) -> None:
        """Not even a failure in reporting a failure is unseen: run() raises it."""

        class BrokenMetric:
            def inc(self) -> None:
                raise ValueError("the metrics are broken")

        controller = Controller("test", Script(clock), workers=2, clock=clock)
        controller._metrics = replace(controller._metrics, active_workers=BrokenMetric(), errors=BrokenMetric())  # type: ignore[arg-type]
        threads.start(controller.run)
        controller.enqueue("a")
        assert "metrics are broken" in str(threads.error())

    def test_an_error_around_a_reconcile_causes_a_retry(self, clock: VirtualClock, threads: Threads) -> None:
        """The worker goes on, and the key comes back."""

        class FailsOnce:
            def __init__(self) -> None:
                self.calls = 0

            def inc(self) -> None:
                self.calls += 1
                if self.calls == 1:
                    raise ValueError("the metrics are broken")

            def dec(self) -> None:
                """Nothing to count."""

        script = Script(clock)
        metrics = Metrics()
        controller = Controller("test", script, clock=clock, metrics=metrics)
        controller._metrics = replace(controller._metrics, active_workers=FailsOnce())  # type: ignore[arg-type]
        threads.start(controller.run)
        controller.enqueue("a")
        clock.wait_for_waiters(1)
        assert script.calls == []
        clock.advance(0.005)
        clock.wait_for_waiters(1)
        assert script.times == [0.005]
        assert sample(metrics.registry, "controller_runtime_reconcile_panics_total") == 1

    def test_a_reconcile_whose_term_is_over_is_no_failure(
        self, clock: VirtualClock, threads: Threads, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Nothing is counted, and it is not tried again: the next term begins anew."""
        metrics = Metrics()
        controller = Controller("test", Script(clock, Stopped()), clock=clock, metrics=metrics)
        threads.start(controller.run)
        controller.enqueue("a")
        clock.wait_for_waiters(1)
        assert [r for r in caplog.records if r.levelno > logging.INFO] == []
        assert sample(metrics.registry, "controller_runtime_reconcile_errors_total") == 0
        assert controller.queue.num_requeues("a") == 0

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_a_delay_is_a_finite_number(self, value: Any) -> None:
        """A delay that would never end is refused where it is made."""
        with pytest.raises(ValueError, match="finite"):
            Result(requeue_after=value)


class TestWorkers:
    def test_each_attempt_has_its_own_context(self, clock: VirtualClock, threads: Threads) -> None:
        """controller, key and a fresh reconcileID are in each log record of a reconcile."""
        seen: list[dict[str, object]] = []

        def reconcile(_key: str) -> Result:
            seen.append(json.loads(logs.JsonFormatter().format(logging.makeLogRecord({"msg": "Message"}))))
            return Result()

        controller = Controller("test", reconcile, clock=clock, kind="Application")
        threads.start(controller.run)
        for key in ("a", "a"):
            controller.enqueue(key)
            clock.wait_for_waiters(1)
        assert [(c["controller"], c["controllerKind"], c["key"]) for c in seen] == [("test", "Application", "a")] * 2
        assert seen[0]["reconcileID"] != seen[1]["reconcileID"]

    def test_workers_reconcile_different_keys_in_parallel(self, clock: VirtualClock, threads: Threads) -> None:
        together = threading.Barrier(3, timeout=WAIT)

        def reconcile(_key: str) -> Result:
            together.wait()
            return Result()

        metrics = Metrics()
        controller = Controller("test", reconcile, workers=3, clock=clock, metrics=metrics)
        for key in "abc":
            controller.enqueue(key)
        threads.start(controller.run)
        clock.wait_for_waiters(3)
        assert not together.broken
        assert sample(metrics.registry, "controller_runtime_max_concurrent_reconciles") == 3
        assert sample(metrics.registry, "controller_runtime_reconcile_total", result="success") == 3

    def test_no_reconcile_begins_after_the_stop(self, clock: VirtualClock, threads: Threads) -> None:
        """The one under way ends, the queued ones are left to the next leader, and run returns after that."""
        entered = threading.Event()
        release = threading.Event()
        calls: list[str] = []

        def reconcile(key: str) -> Result:
            calls.append(key)
            entered.set()
            release.wait(WAIT)
            return Result()

        controller = Controller("test", reconcile, clock=clock)
        thread = threads.start(controller.run)
        controller.enqueue("a")
        assert entered.wait(WAIT)
        controller.enqueue("b")
        threads.stop.set()
        while not controller.queue.shutting_down:
            threading.Event().wait(0.001)
        assert thread.is_alive()
        release.set()
        threads.join()
        assert calls == ["a"]

    def test_runs_once(self, clock: VirtualClock, threads: Threads) -> None:
        """A controller cannot be run, nor given watches, a second time."""
        controller = Controller("test", lambda _key: Result(), clock=clock)  # type: ignore[var-annotated]
        threads.start(controller.run)
        clock.wait_for_waiters(1)
        with pytest.raises(RuntimeError, match="twice"):
            controller.run(threads.stop)
        with pytest.raises(RuntimeError, match="after run"):
            controller.watches(FakeInformer(), name_of)


class TestPriorities:
    """controller-runtime: a retry keeps the priority of its key (pkg/internal/controller: "priority" of the queue)."""

    def handed_out(
        self,
        clock: VirtualClock,
        threads: Threads,
        reconcile: Callable[[str, int], Result],
        waiting: Iterable[tuple[str, int]] = (),
    ) -> Controller[str]:
        """Start a controller with one worker, whose reconcile gets key and priority. The keys in `waiting` are queued
        with their priorities before it starts.
        """
        controller: Controller[str] = Controller("test", lambda key: reconcile(key, got[-1]), clock=clock)
        got: list[int] = []
        take = controller.queue.get_with_priority

        def get_with_priority() -> tuple[str, int]:
            key, priority = take()
            got.append(priority)
            return key, priority

        controller.queue.get_with_priority = get_with_priority  # type: ignore[method-assign]
        for key, priority in waiting:
            controller.enqueue(key, priority=priority)
        threads.start(controller.run)
        return controller

    @pytest.mark.parametrize("outcome", [OSError(), Result(requeue_after=1), Result(requeue_after=0)], ids=str)
    @pytest.mark.parametrize("priority", [LOW_PRIORITY, 0, 10])
    def test_a_key_that_comes_back_keeps_its_priority(
        self, outcome: Any, priority: Any, clock: VirtualClock, threads: Threads
    ) -> None:
        """After a failure and after requeue_after."""
        priorities: list[int] = []

        def reconcile(_key: str, got: int) -> Result:
            priorities.append(got)
            if len(priorities) > 1:
                return Result()
            if isinstance(outcome, Exception):
                raise outcome
            return outcome  # type: ignore[no-any-return]

        controller = self.handed_out(clock, threads, reconcile)
        controller.enqueue("a", priority=priority)
        clock.wait_for_waiters(1)
        clock.advance(1)
        clock.wait_for_waiters(1)
        assert priorities == [priority, priority]

    def test_a_key_that_goes_on_failing_steps_back(self, clock: VirtualClock, threads: Threads) -> None:
        """Three retries in its place; then behind all others, until an event brings it back or it succeeds."""
        priorities: list[int] = []

        def reconcile(_key: str, got: int) -> Result:
            priorities.append(got)
            if len(priorities) == 7:
                return Result()
            raise OSError

        controller = self.handed_out(clock, threads, reconcile)
        controller.enqueue("a", priority=10)
        for _ in range(5):
            clock.wait_for_waiters(1)
            clock.advance(1)
        clock.wait_for_waiters(1)
        controller.enqueue("a", priority=3)
        clock.wait_for_waiters(1)
        assert priorities == [10, 10, 10, 10, LOW_PRIORITY, LOW_PRIORITY, 3]
        clock.advance(10)  # the delay of the last failure is over, too
        clock.wait_for_waiters(1)
        controller.enqueue("a", priority=5)
        clock.wait_for_waiters(1)
        assert priorities[-1] == 5

    @pytest.mark.parametrize("failing_priority", [LOW_PRIORITY, 0, 10])
    def test_new_keys_are_not_starved_by_failing_ones(
        self, failing_priority: Any, clock: VirtualClock, threads: Threads
    ) -> None:
        """60 of 300 keys fail, each reconcile takes 50 ms: all were tried after 15 s, or as soon as the failing ones of
        a higher priority have stepped back.
        """
        tried: dict[str, int] = {}
        attempts: dict[str, int] = {}  # how often the failing ones had been tried when all had been
        done = threading.Event()

        def reconcile(key: str, _priority: int) -> Result:
            clock.advance(0.05)
            tried[key] = tried.get(key, 0) + 1
            if len(tried) == 300 and not done.is_set():
                attempts.update((key, count) for key, count in tried.items() if key.startswith("failing"))
                done.set()
            if key.startswith("failing"):
                raise OSError
            return Result()

        for_all = [(f"failing {n}", failing_priority) for n in range(60)] + [
            (f"fresh {n}", LOW_PRIORITY) for n in range(240)
        ]
        self.handed_out(clock, threads, reconcile, for_all)
        assert done.wait(WAIT)
        assert max(attempts.values()) <= (2 if failing_priority == LOW_PRIORITY else 5)


class TestWatches:
    def enqueued(
        self,
        clock: VirtualClock,
        fire: Callable[[EventHandlers], None],
        keys: Callable[[Object], Iterable[str]] = name_of,
        predicate: Predicate | None = None,
    ) -> list[tuple[str, int]]:
        """Return the (key, priority) that one event adds, in order."""
        added: list[tuple[str, int]] = []
        informer = FakeInformer()
        controller: Controller[str] = Controller("test", lambda _key: Result(), clock=clock)
        controller.watches(informer, keys, predicate=predicate)
        controller.queue.add = lambda key, *, priority=0: added.append((key, priority))  # type: ignore[method-assign]
        stop = Stop()
        stop.set()
        controller.run(stop)
        assert informer.handlers is not None
        fire(informer.handlers)
        assert informer.removed
        return added

    @pytest.mark.parametrize(
        ("event", "expected"),
        [
            (lambda h: h.on_add(obj("a"), True), [("a", LOW_PRIORITY)]),
            (lambda h: h.on_add(obj("a"), False), [("a", 0)]),
            (lambda h: h.on_update(obj("a"), obj("a", version="2")), [("a", 0)]),
            (lambda h: h.on_update(obj("a"), obj("b", version="2")), [("a", 0), ("b", 0)]),
            (lambda h: h.on_delete(obj("a")), [("a", 0)]),
            (lambda h: h.on_delete(DeletedFinalStateUnknown("ns/a", obj("a"))), [("a", 0)]),
            (lambda h: h.on_delete(DeletedFinalStateUnknown("ns/a", None)), [("a", 0)]),
            (lambda h: h.on_delete(DeletedFinalStateUnknown("a", None)), [("a", 0)]),
        ],
        ids=["initial", "add", "update", "both", "delete", "tombstone", "empty tombstone", "cluster-scoped"],
    )
    def test_each_event_enqueues_the_keys_of_its_objects(self, event: Any, expected: Any, clock: VirtualClock) -> None:
        """Old and new object are mapped, each key is added once; the initial list steps back."""
        assert self.enqueued(clock, event) == expected

    @pytest.mark.parametrize("error", [KeyError("spec"), SystemExit()], ids=repr)
    def test_a_failing_mapping_is_counted_and_raised(self, error: Exception, clock: VirtualClock) -> None:
        """Its event is lost, so it must not go unnoticed: the informer logs what is raised."""
        metrics = Metrics()
        informer = FakeInformer()
        controller = Controller("test", lambda _key: Result(), clock=clock, metrics=metrics)  # type: ignore[var-annotated]

        def fail(_obj: Object) -> Iterable[str]:
            raise error

        controller.watches(informer, fail)
        stop = Stop()
        stop.set()
        controller.run(stop)
        assert informer.handlers is not None
        with pytest.raises(type(error)):
            informer.handlers.on_add(obj("a"), False)
        assert sample(metrics.registry, "controller_runtime_reconcile_panics_total") == 1

    def test_a_text_is_no_collection_of_keys(self, clock: VirtualClock) -> None:
        """Each of its characters would be a key."""
        with pytest.raises(TypeError, match=r"keys function of the controller .* returned the text 'abc'"):
            self.enqueued(clock, lambda h: h.on_add(obj("abc"), False), keys=lambda o: o["metadata"]["name"])

    def test_an_object_may_map_to_many_keys_or_none(self, clock: VirtualClock) -> None:
        """In order and without doubles."""
        add: Callable[[EventHandlers], None] = lambda h: h.on_add(obj("a"), False)  # noqa: E731
        assert self.enqueued(clock, add, keys=lambda _o: ["x", "y", "x"]) == [("x", 0), ("y", 0)]
        assert self.enqueued(clock, add, keys=lambda _o: []) == []

    def test_a_predicate_rejects_changes(self, clock: VirtualClock) -> None:
        seen: list[Any] = []

        def predicate(old: Object | None, new: Object | None) -> bool:
            seen.append((old, new))
            return False

        def fire(handlers: EventHandlers) -> None:
            handlers.on_add(obj("a"), False)
            handlers.on_update(obj("a"), obj("b"))
            handlers.on_delete(obj("a"))

        assert self.enqueued(clock, fire, predicate=predicate) == []
        assert seen == [(None, obj("a")), (obj("a"), obj("b")), (obj("a"), None)]

    def test_no_reconcile_before_the_caches_are_filled(self, clock: VirtualClock, threads: Threads) -> None:
        """A reconcile never reads half a cache."""
        script = Script(clock)
        informer = FakeInformer()
        informer.registration.has_synced = False
        controller = Controller("test", script, clock=clock)
        controller.watches(informer, name_of)
        threads.start(controller.run)
        clock.wait_for_waiters(1)
        informer.handlers.on_add(obj("a"), True)  # type: ignore[union-attr]
        clock.advance(60)
        clock.wait_for_waiters(1)
        assert script.calls == []
        informer.registration.has_synced = True
        clock.advance(1)
        clock.wait_for_waiters(1)
        assert script.calls == [(61.0, "a")]

    def test_a_watch_that_cannot_begin_leaves_no_other_behind(self, clock: VirtualClock, threads: Threads) -> None:
        """The handlers of the watches before it would fill a queue that is not read."""

        class Broken(FakeInformer):
            def add_event_handler(self, handlers: EventHandlers) -> Any:
                raise ValueError("no such index")

        informer = FakeInformer()
        controller = Controller("test", Script(clock), clock=clock)
        controller.watches(informer, name_of)
        controller.watches(Broken(), name_of)
        threads.start(controller.run)
        assert isinstance(threads.error(), ValueError)
        assert informer.removed

    def test_a_stop_while_waiting_for_the_caches_ends_the_controller(
        self, clock: VirtualClock, threads: Threads
    ) -> None:
        """A controller that never got to work stops like any other."""
        informer = FakeInformer()
        informer.registration.has_synced = False
        controller = Controller("test", Script(clock), clock=clock)
        controller.watches(informer, name_of)
        threads.start(controller.run)
        clock.wait_for_waiters(1)
        threads.end()
        assert informer.removed
