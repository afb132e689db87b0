"""A term of leadership: the time from acquiring the lease until it is released, lost, or not renewed in time.

What a leader writes, it writes in the name of its term. A term that is over never comes back: work that goes on in its
name cannot send another request, and a request under way is cut off. So two processes never write at the same time, and
one process never mixes the work of two terms.
"""

from informers.interrupt import Interrupt
from workqueue import Clock


class TermEnded(BaseException):
    """The term that this work belongs to is over.

    It is no Exception, like other cancellations: code that reports failures, or repairs them, must not take it for one.
    The controller handles it.
    """

    def __init__(self) -> None:
        super().__init__("the term of leadership has ended")


class Term(Interrupt):
    """Set when the term is over; requests of the term's client then raise TermEnded (informers.Client.until).

    It is over when set() is called, and from its deadline on whether or not any thread ran at that moment: a process
    that was frozen past the deadline finds it over before it sends anything.
    """

    def __init__(self, *, renewed_at: float, renew_deadline: float, clock: Clock) -> None:
        """renewed_at: monotonic seconds when the request that acquired the lease was begun."""
        super().__init__()
        self._renewed_at = renewed_at
        self._renew_deadline = renew_deadline
        self._clock = clock

    @property
    def deadline(self) -> float:
        """Monotonic seconds at which the term is over unless the lease is renewed before."""
        return self._renewed_at + self._renew_deadline

    def is_set(self) -> bool:
        if not super().is_set() and self._clock.monotonic() >= self.deadline:
            self.set()
        return super().is_set()

    def renewed(self, began: float) -> None:
        """Note a renewal whose request was begun at that moment. It cannot revive a term that is over."""
        if not self.is_set():
            self._renewed_at = began
