"""Each row of the table of outages, short and long, in each phase of a connection: nothing is lost that need not be."""

import pytest

from controller.resources import COMPASS_CONNECTION, CONNECTION_NAME
from e2e.mock_compass.outages import OUTAGES
from tests.support.connection_bench import SYNC_PERIOD, Bench
from tests.support.connector_border import RUNTIME

HOUR = 3600.0

#: What the CompassConnection says while a part of Compass is down.
TOLD = {
    "gateway": "HTTP 503",
    "oathkeeper": "HTTP 503",
    "hydrator": "HTTP 500",
    "connector": "HTTP 503",
    "director": "HTTP 400, empty answer",
    "database": "HTTP 400, empty answer",
}

rows = pytest.mark.parametrize("outage", OUTAGES)
lengths = pytest.mark.parametrize("seconds", [1, 30, 300], ids=lambda seconds: f"{seconds} s")


def _during(bench: Bench, outage: str, seconds: float) -> None:
    with bench.connector.outages.during(outage, delay=0.0):
        bench.run(seconds)


def _signed(bench: Bench) -> int:
    return len(bench.connector.state.certificates())


def _unused(bench: Bench, token: str) -> bool:
    """Whether the token works; it is used up by this."""
    return bench.connector.state.spend_token(token) is not None


@rows
@lengths
def test_while_pairing(outage: str, seconds: float) -> None:
    """The same token pairs when it is over. Only a Connector that is down may have cost it, and that is said."""
    bench = Bench()
    token = bench.connector.state.issue_token(RUNTIME, lifetime=HOUR)
    bench.configure(TOKEN=token)
    with bench.connector.outages.during(outage, delay=0.0):
        bench.run(seconds)
        assert bench.state == "ConnectionFailed"
        assert TOLD[outage] in bench.error or outage == "connector"
    bench.run(SYNC_PERIOD * 1.3)
    if outage != "connector":
        assert bench.state == "Connected"
        assert _signed(bench) == 1
        return
    assert bench.state == "ConnectionFailed"
    assert "the one-time token may have been used up before: HTTP 503" in bench.error
    assert "put a new one-time token into ConfigMap kyma-system/compass-agent-configuration" in bench.error
    bench.configure()
    bench.settle()
    assert bench.state == "Connected"


@rows
@lengths
def test_between_the_two_steps_of_a_pairing(outage: str, seconds: float) -> None:
    """It goes on where it was, as long as its second token lives; then it is said that a new one is needed."""
    bench = Bench()
    bench.configure()
    begin = bench.connector.outages.begin

    def begin_before_signing(operation: str) -> None:
        if operation == "signCertificateSigningRequest":
            begin(outage, delay=0.0)

    bench.connector.intervene = begin_before_signing
    bench.run(seconds)
    bench.connector.intervene = lambda _: None
    assert bench.state == "ConnectionFailed"
    assert bench.connector.calls.count("configuration") == 1, "the configured token is used up, and is not tried again"
    bench.connector.outages.clear()
    bench.run(SYNC_PERIOD * 1.3)
    if seconds < 300 and outage != "connector":
        assert bench.state == "Connected"
        assert _signed(bench) == 1
        return
    assert bench.state == "ConnectionFailed"
    assert "put a new one-time token into ConfigMap kyma-system/compass-agent-configuration" in bench.error
    bench.configure()
    bench.settle()
    assert bench.state == "Connected"


@rows
@lengths
def test_while_connected_with_a_spare_token(outage: str, seconds: float) -> None:
    """The certificate goes on, and the configured token is as good afterwards as before."""
    bench = Bench().paired()
    spare = bench.connector.state.issue_token(RUNTIME, lifetime=HOUR)
    bench.configure(TOKEN=spare)
    before = bench.fingerprint()
    bench.run(SYNC_PERIOD - 1)
    _during(bench, outage, seconds + 2)
    assert bench.state == "ConnectionMaintenanceFailed"
    assert TOLD[outage] in bench.error
    assert bench.fingerprint() == before
    bench.run(SYNC_PERIOD * 1.3)
    assert (bench.state, bench.error) == ("Connected", "")
    assert bench.fingerprint() == before
    assert _signed(bench) == 1
    assert _unused(bench, spare)
    assert bench.recorder.reasons.count("ConnectionRestored") == 1


@rows
@lengths
def test_while_renewing(outage: str, seconds: float) -> None:
    """The old certificate stays in use, the renewal is made up for, and no token is touched."""
    bench = Bench().paired()
    spare = bench.connector.state.issue_token(RUNTIME, lifetime=HOUR)
    bench.configure(TOKEN=spare)
    before = bench.fingerprint()
    bench.server.edit(COMPASS_CONNECTION, CONNECTION_NAME, lambda o: o["spec"].update(refreshCredentialsNow=True))
    _during(bench, outage, seconds)
    assert bench.state == "ConnectionMaintenanceFailed"
    assert TOLD[outage] in bench.error
    assert bench.fingerprint() == before
    bench.run(SYNC_PERIOD * 1.3)
    assert (bench.state, bench.error) == ("Connected", "")
    assert bench.fingerprint() != before
    assert _signed(bench) == 2
    assert _unused(bench, spare)


@rows
def test_what_goes_on_is_told_once(outage: str) -> None:
    """An hour of the same outage is one write of the status and one Event, whatever ids the answers have."""
    bench = Bench().paired()
    bench.run(SYNC_PERIOD - 1)
    bench.connector.outages.begin(outage, delay=0.0)
    bench.run(60)
    writes = sum(bench.server.writes.values())
    bench.run(HOUR)
    assert sum(bench.server.writes.values()) == writes
    assert len(bench.recorder.reasons) == 2
    assert bench.recorder.reasons[0] == "Connected"
