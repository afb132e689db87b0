"""The agent's own doctor: from facts to findings, each with its cure."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.commands import findings
from controller.commands.doctor import Facts, doctor, examine, gather
from controller.commands.findings import Finding, Result, Unknown, unknown
from controller.commands.permission_review import Permission
from controller.commands.probe import Probe, Step
from controller.commands.report import Certificate
from controller.connection.configuration import ConfigurationProblem, PairingConfiguration
from controller.settings import Settings
from tests.support.connection_bench import CA, CLUSTER, CONFIGURATION, Bench

DAY = 86400.0
URL = "https://compass.example.com/graphql"
TOKEN = "a-token-that-nobody-may-see-" + "x" * 40
CONFIGURED = PairingConfiguration("Secret kyma-system/c", URL, "runtime", "tenant", TOKEN)
NOTHING = ConfigurationProblem("there is neither this nor that", "", is_absent=True)
INCOMPLETE = ConfigurationProblem("TOKEN is missing", "-")
VALID = Certificate(not_before=-30 * DAY, not_after=60 * DAY)
SAME_RUNTIME = replace(VALID, runtime_id="runtime", tenant="tenant")
WELL = Facts(
    now=0.0,
    settings=Settings(),
    missing_permissions=(),
    configuration=CONFIGURED,
    certificate=VALID,
    probes=(Probe("Connector", URL, status=400, date=1.0), Probe("Director", URL, status=400, date=2.0)),
)
UNVERIFIED = Settings(skip_compass_tls_verify=True)
LOST = {"certificate": "the Secret kyma-system/x does not exist"}


def failing(step: Step, text: str) -> tuple[Probe, ...]:
    return (Probe("Connector", URL, failed=step, text=text),)


#: What is so, the check that finds it, its result, and words of text and cure.
TABLE: list[tuple[dict[str, Any], str, Result, str, str]] = [
    ({}, "permissions", Result.OK, "has all permissions", ""),
    (
        {"missing_permissions": (Permission("", "secrets", "a", "", "get"),)},
        "permissions",
        Result.PROBLEM,
        "get secrets",
        "install.yaml",
    ),
    ({"missing_permissions": Unknown("refused")}, "permissions", Result.UNKNOWN, "refused", ""),
    ({}, "configuration", Result.OK, "for Runtime runtime", ""),
    ({"certificate": SAME_RUNTIME}, "configuration", Result.OK, "complete", ""),
    (
        {"certificate": replace(SAME_RUNTIME, runtime_id="another")},
        "configuration",
        Result.WARNING,
        "is for Runtime runtime of tenant tenant, and the connection is that of Runtime another of tenant tenant",
        "correct RUNTIME_ID",
    ),
    (
        {"certificate": replace(SAME_RUNTIME, tenant="another")},
        "configuration",
        Result.WARNING,
        "that of Runtime runtime of tenant another",
        "TENANT",
    ),
    ({"configuration": NOTHING}, "configuration", Result.OK, "none is needed", ""),
    ({"configuration": INCOMPLETE}, "configuration", Result.WARNING, "TOKEN is missing", "correct it"),
    ({"configuration": NOTHING, **LOST}, "configuration", Result.PROBLEM, "neither", "--connector-url"),
    ({"configuration": NOTHING, "now": 61 * DAY}, "configuration", Result.PROBLEM, "neither", "--connector-url"),
    ({"configuration": INCOMPLETE, **LOST}, "configuration", Result.PROBLEM, "TOKEN is missing", "correct what"),
    ({"configuration": Unknown("no")}, "configuration", Result.UNKNOWN, "cannot be read: no", ""),
    ({}, "certificate", Result.OK, "valid until 1970-03-02", ""),
    (LOST, "certificate", Result.PROBLEM, "does not exist", "pair --token-stdin"),
    ({"certificate": Unknown("no")}, "certificate", Result.UNKNOWN, "cannot be read: no", ""),
    ({"now": 61 * DAY}, "certificate", Result.PROBLEM, "expired at 1970-03-02", "pair --token-stdin"),
    ({"now": 60 * DAY}, "certificate", Result.PROBLEM, "expired", "pair --token-stdin"),
    ({"now": -31 * DAY}, "certificate", Result.PROBLEM, "not valid before", "clock"),
    ({"now": 41 * DAY}, "certificate", Result.OK, "valid until", ""),
    ({"now": 43 * DAY}, "certificate", Result.WARNING, "should have been renewed", "compass renew"),
    ({}, "Connector", Result.OK, "answers with HTTP 400; its TLS certificate is verified", ""),
    ({"probes": (Probe("Connector", URL, status=503),)}, "Connector", Result.WARNING, "HTTP 503", "is down"),
    ({"probes": (Probe("Connector", URL, status=404),)}, "Connector", Result.WARNING, "HTTP 404", "CONNECTOR_URL"),
    ({"probes": (Probe("Connector", URL, status=302),)}, "Connector", Result.WARNING, "HTTP 302", "proxies"),
    (
        {"settings": Settings(skip_compass_tls_verify=True)},
        "Director",
        Result.WARNING,
        "is not verified",
        "APP_SKIP_COMPASS_TLS_VERIFY",
    ),
    ({"probes": failing(Step.NAME, "not resolved")}, "Connector", Result.PROBLEM, "not resolved", "DNS"),
    ({"probes": failing(Step.CONNECTION, "refused")}, "Connector", Result.PROBLEM, "refused", "egress"),
    ({"probes": failing(Step.TRUST, "not trusted")}, "Connector", Result.PROBLEM, "not trusted", "configmap"),
    ({"probes": failing(Step.TLS, "refused")}, "Connector", Result.PROBLEM, "refused", "pair --token-stdin"),
    ({"probes": failing(Step.ANSWER, "cut off")}, "Connector", Result.PROBLEM, "cut off", "proxies"),
    ({"probes": unknown("Compass", "no address")}, "Compass", Result.UNKNOWN, "no address", ""),
    ({}, "clocks", Result.OK, "agree", ""),
    ({"probes": (Probe("Connector", URL, date=300.0),)}, "clocks", Result.WARNING, "5 min behind", "NTP"),
    ({"probes": (Probe("Connector", URL, date=-300.0),)}, "clocks", Result.WARNING, "5 min ahead of", "NTP"),
]


@pytest.mark.parametrize(("facts", "check", "result", "text", "cure"), TABLE)
def test_each_fact_has_its_finding(facts: dict[str, Any], check: str, result: Result, text: str, cure: str) -> None:
    """Only a warning or a problem has a cure."""
    (found,) = [finding for finding in examine(replace(WELL, **facts)) if finding.check == check]
    assert found.result is result
    assert text in found.text
    assert cure in found.cure
    assert bool(found.cure) or result in (Result.OK, Result.UNKNOWN)


def test_a_server_that_is_not_trusted_leads_to_no_new_pairing() -> None:
    """A token would be used up for nothing."""
    for ca_file in (None, Path("/etc/compass-ca/ca.crt")):
        settings = Settings(compass_ca_file=ca_file)
        facts = replace(WELL, probes=failing(Step.TRUST, "not trusted"), settings=settings)
        assert not any("pair" in finding.cure for finding in examine(facts))


def test_cures_need_no_clone_of_the_repository() -> None:
    """Who has installed a release has no folder config/."""
    cures = {finding.cure for row in TABLE for finding in examine(replace(WELL, **row[0]))}
    assert not [cure for cure in cures if "config/" in cure or " -k " in cure]


def test_later_lines_of_a_text_are_indented() -> None:
    """So a line break in the text of somebody else makes no row of its own."""
    found = [Finding("check", Result.PROBLEM, "one\nok       check  two", "three\nfour")]
    assert findings.lines(found) == [
        "problem  check  one",
        "                ok       check  two",
        "                cure: three",
        "                four",
    ]


def test_a_ca_file_that_is_none_is_a_finding(tmp_path: Path) -> None:
    bench = Bench(validity=10 * 3600.0).paired()
    file = tmp_path / "ca.crt"
    file.write_text("nonsense")
    settings = Settings(cluster_certificates_secret=CLUSTER, ca_certificates_secret=CA, compass_ca_file=file)
    facts = gather(Server(bench, True), settings, now=bench.clock.time)  # type: ignore[arg-type]
    assert isinstance(facts.probes, Finding)
    assert facts.probes.result is Result.PROBLEM
    assert str(file) in facts.probes.text
    assert "ConfigMap compass-ca" in facts.probes.cure


def test_no_clock_no_finding() -> None:
    assert "clocks" not in {finding.check for finding in examine(replace(WELL, probes=failing(Step.NAME, "x")))}


def test_the_token_is_in_no_finding() -> None:
    assert TOKEN not in str(findings.to_json(examine(WELL)))


@pytest.mark.parametrize(
    ("results", "status", "healthy"),
    [
        ([Result.OK], 0, True),
        ([Result.OK, Result.WARNING], 0, True),
        ([Result.OK, Result.UNKNOWN], 3, None),
        ([Result.UNKNOWN, Result.PROBLEM], 1, False),
    ],
)
def test_the_exit_status_follows_from_the_findings(results: list[Result], status: int, healthy: bool | None) -> None:
    found = [Finding("check", result, "text\x1b[2J") for result in results]
    assert findings.exit_status(found) == status
    report = findings.to_json(found)
    assert report["healthy"] is healthy
    assert [finding.result for finding in findings.from_json(json.loads(json.dumps(report)))] == results
    assert all(line.isprintable() for line in findings.lines(found))


class Server:
    """The bench's API server, which also answers reviews."""

    def __init__(self, bench: Bench, allowed: bool) -> None:
        self._bench, self._allowed = bench, allowed

    def get(self, *args: Any, **kwargs: Any) -> Any:
        return self._bench.server.get(*args, **kwargs)

    def request(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {"status": {"allowed": self._allowed}}


@pytest.mark.parametrize("allowed", [True, False])
def test_what_there_is_is_gathered(allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A paired agent: its servers are asked with its certificate."""
    bench = Bench(validity=10 * 3600.0).paired()
    asked: list[tuple[str, str]] = []

    def probe(party: str, url: str, *_: Any, **__: Any) -> Probe:
        asked.append((party, url))
        return Probe(party, url, status=200)

    monkeypatch.setattr("controller.commands.doctor.probe", probe)
    monkeypatch.setattr(
        "controller.compass.tls.client_context", lambda *_, **__: None
    )  # OpenSSL: the keys are too small
    settings = Settings(
        cluster_certificates_secret=CLUSTER,
        ca_certificates_secret=CA,
        configuration=CONFIGURATION,
    )
    out = io.StringIO()
    code = doctor(Server(bench, allowed), settings, output="json", now=bench.clock.time, out=out)  # type: ignore[arg-type]
    report = json.loads(out.getvalue())
    assert (code, report["healthy"]) == ((0, True) if allowed else (1, False))
    results = {row["check"]: row["result"] for row in report["findings"]}
    assert results.pop("permissions") == ("ok" if allowed else "problem")
    assert set(results.values()) == {"ok"}
    assert [party for party, _ in asked] == ["Connector", "Director"]
