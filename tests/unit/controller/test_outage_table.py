"""Each part of Compass down for a second, half a minute and five minutes, while pairing, connected and renewing.

On virtual time, over a Compass in memory that answers as the real one: nothing is lost, no token is spent that need not
be, and what is told is what docs/troubleshooting.md says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from controller.connection.state import renewal_due_at
from e2e.mock_compass.gateway import OUTAGES
from tests.support.compass_border import RUNTIME
from tests.support.connection_bench import SYNC_PERIOD, Bench
from tests.support.whole_bench import WholeBench

DOCUMENTATION = (Path(__file__).parents[3] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")

DURATIONS = [1.0, 30.0, 300.0]  # seconds
BACK = 2 * SYNC_PERIOD + 10  # seconds in which all pauses have ended
FOREVER = 1e9

UPSTREAM = (
    "HTTP 503: upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"
)
NOBODY = "HTTP 400, empty answer"
NO_SCOPES = "graphql: insufficient scopes provided"
NEW_TOKEN = "put a new one-time token into ConfigMap kyma-system/compass-agent-configuration"
SPENT_BEFORE = "an earlier attempt may have used the one-time token: HTTP 503"
MAY_BE_SPENT = (
    "this attempt may have used the one-time token; if Compass refuses the token now, put a new one-time token into"
)
UNKNOWN_OR_DOWN = (
    "the one-time token is unknown, used or expired, or Compass gives the same answer while its Director or its "
    "database is down; if Compass is available, put a new one-time token into"
)
LOST_OR_DOWN = (
    "the answer of the Connector was lost and the one-time token is used, or Compass gives the same answer while "
    "its Director or its database is down; if Compass is available, put a new one-time token into"
)


@dataclass(frozen=True)
class Row:
    """What the status says while something is down. `spends`: the token of a pairing is used up by it.

    `sync` is "" where the Director goes on to serve.
    """

    down: str
    pairing: tuple[str, str]
    signing: tuple[str, str]
    connected: str
    sync: str
    spends: bool = False


TABLE = [
    Row("director", (NOBODY, UNKNOWN_OR_DOWN), (NOBODY, LOST_OR_DOWN), f"Connector: {NOBODY}", UPSTREAM),
    Row("database", (NOBODY, UNKNOWN_OR_DOWN), (NOBODY, LOST_OR_DOWN), f"Connector: {NOBODY}", NO_SCOPES),
    Row("hydrator", ("HTTP 500", MAY_BE_SPENT), ("HTTP 500", MAY_BE_SPENT), "HTTP 500", "HTTP 500"),
    Row("connector", (UPSTREAM, MAY_BE_SPENT), (UPSTREAM, MAY_BE_SPENT), UPSTREAM, "", spends=True),
    Row("gateway", (UPSTREAM, MAY_BE_SPENT), (UPSTREAM, MAY_BE_SPENT), UPSTREAM, UPSTREAM, spends=True),
    Row("oathkeeper", (UPSTREAM, MAY_BE_SPENT), (UPSTREAM, MAY_BE_SPENT), UPSTREAM, UPSTREAM),
]

each_row = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.down)
each_duration = pytest.mark.parametrize("seconds", DURATIONS)


@pytest.fixture
def bench() -> WholeBench:
    return WholeBench()


def outage(bench: WholeBench, row: Row, seconds: float) -> None:
    """It begins now. What is told is looked at right before it ends."""
    bench.connector.outages.begin(row.down)
    bench.run(seconds)


def end(bench: WholeBench) -> None:
    bench.connector.outages.clear()
    bench.run(BACK)


def assert_synchronized(bench: WholeBench) -> None:
    assert bench.state == "Synchronized", bench.error
    assert (bench.error, bench.sync_error) == ("", "")
    assert len(bench.cluster.applications()) == len(bench.cluster.secrets()) == 2


@each_row
@each_duration
def test_an_outage_while_pairing(bench: WholeBench, row: Row, seconds: float) -> None:
    """The same token works afterwards, but where the Hydrator had spent it before the Connector was reached."""
    bench.configure()
    outage(bench, row, seconds)
    assert bench.state == "ConnectionFailed"
    assert all(text in bench.error for text in row.pairing), bench.error
    end(bench)
    if row.spends:
        assert bench.state == "ConnectionFailed"
        assert SPENT_BEFORE in bench.error
        assert NEW_TOKEN in bench.error
        bench.configure()
        bench.run(1)
    assert_synchronized(bench)
    assert len(bench.connector.state.certificates()) == 1


@each_row
@each_duration
def test_an_outage_between_the_two_steps_of_a_pairing(bench: WholeBench, row: Row, seconds: float) -> None:
    """The first token is spent, and the second lives for five minutes: the pairing is finished if it still works."""
    bench.configure()
    began: list[str] = []

    def begin(operation: str) -> None:
        if operation == "signCertificateSigningRequest" and not began:
            began.append(operation)
            bench.connector.outages.begin(row.down)

    bench.connector.intervene = begin
    bench.run(seconds)
    assert began
    assert bench.state == "ConnectionFailed"
    assert all(text in bench.error for text in row.signing), bench.error
    assert bench.connector.calls.count("configuration") == 1, "the configured token is used up, and is not tried again"
    end(bench)
    if row.spends or seconds >= 300:
        assert bench.state == "ConnectionFailed"
        assert NEW_TOKEN in bench.error
        bench.configure()
        bench.run(1)
    assert_synchronized(bench)


def connected(bench: WholeBench) -> WholeBench:
    bench.configure()
    bench.run(1)
    assert_synchronized(bench)
    return bench


def paired_beside_a_spare_token(bench: WholeBench) -> str:
    """It was configured all the while: the CompassConnection had another one, which won the credentials."""
    token = bench.connector.state.issue_token(RUNTIME, lifetime=FOREVER)
    bench.configure(TOKEN=token)
    own = bench.connector.token()
    bench.apply_pairing(token=own)
    bench.run(1)
    assert_synchronized(bench)
    return token


def paired_before_a_spare_token(bench: WholeBench) -> str:
    """It was configured when the connection was there."""
    connected(bench)
    token = bench.connector.state.issue_token(RUNTIME, lifetime=FOREVER)
    bench.configure(TOKEN=token)
    return token


def assert_told_while_connected(bench: WholeBench, row: Row) -> None:
    assert bench.state == "ConnectionMaintenanceFailed"
    assert row.connected in bench.error, bench.error
    assert row.sync in bench.sync_error, bench.sync_error
    assert bool(row.sync) == bool(bench.sync_error)
    assert len(bench.cluster.applications()) == len(bench.cluster.secrets()) == 2


@each_row
@each_duration
@pytest.mark.parametrize("own_crd", [True, False], ids=["own CRD", "CRD of the Go agent"])
def test_an_outage_while_connected(own_crd: bool, row: Row, seconds: float) -> None:
    """Credentials, Applications and Secrets stay as they are, and nobody has to help."""
    bench = connected(WholeBench(subresource=own_crd))
    bench.run(SYNC_PERIOD - 1.5)
    before = bench.fingerprint()
    applications, secrets = dict(bench.cluster.applications()), bench.cluster.secrets()
    outage(bench, row, seconds)
    assert_told_while_connected(bench, row)
    end(bench)
    assert_synchronized(bench)
    assert bench.fingerprint() == before
    assert bench.cluster.applications() == applications
    assert bench.cluster.secrets() == secrets
    assert bench.recorder.reasons.count("ConnectionRestored") == 1


@each_row
@each_duration
@pytest.mark.parametrize("paired", [paired_beside_a_spare_token, paired_before_a_spare_token])
def test_a_spare_token_outlives_an_outage(
    bench: WholeBench, paired: Callable[[WholeBench], str], row: Row, seconds: float
) -> None:
    """It is not tried because of refusals that the outage explains, and is as good afterwards as before."""
    token = paired(bench)
    bench.run(SYNC_PERIOD - 1.5)
    before = bench.fingerprint()
    outage(bench, row, seconds)
    assert_told_while_connected(bench, row)
    end(bench)
    assert_synchronized(bench)
    assert bench.fingerprint() == before
    assert bench.is_unused(token)


@each_row
@each_duration
def test_an_outage_while_renewing(row: Row, seconds: float) -> None:
    """The renewal comes after it, with the old certificate and without a token."""
    bench = WholeBench(validity=3600.0)
    token = paired_before_a_spare_token(bench)
    first = bench.credentials.load()
    due = renewal_due_at(bench.settings, not_before=first.not_before, not_after=first.not_after)
    bench.run(due - bench.clock.time() - 0.5)
    assert bench.fingerprint() == first.fingerprint
    outage(bench, row, seconds)
    assert_told_while_connected(bench, row)
    assert bench.fingerprint() == first.fingerprint
    end(bench)
    assert_synchronized(bench)
    assert bench.fingerprint() != first.fingerprint
    assert len(bench.connector.state.certificates()) == 2
    assert bench.is_unused(token)


@each_row
def test_an_outage_that_goes_on_is_told_once(row: Row) -> None:
    """An hour of it is one write by the connection and one Event, whatever ids the answers have."""
    bench = Bench().paired()
    bench.run(SYNC_PERIOD - 1)
    bench.connector.outages.begin(row.down, delay=0.0)
    bench.run(60)
    writes = bench.server.writes.total()
    bench.run(3600)
    assert bench.server.writes.total() == writes
    assert len(bench.recorder.reasons) == 2
    assert bench.recorder.reasons[0] == "Connected"


def test_the_table_has_every_outage() -> None:
    """Of those that are known."""
    assert {row.down for row in TABLE} == OUTAGES.keys()


@each_row
def test_the_documentation_has_what_is_told(row: Row) -> None:
    """Word for word."""
    for text in (*row.pairing, *row.signing, row.connected, row.sync, SPENT_BEFORE):
        assert text in DOCUMENTATION
