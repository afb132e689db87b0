"""``compass-runtime-agent status``: the connection the way an operator wants to read it."""

import json
from typing import Any, Literal, TextIO

from controller.commands import snapshot
from controller.connection import status as cc
from controller.connection.credentials import CredentialsError
from controller.settings import Settings
from informers import ApiError, Client

DONE, NOT_READY, UNREADABLE = 0, 1, 2
"""Exit statuses: everything is synchronised; something is wrong, as told; the API server does not tell."""

_UNITS = (("d", 86400), ("h", 3600), ("min", 60))


def status(client: Client, settings: Settings, *, output: Literal["text", "json"], now: float, out: TextIO) -> int:
    """Print what there is; gives the exit status."""
    try:
        taken = snapshot.take(client, settings)
    except ApiError as error:
        print(f"The connection cannot be read: {error}", file=out)
        return UNREADABLE
    report = _report(taken)
    if output == "json":
        print(json.dumps(report, indent=2), file=out)
    else:
        print("\n".join(_lines(report, now)), file=out)
    return DONE if report["state"] == cc.State.SYNCHRONIZED else NOT_READY


def _report(taken: snapshot.Snapshot) -> dict[str, Any]:
    told = (taken.connection or {}).get("status") or {}
    connection = told.get("connectionStatus") or {}
    sync = told.get("synchronizationStatus") or {}
    urls = (taken.connection or {}).get("spec", {}).get("managementInfo") or {}
    report: dict[str, Any] = {
        "exists": taken.connection is not None,
        "state": told.get("connectionState") or None,
        "runtime": None,
        "tenant": None,
        "connectorUrl": urls.get("connectorUrl") or None,
        "directorUrl": urls.get("directorUrl") or None,
        "established": connection.get("established"),
        "renewed": connection.get("renewed"),
        "lastContact": connection.get("lastSuccess"),
        "connectionError": connection.get("error"),
        "lastSync": sync.get("lastSuccessfulApplication"),
        "lastFetch": sync.get("lastSuccessfulFetch"),
        "syncError": sync.get("error"),
        "applications": told.get("applications"),
        "certificate": None,
        "certificateError": None,
    }
    try:
        credentials = taken.credentials.load()
    except CredentialsError as error:
        report["certificateError"] = str(error)
        return report
    report["certificate"] = {
        "notBefore": cc.timestamp(credentials.not_before),
        "notAfter": cc.timestamp(credentials.not_after),
        "fingerprint": credentials.fingerprint,
    }
    if credentials.connection is not None:
        report["runtime"], report["tenant"] = credentials.connection.runtime_id, credentials.connection.tenant
    return report


def _lines(report: dict[str, Any], now: float) -> list[str]:
    if not report["exists"]:
        rows = [("State", "no CompassConnection: the agent has not run, or cannot create it")]
    else:
        rows = [("State", report["state"] or "not told yet")]
    rows += [
        ("Runtime", report["runtime"] or "unknown"),
        ("Tenant", report["tenant"] or "unknown"),
        ("Connector", report["connectorUrl"] or "unknown"),
        ("Director", report["directorUrl"] or "unknown"),
        ("Paired", _moment(report["established"], now)),
        ("Certificate", _certificate(report, now)),
        ("Renewed", _moment(report["renewed"], now)),
        ("Last contact", _moment(report["lastContact"], now)),
        ("Last sync", _moment(report["lastSync"], now)),
    ]
    counts = report["applications"]
    if counts:
        text = f"{counts.get('synced', 0)} of {counts.get('desired', 0)} as Compass wants them"
        if counts.get("failed"):
            text += f", {counts['failed']} failed: {', '.join(counts.get('failing') or ())}"
        rows.append(("Applications", text))
    rows += [(name, report[key]) for name, key in (("Error", "connectionError"), ("Sync error", "syncError"))]
    return [f"{name + ':':<14}{value}" for name, value in rows if value]


def _certificate(report: dict[str, Any], now: float) -> str:
    certificate = report["certificate"]
    if certificate is None:
        return str(report["certificateError"])
    return f"valid until {_moment(certificate['notAfter'], now)}"


def _moment(text: object, now: float) -> str:
    at = cc.parse_timestamp(text)
    if at is None:
        return "never"
    distance = abs(now - at)
    told = next((f"{distance / size:.0f} {unit}" for unit, size in _UNITS if distance >= 2 * size), f"{distance:.0f} s")
    return f"{text} ({told} ago)" if at <= now else f"{text} (in {told})"
