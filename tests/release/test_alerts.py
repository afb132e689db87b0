"""Each alert of config/prometheus: alerts.yaml has series, and the alerts that promtool has to get from them."""

import shutil
import subprocess
from pathlib import Path

import yaml

from release.manifests import ROOT
from release.tools import find_promtool

CASES = Path(__file__).parent / "alerts.yaml"
RULES = yaml.safe_load((ROOT / "config/prometheus/rules.yaml").read_text())["spec"]
ALERTS = [rule["alert"] for group in RULES["groups"] for rule in group["rules"]]


def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    """And not before, and not after; also when a replica is replaced in the middle."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES))
    shutil.copy(CASES, tmp_path)
    command = [str(find_promtool()), "test", "rules", CASES.name]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_cases_with_and_without_it() -> None:
    cases = [case for group in yaml.safe_load(CASES.read_text())["tests"] for case in group["alert_rule_test"]]
    for alert in ALERTS:
        assert {bool(case["exp_alerts"]) for case in cases if case["alertname"] == alert} == {True, False}, alert
