"""Elections on one virtual clock: candidates, an API server with one Lease, and a script of what happens to them.

All threads take turns, so a script has one outcome. Steps are "<seconds> <command>":

    start NAME [pod=UID] [duration=15] [deadline=10] [retry=2] [rate=1]   rate: speed of its monotonic clock
    stop NAME, kill NAME, freeze NAME SECONDS                            SIGTERM, SIGKILL, SIGSTOP and SIGCONT
    busy NAME                                  its work does not end at a stop, so the Lease must not be released
    hold NAME DURATION [RENEWTIME]             another program writes itself into the Lease
    edit FIELD=VALUE..., wipe, touch, delete   a person changes the record, removes it, adds a label, deletes the Lease
    fail METHOD ERROR [COUNT]                  requests of this method ("any": all) are answered with an error: an HTTP
                                               status, "refused", "hang" (never done), "lost" (done, but no answer) or
                                               "stuck" (answered after 20 s, whatever its timeout is)
    slow SECONDS [SECONDS]                     the way to the API server and back
    heal                                       the end of all failures

Lines of the journal are "<seconds> <name> <what it did>", for example "0 a GET 404 POST leads"; the seconds of equal
lines in sequence are joined.
"""

import itertools
import math
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from controller.runtime import LeaderElectionConfig, LeaderElectionLost, LeaderElector, Metrics, Term
from informers import ApiError, Client, Conflict, ConnectionFailed, Forbidden, ServerError
from tests.unit.runtime.conftest import JOIN_SECONDS, FakeApi

PATH = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/lock"
EPOCH = 1_767_225_600.0  # 2026-01-01T00:00:00Z
_NEVER = threading.Event()


@dataclass(eq=False)
class _Sleeper:
    at: float
    candidate: "Candidate"
    stop: threading.Event
    thread: int
    wake: threading.Event = field(default_factory=threading.Event)


@dataclass
class _Fault:
    method: str
    error: str
    count: float


class Candidate:
    """One process. It is the clock and the API client of its elector."""

    def __init__(
        self,
        election: "Election",
        name: str,
        *,
        pod: str = "",
        duration: float = 15,
        deadline: float = 10,
        retry: float = 2,
        rate: float = 1,
        random: float = 1,
    ) -> None:
        self.name = name
        self.frozen_until = 0.0
        self.stop = threading.Event()
        self.release = True
        self.last_holder: str | None = None
        self.term: Term | None = None
        self.lost: LeaderElectionLost | None = None
        self.metrics = Metrics()
        self._election = election
        self._rate = rate
        self.config = LeaderElectionConfig(
            name="lock",
            namespace="ns",
            identity=f"{name}_{pod}_" if pod else name,
            pod_uid=pod,
            lease_duration=duration,
            renew_deadline=deadline,
            retry_period=retry,
        )
        self.elector = LeaderElector(
            cast("Client", self),
            self.config,
            on_started=self._started,
            on_stopped=self._stopped,
            clock=self,
            rng=lambda: random,  # by default the longest pause: an attempt each retry period
            metrics=self.metrics,
        )
        assert self.metric("master_status") == 0
        assert not self.elector.is_unreachable
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.errors: list[BaseException] = []

    def metric(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"leader_election_{name}", {"name": "lock"})

    @property
    def leads(self) -> bool:
        """Whether its work may send requests, even if the process is frozen and no thread of it has noticed the end."""
        return self.term is not None and self.monotonic() < self.term.deadline

    def _run(self) -> None:
        try:
            while self.elector.run(self.stop, release=lambda: self.release) is not None:
                continue
        except BaseException as error:  # noqa: BLE001 - raised by Election.run
            self.errors.append(error)
        self._election.notify()

    def _started(self, term: Term) -> None:
        assert isinstance(term, Term)
        self.term = term
        self._election.note(self.name, "leads")
        self._election.check_one_leader()

    def _stopped(self, lost: LeaderElectionLost | None) -> None:
        assert self.term is None or self.term.is_set(), "the loss is reported before the end of the term"
        self.term = None
        self.lost = lost
        self._election.note(self.name, "lost" if lost else "stopped")

    # The clock.

    def monotonic(self) -> float:
        return 1000 + self._election.now * self._rate

    def time(self) -> float:
        return EPOCH + self._election.now

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        raise NotImplementedError("the elector has no waits of this kind")

    def sleep(self, seconds: float, stop: threading.Event) -> bool:
        return self._election.sleep(self, seconds / self._rate, stop)

    # The client.

    def request(
        self, method: str, path: str, *, body: dict[str, Any] | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        assert path in (PATH, PATH.rpartition("/")[0])
        assert timeout is not None, "without a timeout a hanging server would block its caller"
        self.last_holder = None
        lease = self._election.request(self, method, path, body, timeout / self._rate)
        self.last_holder = lease["spec"].get("holderIdentity")
        return lease


class Election:
    """Runs a script. `now` is seconds since its begin."""

    def __init__(self, script: Iterable[str]) -> None:
        self.now = 0.0
        self.api = FakeApi()
        self.candidates: dict[str, Candidate] = {}
        self.two_leaders: list[str] = []
        self._journal: list[tuple[float, str, list[str]]] = []
        self._faults: list[_Fault] = []
        self._way = (0.0, 0.0)
        self._changed = threading.Condition()
        self._sleepers: list[_Sleeper] = []
        self._actions: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._closing = False
        for step in script:
            at, command, *words = step.split()
            self.at(float(at), self._command(command, words))

    # What the tests use.

    def run(self, until: float) -> list[str]:
        """Let time pass to this moment, end all candidates, and return the journal."""
        try:
            self.advance(until)
        finally:
            journal = self.journal()
            self._close()
        for candidate in self.candidates.values():
            for error in candidate.errors:
                raise error
        assert not self.two_leaders, f"two leaders at the same time: {self.two_leaders}\n" + "\n".join(journal)
        return journal

    def advance(self, until: float) -> None:
        """Let time pass to this moment."""
        while True:
            self._settle()
            sleeper = min(self._sleepers, key=_due, default=None)
            action = min(self._actions, default=None)
            due = min(_due(sleeper) if sleeper else math.inf, action[0] if action else math.inf)
            if due > until:
                break
            self.now = max(self.now, due)
            if action is not None and action[0] <= due:
                self._actions.remove(action)
                action[2]()
            elif sleeper is not None:
                self._wake(sleeper)
        self.now = until

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        self._actions.append((seconds, next(self._order), action))

    def command(self, step: str) -> None:
        """Do a step now."""
        command, *words = step.split()
        self._command(command, words)()

    def journal(self) -> list[str]:
        lines: list[tuple[list[str], str, str]] = []
        for at, name, words in self._journal:
            text = " ".join(words)
            if lines and lines[-1][1:] == (name, text):
                lines[-1][0].append(f"{at:g}")
            else:
                lines.append(([f"{at:g}"], name, text))
        return [f"{','.join(times)} {name} {text}" for times, name, text in lines]

    @property
    def record(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.api.objects[PATH]["spec"]
        return spec

    @property
    def leaders(self) -> list[str]:
        return [candidate.name for candidate in self.candidates.values() if candidate.leads]

    # What the candidates use.

    def note(self, name: str, word: str) -> None:
        at = round(self.now, 3)
        if not self._journal or self._journal[-1][:2] != (at, name):
            self._journal.append((at, name, []))
        self._journal[-1][2].append(word)

    def check_one_leader(self) -> None:
        if len(self.leaders) > 1:
            self.two_leaders.append(f"{self.now:g}: {self.leaders}")

    def sleep(self, candidate: Candidate, seconds: float, stop: threading.Event) -> bool:
        if stop.is_set() or self._closing:
            return stop.is_set()
        sleeper = _Sleeper(self.now + max(0.0, seconds), candidate, stop, threading.get_ident())
        with self._changed:
            self._sleepers.append(sleeper)
            self._changed.notify_all()
        sleeper.wake.wait()
        return stop.is_set()

    def request(self, candidate: Candidate, method: str, path: str, body: Any, timeout: float) -> dict[str, Any]:
        fault = next((fault for fault in self._faults if fault.method in (method, "any") and fault.count > 0), None)
        error = "" if fault is None else fault.error
        if fault is not None:
            fault.count -= 1
        there, back = self._way
        answers: list[dict[str, Any] | ApiError] = []

        def arrive() -> None:
            # Also when its sender has given it up already.
            try:
                answers.append(self._answer(method, path, body, error))
            except ApiError as refusal:
                answers.append(refusal)
            word = (
                f"{method} {answers[-1].status or answers[-1].reason}" if isinstance(answers[-1], ApiError) else method
            )
            self.note(candidate.name, word if error != "lost" else f"{method} lost")

        if error == "stuck":
            there = timeout = 20.0
        seconds = math.inf if error in ("hang", "lost") else there + back
        if self._closing:
            raise ConnectionFailed("the test has ended", reason=ConnectionFailed.REFUSED)
        if error != "hang":
            self.at(self.now + there, arrive)
        self.sleep(candidate, min(seconds, timeout), _NEVER)
        if seconds > timeout or not answers:
            self.note(candidate.name, f"{method} timeout")
            raise ConnectionFailed(f"no answer within {timeout:g} s", reason=ConnectionFailed.TIMEOUT)
        answer = answers[0]
        if isinstance(answer, ApiError):
            raise answer
        return answer

    def notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    # The script.

    def _command(self, command: str, words: list[str]) -> Callable[[], None]:
        options = dict(word.split("=", 1) for word in words if "=" in word)
        values = [word for word in words if "=" not in word]
        return lambda: getattr(self, f"_do_{command}")(*values, **options)

    def _do_start(self, name: str, pod: str = "", **numbers: str) -> None:
        candidate = Candidate(self, name, pod=pod, **{key: float(value) for key, value in numbers.items()})
        self.candidates[name] = candidate
        candidate.thread.start()

    def _do_stop(self, name: str) -> None:
        self.candidates[name].stop.set()

    def _do_busy(self, name: str) -> None:
        self.candidates[name].release = False

    def _do_kill(self, name: str) -> None:
        self.candidates[name].frozen_until = math.inf
        self.candidates[name].term = None

    def _do_freeze(self, name: str, seconds: str) -> None:
        self.candidates[name].frozen_until = self.now + float(seconds)

    def _do_hold(self, name: str, duration: str, renewed: str = "") -> None:
        now = renewed or f"2026-01-01T00:00:{self.now:09.6f}Z"
        spec = {"holderIdentity": name, "leaseDurationSeconds": int(duration), "renewTime": now, "leaseTransitions": 3}
        lease = self.api.objects.setdefault(
            PATH, {"metadata": {"name": "lock", "namespace": "ns", "labels": {"k": "v"}}}
        )
        lease["spec"] = {"acquireTime": now, **spec}
        self.api.change(PATH, lambda _: None)

    def _do_edit(self, **values: str) -> None:
        fields = {key: int(value) if value.isdigit() else value for key, value in values.items()}
        self._change(lambda lease: (lease.get("spec") or lease.setdefault("spec", {})).update(fields))

    def _do_wipe(self) -> None:
        self._change(lambda lease: lease.update(spec={}))

    def _do_touch(self) -> None:
        self._change(lambda lease: lease["metadata"].setdefault("labels", {}).update(touched=f"{self.now:g}"))

    def _do_delete(self) -> None:
        self.api.objects.pop(PATH, None)

    def _do_fail(self, method: str, error: str, count: str = "inf") -> None:
        self._faults.append(_Fault(method, error, float(count)))

    def _do_slow(self, there: str, back: str = "0") -> None:
        self._way = (float(there), float(back))

    def _do_heal(self) -> None:
        self._faults.clear()
        self._way = (0.0, 0.0)

    def _change(self, change: Callable[[dict[str, Any]], Any]) -> None:
        if PATH in self.api.objects:
            self.api.change(PATH, change)

    def _answer(self, method: str, path: str, body: Any, error: str) -> dict[str, Any]:
        if error == "refused":
            raise ConnectionFailed("refused", reason=ConnectionFailed.REFUSED)
        if error == "403":
            raise Forbidden("leases is forbidden", status=403, reason="Forbidden")
        if error == "409":
            raise Conflict("the Lease was changed", status=409, reason="Conflict")
        if error.isdigit():
            raise ServerError("etcd is away", status=int(error))
        return self.api.request(method, path, body=body, timeout=1)

    # The turns.

    def _settle(self) -> None:
        """Wait until all threads sleep; those whose stop is set wake up at once."""
        with self._changed:
            while not self._asleep():
                # A thread that waits for the end of another is not seen here, so look again soon.
                self._changed.wait(0.001)

    def _asleep(self) -> bool:
        for sleeper in [
            sleeper for sleeper in self._sleepers if sleeper.stop.is_set() and not _is_frozen(sleeper, self.now)
        ]:
            self._wake(sleeper)
        sleeping = {sleeper.thread for sleeper in self._sleepers}
        threads = [candidate.thread for candidate in self.candidates.values() if candidate.thread.is_alive()]
        threads += [thread for thread in threading.enumerate() if thread.name == "lease-watchdog"]
        return all(thread.ident in sleeping for thread in threads)

    def _wake(self, sleeper: _Sleeper) -> None:
        self._sleepers.remove(sleeper)
        sleeper.wake.set()

    def _close(self) -> None:
        self._closing = True
        for candidate in self.candidates.values():
            candidate.stop.set()
        with self._changed:
            for sleeper in list(self._sleepers):
                self._wake(sleeper)
        for candidate in self.candidates.values():
            if candidate.thread.ident is not None:
                candidate.thread.join(JOIN_SECONDS)
                assert not candidate.thread.is_alive(), f"{candidate.name} does not end"


def _due(sleeper: _Sleeper) -> float:
    return max(sleeper.at, sleeper.candidate.frozen_until)


def _is_frozen(sleeper: _Sleeper, now: float) -> bool:
    return sleeper.candidate.frozen_until > now
