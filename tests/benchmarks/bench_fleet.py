"""A fleet of Runtimes against the rate limit of one Compass gateway, on a virtual clock.

Each simulated agent has the two loops that call Compass (the check at the Connector, the fetch from the Director), the
product's own `Backoff`, and its periods with their jitter. The gateway is a token bucket that all Runtimes share and
that answers 429 when it is empty, and 503 during an outage. Nothing is measured in seconds of this machine, so a run
with the same seed prints the same numbers.

Run: python -m tests.benchmarks.bench_fleet
"""

import heapq
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus

from controller.compass.answers import RATE_LIMIT_PAUSE
from controller.connection.backoff import Backoff
from tests.clock import VirtualClock

_BURST = 3_000  # tokens of the gateway's bucket
_REFILL, _REFILL_SECONDS = 300, 30.0
_PERIOD_JITTER = 0.1  # of the sync and of the check at the Connector
_RETRY_CAP = 300.0  # or the period, when that is shorter
_RUNTIMES = 1_000


class Gateway:
    """Answers 200 while its bucket has tokens and no outage is on. Times are seconds of the simulation."""

    def __init__(self, outage: tuple[float, float]) -> None:
        self._outage = outage
        self._tokens = float(_BURST)
        self._refills = 0
        self.received: Counter[int] = Counter()  # by second
        self.limited: Counter[int] = Counter()

    def answer(self, now: float) -> HTTPStatus:
        self.received[int(now)] += 1
        refills = int(now / _REFILL_SECONDS)
        self._tokens = min(_BURST, self._tokens + (refills - self._refills) * _REFILL)
        self._refills = refills
        if self._outage[0] <= now < self._outage[1]:
            return HTTPStatus.SERVICE_UNAVAILABLE
        if self._tokens < 1:
            self.limited[int(now)] += 1
            return HTTPStatus.TOO_MANY_REQUESTS
        self._tokens -= 1
        return HTTPStatus.OK


@dataclass
class Loop:
    """One of the two loops of an agent."""

    backoff: Backoff
    succeeded_at: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Fleet:
    """`period` and `outage` are seconds. `jitter` scales the jitter of the product; 1 is the product."""

    period: float
    outage: tuple[float, float] = (0.0, 0.0)
    jitter: float = 1.0
    together: bool = False
    seed: int = 1

    def run(self, until: float) -> tuple[Gateway, list[Loop]]:
        """Everything up to a moment, in the order of time."""
        chance, clock, gateway = random.Random(self.seed), VirtualClock(), Gateway(self.outage)
        origin = clock.monotonic()

        def jitter() -> float:
            return chance.random() * self.jitter

        loops = [
            Loop(Backoff(cap=min(self.period, _RETRY_CAP), clock=clock, random=jitter)) for _ in range(2 * _RUNTIMES)
        ]
        due = [(0.0 if self.together else chance.random() * self.period, number) for number in range(len(loops))]
        heapq.heapify(due)
        while due and due[0][0] < until:
            at, number = heapq.heappop(due)
            clock.advance(max(0.0, at - (clock.monotonic() - origin)))
            loop = loops[number]
            status = gateway.answer(at)
            if status == HTTPStatus.OK:
                loop.backoff.succeeded()
                loop.succeeded_at.append(at)
                wait = self.period * (1 + _PERIOD_JITTER * jitter())
            else:
                wait = loop.backoff.failed(
                    "the same", at_least=RATE_LIMIT_PAUSE if status == HTTPStatus.TOO_MANY_REQUESTS else None
                )
            heapq.heappush(due, (at + wait, number))
        return gateway, loops


def steady(periods: list[float]) -> Iterator[str]:
    """What a fleet asks for in steady state, and how old a Runtime's view gets."""
    yield f"Steady state of {_RUNTIMES} Runtimes, last of 6 hours:"
    yield "  period       requests   429       longest time between two answers"
    for period in periods:
        end = 6 * 3600.0
        gateway, loops = Fleet(period).run(end)
        last_hour = range(int(end) - 3600, int(end))
        requests = sum(gateway.received[second] for second in last_hour)
        limited = sum(gateway.limited[second] for second in last_hour)
        oldest = max(
            (
                later - earlier
                for loop in loops
                for earlier, later in zip(loop.succeeded_at, loop.succeeded_at[1:], strict=False)
            ),
            default=float("nan"),
        )
        yield f"  {period:5.0f} s   {requests / 3600:6.2f} /s   {100 * limited / requests:5.1f} %   {oldest:6.0f} s"


def after_outage(period: float, seconds: float, *, jitter: float, together: bool) -> str:
    """How the fleet comes back."""
    begin, end = 3_600.0, 3_600.0 + seconds
    gateway, loops = Fleet(period, (begin, end), jitter=jitter, together=together).run(end + 1_800)
    back = sorted(next((at for at in loop.succeeded_at if at >= end), float("inf")) - end for loop in loops)
    peak = max(gateway.received[second] for second in range(int(end), int(end) + 1_800))
    limited = sum(count for second, count in gateway.limited.items() if second >= end)
    return (
        f"Outage of {seconds:.0f} s, period {period:.0f} s, "
        f"{'all started together' if together else 'started at random'}, jitter {'on' if jitter else 'off'}: "
        f"half is back after {back[len(back) // 2]:.0f} s, 99 % after {back[int(len(back) * 0.99)]:.0f} s; "
        f"peak {peak} requests in a second, {limited} answers 429"
    )


def main() -> None:
    print(f"One gateway: {_BURST} tokens, {_REFILL} more each {_REFILL_SECONDS:.0f} s, shared by all Runtimes.\n")
    print("\n".join(steady([20.0, 60.0, 120.0, 180.0, 240.0, 300.0, 600.0])), end="\n\n")
    for seconds in (600.0, 7_200.0):
        print(after_outage(180.0, seconds, jitter=1.0, together=False))
    for jitter in (0.0, 1.0):
        print(after_outage(180.0, 600.0, jitter=jitter, together=True))


if __name__ == "__main__":
    main()
