"""Observations of the connection while it is used: the sync reports them here, and the connection reconciler decides.

They need not survive a restart: the first calls to Compass lead to the same observations.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from controller.compass.errors import CompassError
from controller.connection.reasons import Failure
from controller.connection.status import State
from workqueue.clock import Clock


class Party(StrEnum):
    CONNECTOR = "Connector"
    DIRECTOR = "Director"


@dataclass(frozen=True)
class Refusal:
    """A refusal of a certificate. `since`, `last`: the first and the last of an unbroken series, monotonic seconds."""

    by: Party
    certificate: str
    failure: Failure
    since: float = field(compare=False)
    last: float


@dataclass(frozen=True)
class Verdict:
    """The owner of the certificate, from the Director. `actual` is None if the answer does not contain it.

    `settled`: it need not be asked again. `kind`: "RUNTIME", or "APPLICATION" after a pairing with the token of one.
    """

    certificate: str
    configured: str
    actual: str | None
    settled: bool
    kind: str = "RUNTIME"


@dataclass(frozen=True)
class HealthFacts:
    """The observations at one moment. `connector_accepted_at`: epoch seconds; None if a later call failed."""

    refusals: tuple[Refusal, ...] = ()
    verdict: Verdict | None = None
    connector_accepted_at: float | None = None
    sync_state: State | None = None

    @property
    def director_answered(self) -> bool:
        """The last call to the Director was answered."""
        return self.sync_state not in (None, State.SYNCHRONIZATION_FAILED)


class Health:
    """Thread-safe. Subscribers are called outside the lock, when an observation changes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._facts = HealthFacts()
        self._subscribers: list[Callable[[], None]] = []

    def subscribe(self, subscriber: Callable[[], None]) -> None:
        """Register a callback for changes."""
        self._subscribers.append(subscriber)

    def facts(self) -> HealthFacts:
        return self._facts

    def refused(self, by: Party, certificate: str, error: CompassError) -> None:
        """A refusal proves nothing: a revoked certificate, an unregistered Runtime and an outage of the Director's
        database lead to the same answer. So credentials are kept, and only a successful pairing replaces them.
        """

        def change(facts: HealthFacts) -> HealthFacts:
            earlier = next((r for r in facts.refusals if (r.by, r.certificate) == (by, certificate)), None)
            now = self._clock.monotonic()
            fresh = Refusal(by, certificate, Failure.of(error), earlier.since if earlier else now, now)
            others = [r for r in facts.refusals if r.by != by]
            return replace(facts, refusals=tuple(sorted((*others, fresh), key=lambda r: r.by)))

        self._change(change)

    def accepted(self, by: Party) -> None:
        """It answered a call with the certificate."""
        self._change(lambda facts: replace(facts, refusals=tuple(r for r in facts.refusals if r.by != by)))

    def connector_answered(self) -> None:
        """The Connector accepted the certificate just now."""
        now = self._clock.time()
        self._change(lambda facts: replace(facts, connector_accepted_at=now))
        self.accepted(Party.CONNECTOR)

    def connector_failed(self) -> None:
        """It is unknown whether the Connector accepts the certificate."""
        self._change(lambda facts: replace(facts, connector_accepted_at=None))

    def identified(self, verdict: Verdict) -> None:
        """The Director has returned the owner of the certificate, or has not."""
        self._change(lambda facts: replace(facts, verdict=verdict))

    def synchronised(self, state: State) -> None:
        """The result of the last sync: the state to return to when the connection works again."""
        self._change(lambda facts: replace(facts, sync_state=state))

    def replaced(self) -> None:
        """There are new credentials: observations of the old ones are ignored."""
        now = self._clock.time()
        self._change(lambda _: HealthFacts(connector_accepted_at=now))

    def _change(self, change: Callable[[HealthFacts], HealthFacts]) -> None:
        with self._lock:
            before, self._facts = self._facts, change(self._facts)
            after = self._facts
        if (before.refusals, before.verdict) != (after.refusals, after.verdict):
            for subscriber in self._subscribers:
                subscriber()
