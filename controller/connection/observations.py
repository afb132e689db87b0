"""Observations of the connection while it is used: the sync reports them here, and the connection reconciler decides.

They need not survive a restart: the first calls to Compass lead to the same observations.

`OwnerCheck` asks the Director for the owner of the certificate before the first fetch, because it accepts a wrong
RUNTIME_ID without an error. Runtimes of one tenant may read and label each other, so with the id of another Runtime,
all Applications of this cluster would be replaced by those of the other one.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from controller.compass.director import DirectorClient
from controller.compass.errors import CompassError, Refused, Unavailable
from controller.connection.credentials import Registration, StoredCredentials
from controller.connection.status import ConnectionState
from informers.errors import ApiError
from workqueue.clock import Clock

log = logging.getLogger(__name__)


class CompassService(StrEnum):
    CONNECTOR = "Connector"
    DIRECTOR = "Director"


@dataclass(frozen=True)
class Failure:
    """A failed call. `text` is for people, `request_id` for the operators of Compass; `retry_after` in seconds, `code`
    is the Director's error code. Ids are not compared: the same failure again is the same.
    """

    kind: type[Exception]
    text: str
    request_id: str = field(default="", compare=False)
    retry_after: float | None = field(default=None, compare=False)
    code: int | None = None

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """An error of another type than those of the two clients is a defect of the agent. Its text may contain
        anything, also a secret, so it is left out.
        """
        kind = type(error)
        if not isinstance(error, CompassError | ApiError):
            text = f"an error that the agent does not expect ({kind.__name__}); the log has it; please report it"
            return cls(kind, text)
        return cls(
            kind,
            str(error),
            request_id=error.request_id if isinstance(error, CompassError) else "",
            retry_after=error.retry_after if isinstance(error, Unavailable) else None,
            code=error.code if isinstance(error, Refused) else None,
        )


@dataclass(frozen=True)
class Refusal:
    """A refusal of a certificate. `since`: the first one since this service last accepted the certificate, `last`: the
    latest one; monotonic seconds.
    """

    by: CompassService
    certificate: str
    failure: Failure
    since: float = field(compare=False)
    last: float


@dataclass(frozen=True)
class Owner:
    """The owner of the certificate, from the Director. `actual` is None if the answer does not contain it.

    `settled`: it need not be asked again. `kind`: "RUNTIME", or "APPLICATION" after a pairing with the token of one.
    """

    certificate: str
    configured: str
    actual: str | None
    settled: bool
    kind: str = "RUNTIME"


@dataclass(frozen=True)
class Observations:
    """At one moment. `connector_accepted_at`: epoch seconds; None if a later call failed."""

    refusals: tuple[Refusal, ...] = ()
    owner: Owner | None = None
    connector_accepted_at: float | None = None
    sync_state: ConnectionState | None = None


class Health:
    """The observations of one term of leadership. Thread-safe. Subscribers are called outside the lock, when a refusal
    or the owner changes.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._observations = Observations()
        self._subscribers: list[Callable[[], None]] = []

    def subscribe(self, subscriber: Callable[[], None]) -> None:
        """Register a callback for changes."""
        self._subscribers.append(subscriber)

    def observations(self) -> Observations:
        return self._observations

    def refused(self, by: CompassService, certificate: str, error: CompassError) -> None:
        """A refusal proves nothing: a revoked certificate, an unregistered Runtime and an outage of the Director's
        database lead to the same answer. So credentials are kept, and only a successful pairing replaces them.
        """

        def change(before: Observations) -> Observations:
            earlier = next((r for r in before.refusals if (r.by, r.certificate) == (by, certificate)), None)
            now = self._clock.monotonic()
            refusal = Refusal(by, certificate, Failure.of(error), earlier.since if earlier else now, now)
            others = [r for r in before.refusals if r.by != by]
            return replace(before, refusals=tuple(sorted((*others, refusal), key=lambda r: r.by)))

        self._change(change)

    def accepted(self, by: CompassService) -> None:
        """It answered a call with the certificate."""
        self._change(lambda before: replace(before, refusals=tuple(r for r in before.refusals if r.by != by)))

    def connector_answered(self) -> None:
        """The Connector accepted the certificate just now."""
        now = self._clock.time()
        self._change(lambda before: replace(before, connector_accepted_at=now))
        self.accepted(CompassService.CONNECTOR)

    def connector_failed(self) -> None:
        """It is unknown whether the Connector accepts the certificate."""
        self._change(lambda before: replace(before, connector_accepted_at=None))

    def identified(self, owner: Owner) -> None:
        """The Director has returned the owner of the certificate, or has not."""
        self._change(lambda before: replace(before, owner=owner))

    def synchronised(self, state: ConnectionState) -> None:
        """The result of the last sync: the state to return to when the connection works again."""
        self._change(lambda before: replace(before, sync_state=state))

    def replaced(self) -> None:
        """There are new credentials: observations of the old ones are ignored."""
        now = self._clock.time()
        self._change(lambda _: Observations(connector_accepted_at=now))

    def _change(self, change: Callable[[Observations], Observations]) -> None:
        with self._lock:
            before, self._observations = self._observations, change(self._observations)
            after = self._observations
        if (before.refusals, before.owner) != (after.refusals, after.owner):
            for subscriber in self._subscribers:
                subscriber()


class OwnerCheck:
    """Checks each certificate and configured Runtime until the Director has returned the owner.

    If the Director does not return it, Compass may be older and not support the query, or it may have an outage. So the
    query is repeated after another successful call; if it fails again, it is not supported.
    """

    def __init__(self, health: Health) -> None:
        self._health = health

    def is_of_another_runtime(self, credentials: StoredCredentials, registration: Registration) -> bool:
        """Whether the certificate belongs to a Runtime other than the configured one."""
        owner = self._known(credentials, registration)
        return owner is not None and owner.actual not in (None, registration.runtime_id)

    def check_owner(
        self,
        director: DirectorClient,
        credentials: StoredCredentials,
        registration: Registration,
        *,
        request_id: str,
        after_fetch: bool = False,
    ) -> bool:
        """Ask the Director for the owner unless it is known. Returns whether the Director may be called for the
        configured Runtime, and its answer may be used.

        `after_fetch`: the fetch has succeeded, so an answer without the owner means that Compass does not know the
        query. Raises CompassError.
        """
        owner = self._known(credentials, registration)
        if owner is None or not owner.settled:
            viewer = director.viewer(request_id=request_id)
            actual = viewer.id if viewer is not None else None
            settled = actual == registration.runtime_id or (actual is None and after_fetch)
            kind = viewer.type if viewer is not None else ""
            owner = Owner(credentials.fingerprint, registration.runtime_id, actual, settled, kind)
            self._health.identified(owner)
            if settled and actual is None:
                log.warning(
                    "The Director does not return the Runtime of the certificate, so RUNTIME_ID cannot be checked"
                )
        return owner.actual in (None, registration.runtime_id)

    def _known(self, credentials: StoredCredentials, registration: Registration) -> Owner | None:
        owner = self._health.observations().owner
        asked_for = (credentials.fingerprint, registration.runtime_id)
        return owner if owner is not None and (owner.certificate, owner.configured) == asked_for else None
