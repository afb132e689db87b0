"""The command status: an exit status that a script can use, JSON in every case, and nothing that harms a terminal."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import controller.commands.command_line
from controller.commands.report import HEALTHY, UNHEALTHY, UNKNOWN, stale_after
from controller.commands.status import status
from controller.connection import status as cc
from controller.resources import COMPASS_CONNECTION, CONNECTION_NAME
from controller.settings import Settings
from informers import ConnectionFailed, Forbidden
from tests.support.compass_border import RUNTIME, TENANT
from tests.support.connection_bench import CA, CLUSTER, Bench
from tests.support.fuzzing import VALUES, quickly
from tests.support.kept_logging import kept_logging
from tests.support.object_store import Object

SETTINGS = Settings(cluster_certificates_secret=CLUSTER, ca_certificates_secret=CA)


@pytest.fixture
def bench() -> Bench:
    """Paired and synchronised a moment ago."""
    bench = Bench(validity=10 * 3600.0).paired()
    now = bench.clock.time()

    def synchronised(obj: Object) -> None:
        cc.set_synchronized(
            obj,
            fetched_at=now,
            now=now,
            counts=cc.ApplicationCounts(1, 1, {}),
            apply_error=None,
            labels_error=None,
        )

    bench.connections.apply(CONNECTION_NAME, synchronised)
    return bench


def run(bench: Bench, output: str = "text") -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = status(bench.server, SETTINGS, output=output, now=bench.clock.time(), out=out, err=err)  # type: ignore[arg-type]
    return code, out.getvalue(), err.getvalue()


def _edit_status(**members: Any) -> Callable[[Bench], None]:
    def edit(bench: Bench) -> None:
        bench.server.edit(COMPASS_CONNECTION, CONNECTION_NAME, lambda obj: obj["status"].update(members))

    return edit


def _clock_goes_back(bench: Bench) -> None:
    bench.clock.set_time(bench.clock.time() - 7 * 86400)


#: What has happened, and what the report says of it.
PROBLEMS: list[tuple[str, Callable[[Bench], Any], str]] = [
    ("never paired", Bench.delete_connection, "no CompassConnection"),
    ("credentials gone", Bench.delete_secret, "no usable"),
    ("expired", lambda bench: bench.clock.advance(11 * 3600), "the certificate expired at "),
    ("not yet valid", _clock_goes_back, "check the clocks"),
    ("no agent", lambda bench: bench.clock.advance(3600), "check that an agent runs"),
    ("failed", _edit_status(connectionState="SynchronizationFailed"), "the state is SynchronizationFailed"),
    ("no state", _edit_status(connectionState=None), "the state is not known yet"),
    ("any state", _edit_status(connectionState={"a": 1}), "the state is {'a': 1}"),
]


@pytest.mark.parametrize("output", ["text", "json"])
def test_all_is_well(bench: Bench, output: str) -> None:
    code, out, err = run(bench, output)
    assert (code, err) == (HEALTHY, "")
    if output == "json":
        report = json.loads(out)
        assert (report["healthy"], report["problems"]) == (True, [])
        assert report["applications"] == {"desired": 1, "synced": 1, "failed": 0, "failing": []}
        assert (report["state"], report["tenant"]) == ("Synchronized", TENANT)
        assert report["certificate"]["fingerprint"] == bench.fingerprint()
    else:
        assert "Problem" not in out
        for line in ("State:        Synchronized\n", f"Runtime:      {RUNTIME}\n", "Certificate:  valid until "):
            assert line in out


def test_the_errors_of_the_object_are_told() -> None:
    bench = Bench()
    bench.settle()
    code, out, _ = run(bench)
    assert code == UNHEALTHY
    assert "Error:        no pairing configuration found" in out


@pytest.mark.parametrize("output", ["text", "json"])
@pytest.mark.parametrize(("happen", "text"), [row[1:] for row in PROBLEMS], ids=[row[0] for row in PROBLEMS])
def test_whatever_is_wrong_is_told_and_makes_the_exit_status(
    bench: Bench, happen: Callable[[Bench], Any], text: str, output: str
) -> None:
    """Also where the CompassConnection says Synchronized, because nobody has looked since."""
    happen(bench)
    code, out, err = run(bench, output)
    assert (code, err) == (UNHEALTHY, "")
    if output == "json":
        report = json.loads(out)
        assert report["healthy"] is False
        assert [problem for problem in report["problems"] if text in problem]
    else:
        assert [line for line in out.splitlines() if line.startswith("Problem:") and text in line]


@pytest.mark.parametrize("output", ["text", "json"])
@pytest.mark.parametrize("error", [ConnectionFailed("refused"), Forbidden("no \x1b[2J", status=403)], ids=type)
def test_an_api_server_that_does_not_tell_is_another_exit_status(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception, output: str
) -> None:
    """The reason goes to standard error; standard output is JSON when that was asked for."""

    def fail(*_: object, **__: object) -> Object:
        raise error

    monkeypatch.setattr(bench.server, "get", fail)
    code, out, err = run(bench, output)
    assert code == UNKNOWN
    assert "cannot be read" in err
    assert err.rstrip("\n").isprintable()
    if output == "json":
        assert json.loads(out)["healthy"] is None
        assert "cannot be read" in json.loads(out)["problems"][0]
    else:
        assert out == ""


@pytest.mark.parametrize(
    "variables", [{"APP_HEALTH_PORT": "x"}, {"KUBECONFIG": "/nowhere"}], ids=["setting", "cluster"]
)
@pytest.mark.parametrize("command", ["status", "doctor"])
def test_what_keeps_it_from_beginning_is_json_too(
    command: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A setting that cannot be used, no way to the API server: exit status 2."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with kept_logging():
        assert controller.commands.command_line.main([command, "-o", "json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["healthy"] is None
    assert captured.err


MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        name: VALUES | st.dictionaries(st.sampled_from(["error", "lastSuccessfulFetch", "failing", "failed"]), VALUES)
        for name in ("connectionState", "connectionStatus", "synchronizationStatus", "applications", "conditions")
    },
)


@quickly
@given(told=MEMBERS | VALUES, spec=VALUES | st.fixed_dictionaries({"managementInfo": VALUES}))
def test_whatever_people_write_into_the_object_is_printed_harmless(told: Any, spec: Any) -> None:
    """No exception; each line is one line; JSON stays JSON."""
    bench = Bench().paired()

    def edit(obj: Object) -> None:
        obj["status"], obj["spec"] = told, spec

    bench.server.edit(COMPASS_CONNECTION, CONNECTION_NAME, edit)
    code, out, err = run(bench)
    assert (code in (HEALTHY, UNHEALTHY), err) == (True, "")
    lines = out.splitlines()
    assert all(line.isprintable() for line in lines)
    assert sum(line.startswith("State:") for line in lines) == 1
    code, out, err = run(bench, "json")
    json.loads(out)


def test_fetches_with_long_pauses_are_not_stale() -> None:
    """The time between two is the longer one of both settings."""
    assert stale_after(Settings(sync_period=20.0, minimal_sync_time=1800.0)) > 1800.0
