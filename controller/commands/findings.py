"""The findings of `doctor`, in the Pod and from outside."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from controller.commands import permission_review
from controller.commands.permission_review import Permission
from controller.commands.report import HEALTHY, UNHEALTHY, UNKNOWN
from controller.resources import APPLY_RELEASE
from controller.text import clean, clean_lines

PAIR = "kubectl compass pair --token-stdin, with a new one-time token of Compass"
"""The cure for a connection that needs a new token."""

PRIVATE_CA = (
    "kubectl -n kyma-system create configmap compass-ca --from-file=ca.crt, and then kubectl -n kyma-system patch "
    "deployment compass-runtime-agent --patch-file private-ca.yaml, which is a file of the release"
)
"""The cure for a Compass whose CA the agent does not know."""

_MAX_TEXT = 1024


@dataclass(frozen=True)
class Unknown:
    """Why a fact could not be read."""

    why: str


class Result(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """The result of one check. `cure`: what to do; "" for nothing."""

    check: str
    result: Result
    text: str
    cure: str = ""


def ok(check: str, text: str) -> Finding:
    return Finding(check, Result.OK, text)


def warning(check: str, text: str, cure: str) -> Finding:
    return Finding(check, Result.WARNING, text, cure)


def problem(check: str, text: str, cure: str) -> Finding:
    return Finding(check, Result.PROBLEM, text, cure)


def unknown(check: str, text: str, cure: str = "") -> Finding:
    return Finding(check, Result.UNKNOWN, text, cure)


def permissions_finding(missing: tuple[Permission, ...]) -> Finding:
    """The finding for missing permissions of the agent's ServiceAccount."""
    check = "permissions"
    if not missing:
        return ok(check, "the ServiceAccount of the agent has all permissions that it needs")
    return problem(
        check,
        f"the ServiceAccount of the agent lacks permissions: {permission_review.describe(missing)}",
        APPLY_RELEASE,
    )


def exit_status(findings: Iterable[Finding]) -> int:
    """UNHEALTHY with a problem, else UNKNOWN if a check was not possible, else HEALTHY. Warnings have no effect."""
    results = {finding.result for finding in findings}
    if Result.PROBLEM in results:
        return UNHEALTHY
    return UNKNOWN if Result.UNKNOWN in results else HEALTHY


def to_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """`healthy` is null if a check was not possible and no other one has found a problem."""
    healthy = {HEALTHY: True, UNHEALTHY: False, UNKNOWN: None}[exit_status(findings)]
    rows = [
        {"check": f.check, "result": f.result.value, "text": _shown(f.text), "cure": _shown(f.cure) or None}
        for f in findings
    ]
    return {"healthy": healthy, "findings": rows}


def from_json(report: Mapping[str, Any]) -> list[Finding]:
    """The findings in the output of `to_json`. Raises ValueError, KeyError or TypeError for anything else."""
    return [
        Finding(str(row["check"]), Result(row["result"]), str(row["text"]), str(row["cure"] or ""))
        for row in report["findings"]
    ]


def lines(findings: Sequence[Finding]) -> list[str]:
    """For people, each line printable: the result, the check, the text, and the cure below it.

    Later lines of a text are indented, so that none looks like the result of a check.
    """
    checks = [clean(finding.check, _MAX_TEXT) for finding in findings]
    width = max(map(len, checks), default=0)
    shown = []
    for check, finding in zip(checks, findings, strict=True):
        first, *others = clean_lines(finding.text, _MAX_TEXT)
        shown.append(f"{finding.result:<9}{check:<{width}}  {first}")
        if finding.cure:
            begin, *more = clean_lines(finding.cure, _MAX_TEXT)
            others += [f"cure: {begin}", *more]
        shown += [f"{'':<9}{'':<{width}}  {line}" for line in others]
    return shown


def _shown(text: str) -> str:
    return "\n".join(clean_lines(text, _MAX_TEXT))
