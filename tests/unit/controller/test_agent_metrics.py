"""The agent's own metrics, over the terms of one process."""

from unittest.mock import MagicMock

import pytest

from controller import agent
from controller.connection.status import ConnectionState
from controller.metrics import AgentMetrics
from controller.runtime import Metrics
from controller.settings import Settings

GAUGES = {
    ("connection_state", "ConnectionFailed"): 1.0,
    ("certificate_not_before_timestamp_seconds", ""): 10.0,
    ("certificate_not_after_timestamp_seconds", ""): 20.0,
    ("applications", "desired"): 3.0,
    ("applications", "synced"): 1.0,
    ("applications", "failed"): 2.0,
}
ZEROES = dict.fromkeys(GAUGES, 0.0)


def test_only_a_leader_has_values_and_only_those_of_its_term(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alerts use the maximum of all replicas: one that has led must not keep an alert firing."""
    metrics = Metrics()
    built: list[AgentMetrics] = []

    def build_metrics(*arguments: object, **more: object) -> AgentMetrics:
        built.append(AgentMetrics(*arguments, **more))  # type: ignore[arg-type]
        return built[-1]

    monkeypatch.setattr(agent, "AgentMetrics", build_metrics)
    client = MagicMock()
    manager = agent.build(Settings(), client, metrics)
    (agent_metrics,) = built

    def served() -> dict[tuple[str, str], float | None]:
        return {
            (name, label): metrics.registry.get_sample_value(
                f"compass_runtime_agent_{name}",
                {"state" if name == "connection_state" else "status": label} if label else {},
            )
            for name, label in GAUGES
        }

    def begin_term() -> None:
        manager.elected.set()
        for build in manager._builders:
            list(build(client))

    begin_term()
    agent_metrics.connection_state(ConnectionState.CONNECTION_FAILED)
    agent_metrics.certificate(10.0, 20.0)
    agent_metrics.applications(desired=3, synced=1, failed=2)
    assert served() == GAUGES
    manager.elected.clear()
    agent_metrics.connection_state(ConnectionState.CONNECTION_FAILED)  # by a worker that has not ended yet
    assert served() == ZEROES
    begin_term()
    assert served() == ZEROES
