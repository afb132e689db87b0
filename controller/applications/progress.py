"""The desired set and how far it has been applied, shared by the sync and the application reconciler.

The sync reconciler publishes a plan, compares all objects with it, and then says which names differ. So an object that
changes meanwhile is seen by the comparison, or by a reconcile that knows the plan. The application reconciler looks up
names in the plan and reports each result. When the last result is reported, or a result changes later, the sync
reconciler is triggered to write the status.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from controller.applications.deletions import Verdict
from controller.applications.desired import DesiredSet

#: Seconds without an answer after which an Application whose reconcile has not ended is reported. An API server answers
#: within milliseconds; an admission webhook may take 30 s.
HANGING_SECONDS = 5.0

_WAITS = "it waits for other Applications, whose writes hang"
_HANGS = (
    f"the API server has not answered for more than {HANGING_SECONDS:g} s; an admission webhook for Applications or "
    f"Secrets may hang: see kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """The result of one fetch. It is one immutable object, so that a set is never combined with the verdict about the
    deletions of another one: that would delete Applications that are held.

    `request_id` is the x-request-id of the fetch.
    """

    generation: int
    desired: DesiredSet
    deletions: Verdict
    request_id: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How far a plan is applied. `pending`: the number of names without a result; `failed`: the errors by name."""

    generation: int
    desired: int
    synced: int
    pending: int
    failed: Mapping[str, str]


class Progress:
    """Thread-safe. Subscribers are called outside the lock when there are new results for the status."""

    def __init__(self) -> None:
        self._subscribers: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._plan: Plan | None = None
        self._pending: set[str] | None = None  # None until the objects were compared with the plan
        self._failed: dict[str, str] = {}

    def subscribe(self, subscriber: Callable[[], None]) -> None:
        """Register a callback for new results."""
        self._subscribers.append(subscriber)

    @property
    def plan(self) -> Plan | None:
        """The current plan; None before the first fetch."""
        return self._plan

    def known_fields(self, name: str) -> dict[str, Any]:
        """The desired fields of this Application that are in memory; {} without any."""
        desired = self._plan.desired.by_name.get(name) if self._plan is not None else None
        return {"spec": desired.spec} if desired is not None else {}

    def publish(self, desired: DesiredSet, deletions: Verdict, *, request_id: str) -> Plan:
        """Publish the current desired set. `expect` must follow."""
        with self._lock:
            generation = self._plan.generation + 1 if self._plan is not None else 1
            self._plan = Plan(generation, desired, deletions, request_id)
            self._pending = None
            return self._plan

    def expect(self, names: Collection[str]) -> None:
        """All names that are not in sync with the published set; the caller enqueues them afterwards."""
        with self._lock:
            assert self._plan is not None
            self._pending = set(names)
            tried = {name: text for name, text in self._failed.items() if name in self._pending}
            self._failed = tried | {name: problem.message for name, problem in self._plan.desired.problems.items()}

    def has_failed(self, name: str) -> bool:
        """Whether the last result of this name is an error."""
        return name in self._failed

    def succeeded(self, name: str, plan: Plan) -> None:
        """The name is in sync with `plan`."""
        self._report(name, plan, None)

    def failed(self, name: str, plan: Plan, error: str) -> bool:
        """The name could not be synchronised with `plan`. False if the same error was reported last."""
        return self._report(name, plan, error)

    def report_hanging(self, waiting: Mapping[str, float], *, workers: int) -> None:
        """Report each name as failed whose reconcile gets no answer, and if all `workers` have such a name, those that
        wait for them, too.

        `waiting`: the names that are being reconciled, and the seconds without an answer.
        """
        with self._lock:
            plan = self._plan
            errors = {name: _HANGS for name, seconds in waiting.items() if seconds >= HANGING_SECONDS}
            if len(errors) == workers:
                errors = dict.fromkeys(self._pending or (), _WAITS) | errors
        if plan is not None:
            for name, error in errors.items():
                self.failed(name, plan, error)

    def outcome(self) -> Outcome:
        """Raises RuntimeError if the objects were not compared with a plan yet."""
        with self._lock:
            if self._plan is None or self._pending is None:
                raise RuntimeError("it is not known what differs from the plan")
            desired = self._plan.desired
            wanted = len(desired.by_name) + len(desired.problems)
            missing = sum(
                name in desired.by_name or name in desired.problems for name in self._pending | {*self._failed}
            )
            return Outcome(
                generation=self._plan.generation,
                desired=wanted,
                synced=wanted - missing,
                pending=len(self._pending),
                failed=dict(self._failed),
            )

    def _report(self, name: str, plan: Plan, error: str | None) -> bool:
        with self._lock:
            if plan is not self._plan:
                # The result of an earlier plan. If the name still matters it is pending and is reconciled again.
                return True
            was_pending = self._pending is not None and name in self._pending
            before = self._failed.get(name)
            if self._pending is not None:
                self._pending.discard(name)
            if error is None:
                self._failed.pop(name, None)
            else:
                self._failed[name] = error
            conclude = self._pending == set() and (was_pending or before != error)
        if conclude:
            for subscriber in self._subscribers:
                subscriber()
        return before != error
