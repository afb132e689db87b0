"""docs/operations.md lists what the program has: no more and no less."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from controller.applications.desired import Reason
from controller.connection import status
from controller.connection.problem import Kind
from controller.metrics import AgentMetrics
from controller.runtime import Metrics
from controller.settings import variables

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/operations.md").read_text()
RULES = yaml.safe_load((ROOT / "config/prometheus/rules.yaml").read_text())
ALERTS = [rule for group in RULES["spec"]["groups"] for rule in group["rules"]]
DASHBOARD = (ROOT / "config/grafana/compass-runtime-agent.json").read_text()

_METRIC = re.compile(
    r"\b(?:compass_runtime_agent|controller_runtime|workqueue|rest_client|leader_election|reflector|informer|process)"
    r"_[a-z_]+\b(?!-)"
)


def section(title: str) -> str:
    """The text below a heading of the second level."""
    return PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of table rows that begin with a name in backquotes."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def names(text: str) -> list[str]:
    return [row[0].strip("`") for row in rows(text)]


def served() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Type and labels of each metric under the name it is scraped by."""
    metrics = Metrics()
    AgentMetrics(metrics.registry)
    found = {}
    for collector in metrics.registry._collector_to_names:
        for family in collector.collect():
            labels = (
                tuple(collector._labelnames)
                if isinstance(collector, MetricWrapperBase)
                else tuple(sorted({label for sample in family.samples for label in sample.labels}))
            )
            found[family.name + ("_total" if family.type == "counter" else "")] = (family.type, labels)
    return found


def test_every_setting_is_listed() -> None:
    """Name, default and meaning, as the program prints them with --help."""
    listed = rows(section("Settings").split("sets differently")[0])
    expected = [[f"`{v.name}`", f"`{v.default}`" if v.default else "not set", v.meaning] for v in variables()]
    assert listed == expected


def test_what_the_manifest_sets_differently_is_listed() -> None:
    deployment = yaml.safe_load((ROOT / "config/manager/deployment.yaml").read_text())
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    given = {variable["name"]: variable.get("value", "") for variable in container["env"]}
    defaults = {variable.name: variable.default for variable in variables()}
    listed = rows(section("Settings").split("sets differently")[1])
    assert {row[0].strip("`"): row[1].strip("`") for row in listed} == {
        name: value for name, value in given.items() if value != defaults[name]
    }


def test_every_metric_is_listed() -> None:
    """With its type and its labels."""
    listed = {
        row[0].strip("`"): (row[1], tuple(label.strip("`") for label in row[2].split(", ") if label != "none"))
        for row in rows(section("Metrics"))
    }
    assert listed == served()


def test_every_state_is_listed() -> None:
    assert sorted(names(section("States"))) == sorted(state.value for state in status.ConnectionState)


def test_every_condition_is_listed() -> None:
    connection: dict[str, object] = {"metadata": {"generation": 1}}
    status.derive_conditions(connection, now=0.0)
    kinds = [condition["type"] for condition in connection["status"]["conditions"]]  # type: ignore[index]
    assert names(section("Conditions")) == [*kinds, *status.Lasting]


def test_every_event_is_listed() -> None:
    """The reasons that the code gives, those that come from tables included."""
    given = {reason.value for reason in Reason}
    given |= {state.value for state in status.ConnectionState} & {
        "Synchronized",
        "ResourceApplicationFailed",
        "MetadataUpdateFailed",
    }
    given |= {kind.value for kind in Kind} - {Kind.REVOCATION_UNFINISHED.value}  # which has no Event
    for file in (ROOT / "controller").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr in ("event", "_emit"):
                reason = node.args[2 if node.func.attr == "event" else 1]
                texts = (part.value for part in ast.walk(reason) if isinstance(part, ast.Constant))
                given |= {text for text in texts if isinstance(text, str)}
    given -= {"Pending"}  # for a state that nothing sets
    assert sorted(names(section("Events"))) == sorted(given)


def test_every_alert_is_explained() -> None:
    """A heading for each, and the runbook of each leads there."""
    headings = re.findall(r"^### (\w+)$", section("Alerts"), re.MULTILINE)
    assert headings == [alert["alert"] for alert in ALERTS]
    for alert in ALERTS:
        assert alert["annotations"]["runbook"] == f"docs/operations.md#{alert['alert'].lower()}"


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_alerts_ask_for_metrics_that_are_served(alert: dict[str, str]) -> None:
    asked = set(_METRIC.findall(re.sub(r'"[^"]*"', "", alert["expr"])))
    assert asked or alert["alert"] == "CompassRuntimeAgentDown"
    assert asked <= set(served())


def test_the_dashboard_asks_for_metrics_that_are_served() -> None:
    asked = {re.sub("_(bucket|sum|count)$", "", name) for name in _METRIC.findall(DASHBOARD)}
    assert asked
    assert asked <= {re.sub("_(bucket|sum|count)$", "", name) for name in served()}
