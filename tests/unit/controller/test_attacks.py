"""Attacks that have no better place: each is tried, and what stops it is asserted."""

import sys
from typing import Any

import pytest

from controller.compass import tls
from controller.connection.configuration import TOKEN_LABEL
from controller.resources import COMPASS_CONNECTION, CONNECTION_NAME, SECRET
from e2e.cluster import encoded
from tests.support import connection_bench
from tests.support.agent_thread import small_key
from tests.support.connection_bench import Bench
from tests.support.connector_border import CONNECTOR_URL, RUNTIME, TENANT

_PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----\n"
_KUBECONFIG = "apiVersion: v1\nkind: Config\nusers:\n- name: admin\n  user: {token: eyJhbGciOiJSUzI1NiIsImtpZCI6IjEi}\n"

ATTACKS: list[tuple[str, dict[str, str], str, str]] = [
    ("a Secret whose owner has not agreed", {}, "t" * 90, "does not have the label"),
    ("a label of another value", {TOKEN_LABEL: "yes"}, "t" * 90, "does not have the label"),
    ("a private key", {TOKEN_LABEL: "true"}, _PEM, "has no one-time token"),
    ("a kubeconfig", {TOKEN_LABEL: "true"}, _KUBECONFIG, "has no one-time token"),
    ("a short password", {TOKEN_LABEL: "true"}, "hunter2", "has no one-time token"),
]


@pytest.mark.parametrize(("labels", "value", "text"), [row[1:] for row in ATTACKS], ids=[row[0] for row in ATTACKS])
def test_a_token_secret_ref_sends_no_secret_whose_owner_has_not_agreed(
    labels: dict[str, str], value: str, text: str
) -> None:
    """Who may write CompassConnections names a Secret of the agent's namespace, and a URL of their own: nothing is sent
    there, and the value is told nowhere.
    """
    bench = Bench()
    metadata = {"name": "others", "namespace": "kyma-system", "labels": labels}
    bench.server.put(SECRET, {"metadata": metadata, "data": {"TOKEN": encoded(value)}})
    pairing = {
        "connectorUrl": CONNECTOR_URL,
        "runtimeId": RUNTIME,
        "tenant": TENANT,
        "tokenSecretRef": {"namespace": "kyma-system", "name": "others"},
    }
    bench.server.put(COMPASS_CONNECTION, {"metadata": {"name": CONNECTION_NAME}, "spec": {"pairing": pairing}})
    bench.run(400)
    assert bench.connector.calls == []
    assert text in bench.error
    assert value not in str(bench.connection["status"]) + str(bench.recorder.events)


class _Opened:
    """The files that this process opens for writing; an audit hook stays, so it is switched off at the end."""

    def __init__(self) -> None:
        self.active = False
        self.paths: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.active and event == "open" and isinstance(arguments[0], (str, bytes)):
            self.paths.append(str(arguments[0]))


def test_a_client_key_gets_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL reads key and certificate from anonymous memory: no file is opened by name for it."""
    monkeypatch.setattr(connection_bench, "pooled_key", small_key)  # of a size that OpenSSL takes
    credentials = Bench().paired().credentials.load()
    opened = _Opened()
    opened.active = True
    try:
        tls.client_context(credentials.pair)
    finally:
        opened.active = False
    assert opened.paths == []
