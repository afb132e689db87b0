"""A term of leadership: the time from acquiring the Lease until it is released, lost, or not renewed in time.

All requests of a leader, to the API server and to others, belong to its term. What holds, by the clock of the process:

- After the end of the term, and at the latest after its deadline, no request is sent. The deadline is before the moment
  at which another process may take the Lease over.
- Requests in progress are aborted: the process does not use their answers.
- One process never mixes the work of two terms.

What does not hold: a request that was sent before the end may still be executed, if a network or an API server delays
it. This is why each write names the resourceVersion that it is based on (a deletion also the uid; a creation is based
on the absence of the object). After any change by the next leader, the API server refuses the late write. A late
creation is possible, and the next leader sees it like any other drift. Only Events name no version.
"""

from informers import Stop
from workqueue import Clock


class Term(Stop):
    """Set when the term has ended; requests of the term's client then raise Stopped (informers.Client.until).

    A term ends when set() is called, and at its deadline even if no thread runs at that moment: a process that was
    suspended past the deadline finds that it has ended before it sends anything.
    """

    def __init__(self, *, renewed_at: float, renew_deadline: float, clock: Clock) -> None:
        """renewed_at: monotonic seconds at the start of the request that acquired the Lease."""
        super().__init__()
        self._renewed_at = renewed_at
        self._renew_deadline = renew_deadline
        self._clock = clock

    @property
    def deadline(self) -> float:
        """Monotonic seconds at which the term ends unless the Lease is renewed before."""
        return self._renewed_at + self._renew_deadline

    def is_set(self) -> bool:
        if not super().is_set() and self._clock.monotonic() >= self.deadline:
            self.set()
        return super().is_set()

    def renewed(self, began: float) -> None:
        """Record a renewal whose request was started at this time. It cannot revive a term that has ended."""
        if not self.is_set():
            self._renewed_at = began


class TermStop(Stop):
    """The stop of the work of a term: set when the work has to end, at the latest when the term has ended."""

    def __init__(self, term: Term) -> None:
        super().__init__()
        self._term = term

    def is_set(self) -> bool:
        if not super().is_set() and self._term.is_set():
            self.set()
        return super().is_set()
