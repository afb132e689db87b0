"""The connection, the sync and the Applications together on virtual time, over a cluster and a Compass in memory."""

from typing import Any

from controller.resources import CONNECTION_NAME
from tests.support.compass_border import RUNTIME
from tests.support.connection_bench import MAX_ROUNDS, SYNC_PERIOD, Bench
from tests.support.sync import Agent, Cluster, Director

_CREDENTIALS = {"credential": {"username": "user", "password": "password"}}


class WholeBench(Bench):
    """A Bench whose agent also fetches from the Director, which assigns two Applications with a Secret each.

    An answer that takes long lets as much time pass.
    """

    def __init__(self, **options: Any) -> None:
        self.cluster = Cluster()
        super().__init__(**options)
        for number in range(2):
            bundle = {"name": "Main", "defaultInstanceAuth": _CREDENTIALS}
            application = {"name": f"app {number}", "bundles": [bundle]}
            self.connector.state.put_application(application, assign_to=[RUNTIME])

    def restart(self) -> None:
        super().restart()
        self.connector.sleep = self.clock.advance
        self.agent = Agent(
            self.cluster,
            Director(),
            self.clock,
            health=self.health,
            connections=self.connections,
            credentials=self.credentials,
            clients=self.connector,
            sync_period=SYNC_PERIOD,
        )
        self.health.subscribe(self._wake_sync)
        self.sync_due = 0.0

    def settle(self) -> None:
        self._wake_sync()
        super().settle()

    @property
    def next_due(self) -> float:
        return min(self.due, self.sync_due)

    def work(self) -> None:
        for _ in range(2 * MAX_ROUNDS):
            now = self.clock.monotonic()
            if self.due <= now:
                self._reconcile()
            elif self.sync_due <= now:
                self._synchronise()
            else:
                return
        raise AssertionError(f"a loop: {2 * MAX_ROUNDS} rounds of reconciles without any time passing")

    @property
    def sync_error(self) -> str:
        return str(self.connection["status"].get("synchronizationStatus", {}).get("error", ""))

    def _reconcile(self) -> None:
        before = self.server.writes.total()
        super()._reconcile()
        if self.server.writes.total() != before:
            self._wake_sync()

    def _synchronise(self) -> None:
        before = self.server.writes.total()
        self.sync_due = float("inf")
        self.agent.sync_due = False
        after = self.agent.sync.reconcile(CONNECTION_NAME).requeue_after
        self.agent.settle()  # what it has enqueued, and the end of that
        if after is not None:
            self.sync_due = min(self.sync_due, self.clock.monotonic() + after)
        if self.server.writes.total() != before:
            self._wake()
            self._wake_sync()

    def _wake_sync(self) -> None:
        self.sync_due = self.clock.monotonic()
