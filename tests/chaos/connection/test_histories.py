"""Random histories of the connection on virtual time: outages, clocks, edits, deletions, restarts, kills in any order.

Whatever happened: while the certificate works, no token is used up; no reconcile raises; nothing loops; and when all is
well again, a new token is enough for Synchronized.
"""

import random
from collections.abc import Callable

import pytest

from e2e.mock_compass.gateway import OUTAGES
from informers.errors import NotFound, ServerError
from tests.support.compass_border import RUNTIME
from tests.support.connection_bench import CA, SYNC_PERIOD
from tests.support.whole_bench import WholeBench

HISTORIES = 1000
STEPS = 12
DAY = 86400.0


class Killed(BaseException):
    """The process ends here."""


class History:
    """One history; `log` names its steps, for the message of a failure."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.bench = WholeBench(subresource=self.random.random() < 0.6, validity=self.random.choice([3600.0, 90 * DAY]))
        self.epoch = self.bench.clock.time()
        self.bench.connector.state.clock = lambda: self.epoch + self.bench.clock.monotonic()
        self.log: list[str] = []

    def run(self) -> None:
        for _ in range(STEPS):
            step = self.random.choice(_STEPS)
            self.log.append(step.__name__)
            step(self)
            self._pass(self.random.choice([0.0, 1.0, 20.0, 90.0, 2 * SYNC_PERIOD]))
        self._mend()
        assert self.bench.state == "Synchronized", f"{self.log}: {self.bench.state}: {self.bench.error}"
        assert (self.bench.error, self.bench.sync_error) == ("", "")

    def _pass(self, seconds: float) -> None:
        """Killed at a random border of the API server or of Compass in one case of five."""
        bench, countdown = self.bench, self.random.randrange(1, 40)
        if self.random.random() < 0.8:
            bench.run(seconds)
            return
        self.log.append(f"killed at {countdown}")

        def cross(*_: object) -> None:
            nonlocal countdown
            countdown -= 1
            if not countdown:
                raise Killed

        refuses, intervene = bench.server.before, bench.connector.intervene
        bench.server.before = lambda *arguments: (cross(), refuses(*arguments))[1]  # type: ignore[func-returns-value]
        bench.connector.intervene = lambda operation: (cross(), intervene(operation))[1]  # type: ignore[func-returns-value]
        try:
            bench.run(seconds)
        except Killed:
            bench.restart()
        finally:
            bench.server.before, bench.connector.intervene = refuses, intervene

    def _mend(self) -> None:
        """All is well again, and there is a new token."""
        bench = self.bench
        bench.clock.set_time(self.epoch + bench.clock.monotonic())
        bench.connector.outages.clear()
        bench.server.before = lambda *_: None
        bench.connector.intervene = lambda _: None
        bench.run(3 * SYNC_PERIOD)
        if bench.state != "Synchronized":
            bench.configure(kind="Secret")
            bench.run(3 * SYNC_PERIOD)


def outage(history: History) -> None:
    history.bench.connector.outages.begin(history.random.choice(sorted(OUTAGES)), delay=0.0)


def end_of_outages(history: History) -> None:
    history.bench.connector.outages.clear()


def new_token(history: History) -> None:
    history.bench.configure(kind=history.random.choice(["ConfigMap", "Secret"]))


def dead_token(history: History) -> None:
    history.bench.configure(TOKEN="dead" * 10)


def broken_configuration(history: History) -> None:
    history.bench.configure(TENANT="")


def no_configuration(history: History) -> None:
    _delete(history, history.bench.unconfigure)


def literal_token(history: History) -> None:
    bench = history.bench
    if bench.server.subresource:  # the CRD of the Go agent has no spec.pairing
        token = history.random.choice([bench.connector.token(), "dead" * 10])
        bench.settle()
        bench.apply_pairing(token=token)


def delete_connection(history: History) -> None:
    _delete(history, history.bench.delete_connection)


def delete_credentials(history: History) -> None:
    _delete(history, history.bench.delete_secret)


def delete_gateway_ca(history: History) -> None:
    _delete(history, lambda: history.bench.delete_secret(CA))


def request_renewal(history: History) -> None:
    history.bench.settle()
    history.bench.refresh()


def revoke_certificates(history: History) -> None:
    history.bench.connector.state.revoke_all(RUNTIME)


def wrong_clock(history: History) -> None:
    bench = history.bench
    bench.clock.set_time(
        history.epoch + bench.clock.monotonic() + history.random.choice([-30 * DAY, -600, 600, 30 * DAY])
    )


def right_clock(history: History) -> None:
    history.bench.clock.set_time(history.epoch + history.bench.clock.monotonic())


def restart(history: History) -> None:
    history.bench.restart()


def secrets_cannot_be_written(history: History) -> None:
    def refuse(_verb: str, kind: str) -> None:
        if kind == "Secret":
            raise ServerError("etcd is away", status=500)

    history.bench.server.before = refuse


def secrets_can_be_written(history: History) -> None:
    history.bench.server.before = lambda *_: None


def _delete(history: History, delete: Callable[[], None]) -> None:
    try:
        delete()
    except (NotFound, ServerError):
        history.log.append("not deleted")


_STEPS: tuple[Callable[[History], None], ...] = (
    outage,
    end_of_outages,
    new_token,
    dead_token,
    broken_configuration,
    no_configuration,
    literal_token,
    delete_connection,
    delete_credentials,
    delete_gateway_ca,
    request_renewal,
    revoke_certificates,
    wrong_clock,
    right_clock,
    restart,
    secrets_cannot_be_written,
    secrets_can_be_written,
)


@pytest.mark.slow
@pytest.mark.parametrize("tenth", range(10))
def test_a_thousand_histories_end_synchronized(tenth: int) -> None:
    for seed in range(tenth * HISTORIES // 10, (tenth + 1) * HISTORIES // 10):
        History(seed).run()
