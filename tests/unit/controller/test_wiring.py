"""What the agent gives to the parts of one term."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.agent import build
from controller.connection.clients import CompassClients
from controller.permissions import Permissions
from controller.runtime import Controller, Metrics
from controller.settings import Settings
from informers import Client, Forbidden, Stop
from tests.clock import VirtualClock

KUBECONFIG = """
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://api.invalid"}}]
users: [{name: u, user: {token: t}}]
"""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "config").write_text(KUBECONFIG)
    client = Client.load(str(tmp_path / "config"))
    yield client
    client.close()


def controllers(client: Client) -> list[Controller[str]]:
    settings = Settings.from_environment({"APP_CONTROLLER_SYNC_PERIOD": "2h"})
    (build_controllers,) = build(settings, client, Metrics(), clock=VirtualClock())._builders
    return list(build_controllers(client))


def test_no_retry_waits_for_as_long_as_a_refusal_lasts(client: Client) -> None:
    """Otherwise the Pod would be ready between two refusals."""
    clock = VirtualClock()
    permissions = Permissions(clock)
    for controller in controllers(client):
        for seconds in (0, 5):
            clock.advance(seconds)
            permissions.answered(
                "PUT", "https://api/a", Forbidden('u cannot update resource "applications"', status=403)
            )
        clock.advance(controller.queue._retry_cap)
        assert permissions.missing(), controller.name


def test_the_connections_to_compass_end_with_the_term(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[CompassClients] = []

    def close(clients: CompassClients) -> None:
        closed.append(clients)

    monkeypatch.setattr(CompassClients, "close", close)
    stop = Stop()
    controllers(client.until(None, stop=stop))
    assert closed == []
    stop.set()
    assert len(closed) == 1
