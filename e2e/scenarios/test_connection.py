"""A connection begins."""

from e2e.cluster import CLUSTER_SECRET
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
