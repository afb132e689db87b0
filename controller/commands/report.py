"""The report of `status`: of the agent's own command, and of `kubectl compass`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.connection import status
from controller.fields import member
from controller.settings import Settings
from controller.text import clean

HEALTHY, UNHEALTHY, UNKNOWN = 0, 1, 3
"""Exit statuses: connected and synchronised; a problem in the report; the API server does not answer.

2 is for an invalid command line or setting.
"""

MAX_TEXT = 1024

_PERIODS_UNTIL_STALE = 5
_MIN_SECONDS_UNTIL_STALE = 900.0  # the command may not know the period that the agent runs with


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Facts of the client certificate; times in epoch seconds, "" if unknown."""

    not_before: float
    not_after: float
    fingerprint: str = ""
    runtime_id: str = ""
    tenant: str = ""


def unknown(why: str) -> dict[str, Any]:
    """The report when the connection cannot be read."""
    return {"healthy": None, "problems": [why]}


def report(
    connection: Mapping[str, Any] | None, certificate: Certificate | str, settings: Settings, *, now: float
) -> dict[str, Any]:
    """The report for JSON. `certificate`: a text is the reason why there is no usable one."""
    stored = member(connection, "status")
    contact, sync = member(stored, "connectionStatus"), member(stored, "synchronizationStatus")
    urls = member(member(connection, "spec"), "managementInfo")
    known = certificate if isinstance(certificate, Certificate) else None
    found: dict[str, Any] = {
        "healthy": False,
        "problems": [],
        "exists": connection is not None,
        "state": stored.get("connectionState") or None,
        "runtime": (known.runtime_id or None) if known else None,
        "tenant": (known.tenant or None) if known else None,
        "connectorUrl": urls.get("connectorUrl") or None,
        "directorUrl": urls.get("directorUrl") or None,
        "established": contact.get("established"),
        "renewed": contact.get("renewed"),
        "lastContact": contact.get("lastSuccess"),
        "connectionError": contact.get("error"),
        "warning": contact.get("warning"),
        "lastSync": sync.get("lastSuccessfulApplication"),
        "lastFetch": sync.get("lastSuccessfulFetch"),
        "syncError": sync.get("error"),
        "applications": stored.get("applications"),
        "certificate": _dates(known) if known else None,
        "certificateError": None if known else certificate,
    }
    found["problems"] = _problems(found, known, settings, now)
    found["healthy"] = not found["problems"]
    return found


def stale_after(settings: Settings) -> float:
    """Seconds after which an answer of the Director is too old: no agent may run any more."""
    return max(_PERIODS_UNTIL_STALE * max(settings.sync_period, settings.minimal_sync_time), _MIN_SECONDS_UNTIL_STALE)


def _dates(certificate: Certificate) -> dict[str, str | None]:
    return {
        "notBefore": status.timestamp(certificate.not_before),
        "notAfter": status.timestamp(certificate.not_after),
        "fingerprint": certificate.fingerprint or None,
    }


def _problems(found: Mapping[str, Any], certificate: Certificate | None, settings: Settings, now: float) -> list[str]:
    """All problems of the connection, as texts."""
    problems = []
    if not found["exists"]:
        problems.append("there is no CompassConnection: no agent has run, or the agent may not create it")
    elif found["state"] != status.ConnectionState.SYNCHRONIZED:
        problems.append(f"the state is {found['state'] or 'not known yet'}")
    if certificate is None:
        problems.append(f"there are no usable credentials: {found['certificateError']}")
    elif now >= certificate.not_after:
        problems.append(f"the certificate expired at {status.timestamp(certificate.not_after)}")
    elif now < certificate.not_before:
        problems.append(
            f"the certificate is not valid before {status.timestamp(certificate.not_before)}, and the "
            f"local time is {status.timestamp(now)}: check the clocks"
        )
    fetched = status.parse_timestamp(found["lastFetch"])
    if fetched is not None and now - fetched > stale_after(settings):
        problems.append(f"the Director last answered at {found['lastFetch']}: check that an agent runs")
    return problems


def lines(report: Mapping[str, Any], now: float) -> list[str]:
    """The report for people, each line printable."""
    rows: list[tuple[str, object]] = [
        ("State", report["state"] or ("not known yet" if report["exists"] else "no CompassConnection")),
        ("Runtime", report["runtime"] or "unknown"),
        ("Tenant", report["tenant"] or "unknown"),
        ("Connector", report["connectorUrl"] or "unknown"),
        ("Director", report["directorUrl"] or "unknown"),
        ("Paired", _moment(report["established"], now)),
        ("Certificate", _certificate(report, now)),
        ("Renewed", _moment(report["renewed"], now)),
        ("Last contact", _moment(report["lastContact"], now, "the Connector accepted the certificate")),
        ("Last sync", _moment(report["lastSync"], now, "all Applications were in sync")),
        ("Applications", _applications(report)),
        ("Error", report["connectionError"]),
        ("Warning", report["warning"]),
        ("Sync error", report["syncError"]),
        *(("Problem", problem) for problem in report["problems"]),
    ]
    return [f"{name + ':':<14}{clean(str(value), MAX_TEXT)}" for name, value in rows if value]


def _applications(report: Mapping[str, Any]) -> str:
    counts = member(report, "applications")
    if not counts:
        return ""
    text = f"{counts.get('synced', 0)} of {counts.get('desired', 0)} in sync"
    if counts.get("failed"):
        failing = counts.get("failing")
        names = ", ".join(map(str, failing)) if isinstance(failing, list) else ""
        text += f", {counts['failed']} failed: {names}"
    return text


def _certificate(report: Mapping[str, Any], now: float) -> str:
    certificate = report["certificate"]
    if certificate is None:
        return str(report["certificateError"])
    return f"valid until {_moment(certificate['notAfter'], now)}"


def _moment(text: object, now: float, what: str = "") -> str:
    at = status.parse_timestamp(text)
    if at is None:
        return "never"
    age = status.duration(now - at)
    moment = f"{text} ({age} ago)" if at <= now else f"{text} (in {age})"
    return f"{moment}: {what}" if what else moment
