"""The life of a connection: paired, renewed, lost and won again."""

import re

from controller.resources import SECRET
from e2e.cluster import CLUSTER_SECRET, CONFIGURATION
from e2e.scenarios import messages
from e2e.scenarios.target import Target

NOWHERE = "no-such-service.compass.svc.cluster.local"


def test_pairing_reports_what_is_missing(target: Target) -> None:
    """An unconfigured agent reports what is missing, and the host of a wrong URL; with a token it pairs, once."""
    target.compass.reset()
    target.disconnect()
    target.start_agents()
    target.wait_for_state("ConnectionFailed")
    assert "compass-agent-configuration" in target.connection_error()

    target.configure(target.compass.configuration() | {"CONNECTOR_URL": f"https://{NOWHERE}/connector/graphql"})
    target.wait_for("the host", lambda: f"the host name {NOWHERE} cannot be resolved" in target.connection_error())

    issued = len(target.compass.certificates())
    target.configure(target.compass.configuration())
    target.kubectl("wait", "--for=condition=Ready", "compassconnection/compass-connection", "--timeout=120s")

    target.wait_for_landscape()
    assert target.connection_error() == ""
    assert len(target.compass.certificates()) == issued + 1
    credentials = target.secret(CLUSTER_SECRET)
    assert credentials is not None
    assert {"crt", "key", "crtChain"} <= credentials.keys()


def test_a_requested_renewal_replaces_the_certificate(connected: Target) -> None:
    """refreshCredentialsNow replaces the certificate, is reset, and the connection goes on."""
    before = connected.secret(CLUSTER_SECRET)
    connected.kubectl(
        "patch", "cc", "compass-connection", "--type=merge", "--patch", '{"spec": {"refreshCredentialsNow": true}}'
    )
    connected.wait_for("another certificate", lambda: _crt(connected) not in ("", (before or {})["crt"]))
    connected.wait_for("the flag reset", lambda: not _spec(connected).get("refreshCredentialsNow"))
    connected.wait_for_landscape()


def test_a_deleted_connection_is_paired_again(connected: Target) -> None:
    """A new token in the configuration and a deleted CompassConnection: another pairing; the Applications stay."""
    before, applications = _crt(connected), connected.applications()
    connected.configure(connected.compass.configuration())
    connected.kubectl("delete", "compassconnection", "compass-connection")
    connected.wait_for("another certificate", lambda: _crt(connected) not in ("", before))
    after = connected.wait_for_landscape()
    assert _uids(after) == _uids(applications)


def test_a_revoked_connection_needs_a_new_token(connected: Target) -> None:
    """The command revokes the certificate and deletes the credentials; only a new token connects again."""
    applications = connected.applications()
    columns = _columns(connected)
    assert columns["READY"] == "True"
    assert columns["CERTIFICATE EXPIRES"]
    said = connected.command("revoke", "--yes")
    assert "The certificate is revoked (x-request-id: " in said
    assert connected.compass.certificates()[-1]["revoked"]
    connected.wait_for_state("ConnectionFailed")
    assert connected.secret(CLUSTER_SECRET) is None
    columns = _columns(connected)
    assert columns["STATE"] == "ConnectionFailed"
    assert columns["READY"] == "False"
    assert columns["CERTIFICATE EXPIRES"] == ""
    assert _uids(connected.applications()) == _uids(applications)
    assert any(messages.REVOKED in text for text in connected.logs().values())

    connected.configure(connected.compass.configuration())
    after = connected.wait_for_landscape()
    assert _uids(after) == _uids(applications)


def test_the_secret_wins_over_the_config_map(connected: Target) -> None:
    """A Secret that holds the configuration is taken, and reconnects although the ConfigMap is still there."""
    before = _crt(connected)
    try:
        connected.configure(connected.compass.configuration(), secret=True)
        connected.kubectl("delete", "compassconnection", "compass-connection")
        connected.wait_for("another certificate", lambda: _crt(connected) not in ("", before))
        connected.wait_for_landscape()
    finally:
        connected.remove(SECRET, CONFIGURATION.name, CONFIGURATION.namespace)


def _crt(target: Target) -> str:
    return (target.secret(CLUSTER_SECRET) or {}).get("crt", "")


def _spec(target: Target) -> dict[str, object]:
    spec: dict[str, object] = (target.connection() or {}).get("spec") or {}
    return spec


def _uids(applications: dict[str, dict[str, object]]) -> dict[str, object]:
    return {name: obj["metadata"]["uid"] for name, obj in applications.items()}  # type: ignore[index]


def _columns(target: Target) -> dict[str, str]:
    """What `kubectl get cc` shows of the CompassConnection, by the heads of its columns."""
    heads, row = target.kubectl("get", "cc").splitlines()
    columns = [(found[0], found.start(), found.end()) for found in re.finditer(r"\S+(?: \S+)*(?:\s{2,}|$)", heads)]
    return {head.strip(): row[begin:end].strip() for head, begin, end in columns}
