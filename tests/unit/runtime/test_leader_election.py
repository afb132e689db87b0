"""client-go's rules of leader election, on a clock that stands still."""

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from controller.runtime import LeaderElectionConfig, LeaderElectionLost, LeaderElector, Metrics, Term
from informers import ApiError, ConnectionFailed, Forbidden, NotFound, ServerError
from tests.unit.runtime.conftest import FakeApi, Threads
from workqueue.testing import VirtualClock

PATH = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/lock"
WAIT = 60.0


class Candidate:
    """One process that fights for the lease; what its callbacks were told is kept with the time."""

    def __init__(self, api: Any, clock: VirtualClock, identity: str, **config: Any) -> None:
        self.events: list[tuple[float, str]] = []
        self.lost: LeaderElectionLost | None = None
        self.term: Term | None = None
        self.stopped = threading.Event()
        self.started = threading.Event()
        self.clock = clock
        self.metrics = Metrics()
        self.elector = LeaderElector(
            api,
            LeaderElectionConfig(name="lock", namespace="ns", identity=identity, **config),
            on_started=self._on_started,
            on_stopped=self._on_stopped,
            clock=clock,
            rng=lambda: 1.0,  # a try each 2 s, the longest pause
            metrics=self.metrics,
        )

    def _on_started(self, term: Term) -> None:
        self.term = term
        self.events.append((self.clock.monotonic(), "started"))
        self.started.set()

    def _on_stopped(self, lost: LeaderElectionLost | None) -> None:
        self.lost = lost
        self.events.append((self.clock.monotonic(), "lost" if lost else "stopped"))
        self.stopped.set()

    @property
    def master_status(self) -> float | None:
        return self.metrics.registry.get_sample_value("leader_election_master_status", {"name": "lock"})

    @property
    def slow_paths(self) -> float | None:
        return self.metrics.registry.get_sample_value("leader_election_slowpath_total", {"name": "lock"})


def lease(holder: str, *, duration: int = 15, transitions: int = 3) -> dict[str, Any]:
    return {
        "metadata": {"name": "lock", "namespace": "ns", "resourceVersion": "0", "labels": {"kept": "yes"}},
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": duration,
            "acquireTime": "2020-01-01T00:00:00.000000Z",
            "renewTime": "2020-01-01T00:00:00.000000Z",
            "leaseTransitions": transitions,
        },
    }


def step(clock: VirtualClock, seconds: float, *, waiters: int, by: float = 0.5) -> None:
    """Let time pass in small steps, each after all threads wait again."""
    for _ in range(round(seconds / by)):
        clock.wait_for_waiters(waiters)
        clock.advance(by)
    clock.wait_for_waiters(waiters)


class TestConfig:
    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"name": ""}, "name must not be empty"),
            ({"namespace": ""}, "namespace must not be empty"),
            ({"retry_period": 0}, "retry_period must be positive"),
            ({"renew_deadline": 2.4}, "renew_deadline"),
            ({"renew_deadline": 15}, "lease_duration"),
            ({"lease_duration": 10}, "lease_duration"),
        ],
        ids=str,
    )
    def test_durations_that_cannot_work_are_refused(self, config: Any, message: Any) -> None:
        """lease duration > renew deadline > retry period * 1.2 > 0, and the lease has a name."""
        with pytest.raises(ValueError, match=message):
            LeaderElectionConfig(**({"name": "lock", "namespace": "ns"} | config))

    def test_defaults(self) -> None:
        """15 s, 10 s, 2 s; each process has an identity of its own that tells the host."""
        first, second = (LeaderElectionConfig(name="lock", namespace="ns") for _ in range(2))
        assert (first.lease_duration, first.renew_deadline, first.retry_period) == (15, 10, 2)
        assert first.identity != second.identity
        assert "_" in first.identity


class TestAcquire:
    def test_a_missing_lease_is_created(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> None:
        """The first holder ever: no transitions yet."""
        a = Candidate(api, clock, "a")
        threads.start(a.elector.run)
        assert a.started.wait(WAIT)
        spec = api.objects[PATH]["spec"]
        assert spec == {
            "holderIdentity": "a",
            "leaseDurationSeconds": 15,
            "acquireTime": "2026-01-01T00:00:00.000000Z",
            "renewTime": "2026-01-01T00:00:00.000000Z",
            "leaseTransitions": 0,
        }
        assert a.master_status == 1

    @pytest.mark.parametrize("spec", [{}, None], ids=str)
    def test_a_lease_without_a_record_is_taken(
        self, spec: Any, api: FakeApi, clock: VirtualClock, threads: Threads
    ) -> None:
        """Somebody made the object beforehand, say to be able to restrict rights to it by name."""
        api.objects[PATH] = {"metadata": {"name": "lock", "namespace": "ns", "resourceVersion": "0"}, "spec": spec}
        a = Candidate(api, clock, "a")
        threads.start(a.elector.run)
        assert a.started.wait(WAIT)
        assert api.objects[PATH]["spec"]["holderIdentity"] == "a"

    def test_a_released_lease_is_taken_at_once(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> None:
        """Nobody holds it: no need to wait for it to expire. A takeover counts as a transition, labels survive."""
        api.objects[PATH] = lease("", duration=1)
        a = Candidate(api, clock, "a")
        threads.start(a.elector.run)
        assert a.started.wait(WAIT)
        assert a.events == [(0, "started")]
        assert api.objects[PATH]["spec"]["leaseTransitions"] == 4
        assert api.objects[PATH]["metadata"]["labels"] == {"kept": "yes"}

    @pytest.mark.parametrize("duration", [15, 40, 3])
    def test_a_lease_expires_by_the_duration_written_in_it(
        self, duration: Any, api: FakeApi, clock: VirtualClock, threads: Threads
    ) -> None:
        """Not by the own configuration: taken when the written duration has passed since the first look, and then at
        once, though tries come every 2 s.
        """
        api.objects[PATH] = lease("b", duration=duration)
        writes: list[float] = []
        api.before = lambda method, _path: writes.append(clock.monotonic()) if method == "PUT" else None
        a = Candidate(api, clock, "a")
        threads.start(a.elector.run)
        step(clock, duration - 0.5, waiters=1)
        assert writes == []
        clock.advance(0.5)
        assert a.started.wait(WAIT)
        assert writes == [duration]

    def test_expiry_counts_from_the_last_change_seen(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> None:
        """A record that changes is alive, whatever its times say: the clocks of two machines are never compared."""
        api.objects[PATH] = lease("b")
        a = Candidate(api, clock, "a")
        threads.start(a.elector.run)
        for beat in range(10):
            step(clock, 10, waiters=1)
            # An hour-old renewTime, as from a machine whose clock is slow.
            api.change(PATH, lambda o, beat=beat: o["spec"].update(renewTime=f"2019-01-01T00:00:{beat:02}.000000Z"))  # type: ignore[misc]
        assert not a.started.is_set()
        step(clock, 22, waiters=1)
        assert a.started.wait(WAIT)

    def test_a_change_outside_the_record_is_no_sign_of_life(
        self, api: FakeApi, clock: VirtualClock, threads: Threads
    ) -> None:
        """A new resourceVersion, say by a label, does not keep a dead holder's lease."""
        api.objects[PATH] = lease("b")
        a = Candidate(api, clock, "a")
        threads.start(a.elector.run)
        for _ in range(4):
            step(clock, 5, waiters=1)
            api.change(PATH, lambda o: o["metadata"].setdefault("labels", {}).update(touched="yes"))
        assert a.started.wait(WAIT)

    @pytest.mark.parametrize(
        ("holder", "pod_uid", "taken"),
        [
            ("host_uid-1_aaa", "uid-1", True),
            ("host_uid-1_aaa", "", False),
            ("host_uid-2_aaa", "uid-1", False),
            ("host_aaa", "uid-1", False),
            ("host_uid-1", "uid-1", False),
        ],
    )
    def test_the_lease_of_a_predecessor_in_the_pod_is_taken_at_once(
        self, holder: Any, pod_uid: Any, taken: Any, api: FakeApi, clock: VirtualClock, threads: Threads
    ) -> None:
        """A container that was killed and restarted need not wait for its own lease. It is another process, so that is
        a transition; and without the Pod's uid nobody can tell.
        """
        api.objects[PATH] = lease(holder)
        a = Candidate(api, clock, "", pod_uid=pod_uid)
        threads.start(a.elector.run)
        if taken:
            assert a.started.wait(WAIT)
            spec = api.objects[PATH]["spec"]
            assert spec["holderIdentity"] != holder
            assert f"_{pod_uid}_" in spec["holderIdentity"]
            assert spec["leaseTransitions"] == 4
        else:
            clock.wait_for_waiters(1)
            assert not a.started.is_set()

    def test_a_lease_deleted_under_its_holder_is_left_until_it_would_have_expired(
        self, api: FakeApi, clock: VirtualClock, threads: Threads
    ) -> None:
        """The holder does not know yet that its lease is gone, and still writes. It creates the lease again."""
        api.objects[PATH] = lease("b")
        a = Candidate(api, clock, "a")
        threads.start(a.elector.run)
        clock.wait_for_waiters(1)
        del api.objects[PATH]
        step(clock, 14.5, waiters=1)
        assert PATH not in api.objects
        clock.advance(0.5)
        assert a.started.wait(WAIT)

    def test_while_the_server_is_away_it_is_asked_each_second(
        self, api: FakeApi, clock: VirtualClock, threads: Threads
    ) -> None:
        """So that the work goes on soon after the server is back."""
        tries: list[float] = []

        def fail(_method: str, _path: str) -> None:
            tries.append(clock.monotonic())
            raise ConnectionFailed("refused", reason=ConnectionFailed.REFUSED)

        api.before = fail
        a = Candidate(api, clock, "a")
        threads.start(a.elector.run)
        step(clock, 5, waiters=1)
        assert tries == [0, 1, 2, 3, 4, 5]
        api.before = lambda _method, _path: None
        clock.advance(1)
        assert a.started.wait(WAIT)

    def test_only_one_of_many_gets_an_expired_lease(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> None:
        """The resourceVersion lets one write through; the others go on waiting."""
        api.objects[PATH] = lease("dead")
        candidates = [Candidate(api, clock, name) for name in "abcde"]
        for candidate in candidates:
            threads.start(candidate.elector.run)
        step(clock, 60, waiters=5)
        assert sum(candidate.started.is_set() for candidate in candidates) == 1
        assert api.objects[PATH]["spec"]["leaseTransitions"] == 4

    @pytest.mark.parametrize(
        "error",
        [
            Forbidden("leases is forbidden", status=403, reason="Forbidden"),
            NotFound('namespaces "ns" not found', status=404, reason="NotFound"),
            ConnectionFailed("refused", reason=ConnectionFailed.REFUSED),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_errors_are_retried_and_logged_once_a_change(
        self, error: Exception, api: FakeApi, clock: VirtualClock, threads: Threads, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A missing right or namespace is told once, not every two seconds; mended, the lease is taken."""

        def fail(method: str, _path: str) -> None:
            if method == "POST" or not isinstance(error, NotFound):
                raise error

        api.before = fail
        a = Candidate(api, clock, "a")
        threads.start(a.elector.run)
        step(clock, 30, waiters=1)
        told = [r for r in caplog.records if r.getMessage() == "Cannot read or write the Lease"]
        assert len(told) == 1
        assert error.message in told[0].error  # type: ignore[attr-defined]
        assert not a.started.is_set()
        api.before = lambda _method, _path: None
        step(clock, 4, waiters=1)
        assert a.started.wait(WAIT)
        assert "The Lease can be read and written again" in [r.getMessage() for r in caplog.records]

    def test_the_same_error_in_other_words_is_logged_once(
        self, api: FakeApi, clock: VirtualClock, threads: Threads, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A text may contain what is left of the timeout, which is different each time."""
        texts = (f"no connection within {left} s" for left in itertools.count(2))

        def fail(_method: str, _path: str) -> None:
            raise ConnectionFailed(next(texts), reason=ConnectionFailed.TIMEOUT)

        api.before = fail
        a = Candidate(api, clock, "a")
        threads.start(a.elector.run)
        step(clock, 30, waiters=1)
        told = [r for r in caplog.records if r.getMessage() == "Cannot read or write the Lease"]
        assert [r.error for r in told] == ["no connection within 2 s (Timeout)"]  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        ("error", "unreachable"),
        [
            (None, False),
            (Forbidden("leases is forbidden", status=403, reason="Forbidden"), False),
            (ServerError("not ready", status=503), True),
            (ConnectionFailed("refused", reason=ConnectionFailed.REFUSED), True),
        ],
        ids=str,
    )
    def test_it_is_known_whether_the_server_answers(
        self, error: ApiError | None, unreachable: bool, api: FakeApi, clock: VirtualClock, threads: Threads
    ) -> None:
        """A refusal is an answer. Afterwards it is known that the server is back."""

        def fail(_method: str, _path: str) -> None:
            if error is not None:
                raise error

        api.before = fail
        a = Candidate(api, clock, "a")
        threads.start(a.elector.run)
        step(clock, 3, waiters=1)
        assert a.elector.is_unreachable is unreachable
        api.before = lambda _method, _path: None
        step(clock, 3, waiters=1)
        assert a.elector.is_unreachable is False

    def test_on_stopped_comes_even_if_it_never_led(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> None:
        """Whoever waits for the end of the election gets it once, without an error."""
        api.objects[PATH] = lease("b")
        a = Candidate(api, clock, "a")
        threads.start(a.elector.run)
        clock.wait_for_waiters(1)
        threads.end()
        assert a.events == [(0, "stopped")]
        assert api.objects[PATH]["spec"]["holderIdentity"] == "b"


class TestRenew:
    def lead(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> Candidate:
        a = Candidate(api, clock, "a")
        threads.start(a.elector.run)
        assert a.started.wait(WAIT)
        clock.wait_for_waiters(2)  # the elector and its watchdog
        return a

    def test_a_renewal_is_one_request(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> None:
        """The holder knows its record: it writes every 2 s without reading, and acquireTime stays."""
        a = self.lead(api, clock, threads)
        api.requests.clear()
        step(clock, 20, waiters=2)
        assert api.methods() == ["PUT"] * 10
        assert api.objects[PATH]["spec"]["renewTime"] == "2026-01-01T00:00:20.000000Z"
        assert api.objects[PATH]["spec"]["acquireTime"] == "2026-01-01T00:00:00.000000Z"
        assert api.objects[PATH]["spec"]["leaseTransitions"] == 0
        assert a.slow_paths == 0

    def test_a_lease_touched_by_others_is_read_again(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> None:
        """A conflict on the fast path is no loss: who still is the holder writes on top of the new version."""
        a = self.lead(api, clock, threads)
        api.change(PATH, lambda o: o["metadata"].update(annotations={"touched": "yes"}))
        api.requests.clear()
        step(clock, 2, waiters=2)
        assert api.methods() == ["PUT", "GET", "PUT"]
        assert api.objects[PATH]["metadata"]["annotations"] == {"touched": "yes"}
        assert a.slow_paths == 1
        assert not a.stopped.is_set()

    def test_another_holder_means_lost_at_once(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> None:
        """As soon as the record names somebody else, without waiting for the deadline."""
        a = self.lead(api, clock, threads)
        api.change(PATH, lambda o: o["spec"].update(holderIdentity="b"))
        clock.advance(2)
        assert a.stopped.wait(WAIT)
        assert a.events[-1] == (2, "lost")
        assert "b" in str(a.lost)  # type: ignore[unreachable]
        assert a.master_status == 0
        threads.join()
        assert api.objects[PATH]["spec"]["holderIdentity"] == "b"

    def test_no_renewal_within_the_deadline_means_lost(
        self, api: FakeApi, clock: VirtualClock, threads: Threads
    ) -> None:
        """10 s after the last renewal that succeeded: 5 s before anybody else can take over."""
        a = self.lead(api, clock, threads)
        step(clock, 4, waiters=2)

        def fail(_method: str, _path: str) -> None:
            raise ServerError("etcd is away", status=500)

        api.before = fail
        step(clock, 9.5, waiters=2)
        assert not a.stopped.is_set()
        clock.advance(0.5)
        assert a.stopped.wait(WAIT)
        assert a.events[-1] == (14, "lost")
        assert a.master_status == 0  # type: ignore[unreachable]

    def test_a_short_outage_is_survived(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> None:
        """Renewals that fail for less than the deadline change nothing."""
        a = self.lead(api, clock, threads)

        def fail(_method: str, _path: str) -> None:
            raise ServerError("etcd is away", status=500)

        for _ in range(3):
            api.before = fail
            step(clock, 6, waiters=2)
            api.before = lambda _method, _path: None
            step(clock, 4, waiters=2)
        assert a.events == [(0, "started")]

    def test_a_request_that_hangs_does_not_delay_the_loss(
        self, api: FakeApi, clock: VirtualClock, threads: Threads
    ) -> None:
        """The deadline is watched apart: even while a renewal does not return, the loss is told in time, once."""
        a = self.lead(api, clock, threads)
        hanging = threading.Event()
        release = threading.Event()

        def hang(_method: str, _path: str) -> None:
            hanging.set()
            release.wait(WAIT)

        api.before = hang
        clock.advance(2)
        assert hanging.wait(WAIT)
        clock.wait_for_waiters(1)
        clock.advance(8)
        assert a.stopped.wait(WAIT)
        assert a.events == [(0, "started"), (10, "lost")]
        # The renewal succeeds after all: too late to lead again.
        release.set()
        threads.join()
        assert a.events == [(0, "started"), (10, "lost")]
        assert a.master_status == 0

    def test_the_deadline_counts_from_the_begin_of_the_renewal(
        self, api: FakeApi, clock: VirtualClock, threads: Threads
    ) -> None:
        """An answer that took 4 s was recorded up to 4 s ago, and others count from there."""
        a = self.lead(api, clock, threads)
        slow = threading.Event()
        release = threading.Event()

        def hang(_method: str, _path: str) -> None:
            slow.set()
            release.wait(WAIT)

        api.before = hang
        clock.advance(2)
        assert slow.wait(WAIT)
        clock.wait_for_waiters(1)
        clock.advance(4)  # 6 s

        def fail(_method: str, _path: str) -> None:
            raise ServerError("etcd is away", status=500)

        api.before = fail
        release.set()
        clock.wait_for_waiters(2)
        step(clock, 5.5, waiters=2)  # 11.5 s
        assert not a.stopped.is_set()
        clock.advance(0.5)
        assert a.stopped.wait(WAIT)
        assert a.events[-1] == (12, "lost")

    @pytest.mark.parametrize(
        "durations",
        [(15.0, 10.0, 2.0), (10.0, 7.0, 2.0), (3.0, 2.0, 0.5), (15.0, 10.0, 8.0)],
        ids=str,
    )
    def test_one_request_that_hangs_does_not_lose_the_lease(
        self, durations: Any, api: FakeApi, clock: VirtualClock, threads: Threads
    ) -> None:
        """A try ends soon enough for a second one before the deadline, whichever request of it hangs."""
        duration, deadline, retry = durations
        a = Candidate(api, clock, "a", lease_duration=duration, renew_deadline=deadline, retry_period=retry)
        threads.start(a.elector.run)
        assert a.started.wait(WAIT)
        for slow in (1, 2, 3):  # the write, or the reading and writing after a conflict
            clock.wait_for_waiters(2)
            api.change(PATH, lambda o: o["metadata"].update(annotations={"touched": "yes"}))
            hung: list[float] = []
            requests = len(api.requests)

            def hang(timeout: float, slow: int = slow, requests: int = requests, hung: list[float] = hung) -> None:
                if len(api.requests) - requests == slow - 1 and not hung:
                    hung.append(timeout)
                    clock.advance(timeout)
                    raise ConnectionFailed("no answer", reason=ConnectionFailed.TIMEOUT)

            api.hang = hang
            step(clock, retry + deadline, waiters=2, by=0.1)
            assert hung
        assert a.events == [(0, "started")]

    def test_the_requests_of_a_try_share_its_time(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> None:
        """What the first request took is not there for the second."""
        self.lead(api, clock, threads)
        api.change(PATH, lambda o: o["metadata"].update(annotations={"touched": "yes"}))
        timeouts: list[float] = []

        def slow(timeout: float) -> None:
            timeouts.append(timeout)
            clock.advance(1)

        api.hang = slow
        clock.advance(2)
        clock.wait_for_waiters(2)
        assert timeouts[:3] == pytest.approx([3.6, 2.6, 1.6])

    @pytest.mark.parametrize("failures", [1, 3])
    def test_a_deleted_lease_that_cannot_be_created_at_once_is_not_lost(
        self, failures: Any, api: FakeApi, clock: VirtualClock, threads: Threads
    ) -> None:
        """It is tried until the deadline, like every renewal."""
        a = self.lead(api, clock, threads)
        del api.objects[PATH]
        failed: list[str] = []

        def fail(method: str, _path: str) -> None:
            if method == "POST" and len(failed) < failures:
                failed.append(method)
                raise ServerError("etcd is away", status=500)

        api.before = fail
        step(clock, 2 * (failures + 1), waiters=2)
        assert len(failed) == failures
        assert a.events == [(0, "started")]
        assert api.objects[PATH]["spec"]["holderIdentity"] == "a"

    def test_a_deleted_lease_that_another_has_created_is_lost_at_once(
        self, api: FakeApi, clock: VirtualClock, threads: Threads
    ) -> None:
        """Not only at the next try: the other leads already."""
        a = self.lead(api, clock, threads)
        del api.objects[PATH]

        def overtake(method: str, _path: str) -> None:
            if method == "POST":
                api.objects[PATH] = lease("b")

        api.before = overtake
        clock.advance(2)
        assert a.stopped.wait(WAIT)
        assert a.events[-1] == (2, "lost")

    def test_a_frozen_leader_finds_its_term_over(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> None:
        """The clock tells, before any thread of the election has run; and the renewal that succeeds does not revive it.

        Nobody else wanted the lease, so it leads again, in a new term.
        """
        a = self.lead(api, clock, threads)
        first = a.term
        assert first is not None
        over: list[bool] = []
        api.before = lambda _method, _path: over.append(first.is_set())
        step(clock, 2, waiters=2)
        assert over == [False]
        clock.advance(60)
        assert a.stopped.wait(WAIT)
        threads.join()
        assert a.events == [(0, "started"), (62, "lost")]
        assert all(over[1:])
        assert api.objects[PATH]["spec"]["holderIdentity"] == "a"
        threads.start(a.elector.run)
        clock.wait_for_waiters(2)
        assert first.is_set()
        assert a.term is not None
        assert a.term is not first
        assert not a.term.is_set()

    def test_the_term_is_over_when_the_loss_is_told(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> None:
        """After the callback, nothing more is sent."""
        a = self.lead(api, clock, threads)
        term = a.term
        assert term is not None
        seen: list[bool] = []
        a.elector._on_stopped = lambda _lost: seen.append(term.is_set())
        api.change(PATH, lambda o: o["spec"].update(holderIdentity="b"))
        clock.advance(2)
        threads.join()
        assert seen == [True]

    def test_a_watchdog_that_fails_is_not_unseen(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> None:
        """What went wrong is raised by run; the term is over."""
        a = self.lead(api, clock, threads)

        def fail(_lost: object) -> None:
            raise ValueError("boom")

        a.elector._on_stopped = fail

        def away(_method: str, _path: str) -> None:
            raise ConnectionFailed("refused", reason=ConnectionFailed.REFUSED)

        api.before = away
        clock.advance(10)
        assert "boom" in str(threads.error())
        assert a.term is not None
        assert a.term.is_set()

    def test_a_deleted_lease_is_created_again(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> None:
        """Deleting the object does not end the leader."""
        a = self.lead(api, clock, threads)
        del api.objects[PATH]
        step(clock, 2, waiters=2)
        assert api.objects[PATH]["spec"]["holderIdentity"] == "a"
        assert not a.stopped.is_set()


class TestRelease:
    def run(
        self, api: FakeApi, clock: VirtualClock, threads: Threads, *, release: Callable[[], bool] = lambda: True
    ) -> Candidate:
        a = Candidate(api, clock, "a")
        threads.start(lambda stop: a.elector.run(stop, release=release))
        assert a.started.wait(WAIT)
        clock.wait_for_waiters(2)
        return a

    def test_a_stop_releases_the_lease(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> None:
        """No holder, one second, the transitions stay: the next one need not wait."""
        a = self.run(api, clock, threads)
        threads.end()
        spec = api.objects[PATH]["spec"]
        assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("", 1, 0)
        assert a.events == [(0, "started"), (0, "stopped")]
        assert a.lost is None
        assert a.master_status == 0

    @pytest.mark.parametrize("method", ["PUT", "GET"])
    def test_a_stop_during_a_renewal_releases_the_lease(
        self, method: Any, api: FakeApi, clock: VirtualClock, threads: Threads
    ) -> None:
        """Whichever request of it was under way, and though it failed."""
        self.run(api, clock, threads)
        api.change(PATH, lambda o: o["metadata"].update(annotations={"touched": "yes"}))
        hanging, release, failed = threading.Event(), threading.Event(), []  # type: ignore[var-annotated]

        def hang(asked: str, _path: str) -> None:
            if asked == method and not failed:
                failed.append(asked)
                hanging.set()
                release.wait(WAIT)
                raise ConnectionFailed("broken", reason=ConnectionFailed.BROKEN)

        api.before = hang
        clock.advance(2)
        assert hanging.wait(WAIT)
        threads.stop.set()
        release.set()
        threads.join()
        assert api.objects[PATH]["spec"]["holderIdentity"] == ""

    def test_a_lease_is_kept_while_work_goes_on(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> None:
        """Whoever cannot end its work lets the lease expire instead."""
        self.run(api, clock, threads, release=lambda: False)
        threads.end()
        assert api.objects[PATH]["spec"]["holderIdentity"] == "a"

    def test_a_conflict_on_release_is_retried(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> None:
        """Somebody touched the lease between reading and writing it."""
        self.run(api, clock, threads)
        touched = []  # type: ignore[var-annotated]

        def touch(method: str, _path: str) -> None:
            if method == "PUT" and not touched:
                touched.append(True)
                api.change(PATH, lambda o: o["metadata"].update(annotations={"touched": "yes"}))

        api.before = touch
        threads.end()
        assert touched
        assert api.objects[PATH]["spec"]["holderIdentity"] == ""

    def test_the_lease_of_another_is_not_released(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> None:
        """It was lost without being noticed yet."""
        self.run(api, clock, threads)
        api.change(PATH, lambda o: o["spec"].update(holderIdentity="b"))
        threads.end()
        assert api.objects[PATH]["spec"]["holderIdentity"] == "b"

    def test_a_release_does_not_wait_long_for_a_server_that_is_away(
        self, api: FakeApi, clock: VirtualClock, threads: Threads
    ) -> None:
        """Five seconds for all its requests: the process has to end."""
        self.run(api, clock, threads)
        timeouts: list[float] = []

        def slow(timeout: float) -> None:
            timeouts.append(timeout)
            clock.advance(2)

        api.hang = slow
        api.before = lambda method, _path: (  # type: ignore[assignment]
            method == "PUT" and api.change(PATH, lambda o: o["metadata"].update(annotations={"touched": "yes"}))  # type: ignore[func-returns-value]
        )
        threads.end()
        assert timeouts == [5, 3, 1]

    def test_a_failed_release_is_logged(
        self, api: FakeApi, clock: VirtualClock, threads: Threads, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The process ends all the same."""
        a = self.run(api, clock, threads)

        def fail(_method: str, _path: str) -> None:
            raise ServerError("etcd is away", status=500)

        api.before = fail
        threads.end()
        assert a.events[-1] == (0, "stopped")
        assert "Cannot release the Lease" in [r.getMessage() for r in caplog.records]  # type: ignore[unreachable]
