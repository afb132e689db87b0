"""The changes of a CompassConnection's status, as functions that change an object in memory.

State and fields are those of the Go agent, which operators and tools know. The conditions are derived from them, so
they always agree. `controller.connection.store` writes the difference.

| state | set by |
|---|---|
| Connected | pairing succeeded, or a failed connection works again |
| ConnectionFailed | there are no usable credentials and pairing fails, or they are those of another Runtime |
| ConnectionMaintenanceFailed | Compass refuses the credentials or cannot be reached, or a requested pairing fails |
| SynchronizationFailed | the Director could not be asked |
| ResourceApplicationFailed | at least one Application is not as the Director wants it |
| MetadataUpdateFailed | the labels of the Runtime could not be reported |
| Synchronized | all Applications are in sync with the Director |
"""

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from controller import fields
from controller.text import clean

_MAX_NAMES_IN_ERROR = 10  # enough to see a pattern, and short enough to read in a terminal
_MAX_NAME = 300  # more than Kubernetes takes as a name; what Compass calls one may be megabytes
_MAX_IN_COLUMN = 80  # of a message in the list of kubectl get
_WHERE = re.compile(r"(?:(?:Failed|Error while trying) to [a-zA-Z ]*: )?(?:x-request-id: \S* failed: )?")
"""What the texts of the Go agent have before the cause. A column has no room for it."""
_SAME_MOMENT_SECONDS = 2.0
_MAX_MESSAGE = 1024  # of a condition or an error: an object in etcd is no log


class ConnectionState(StrEnum):
    CONNECTED = "Connected"
    CONNECTION_FAILED = "ConnectionFailed"
    CONNECTION_MAINTENANCE_FAILED = "ConnectionMaintenanceFailed"
    SYNCHRONIZATION_FAILED = "SynchronizationFailed"
    RESOURCE_APPLICATION_FAILED = "ResourceApplicationFailed"
    METADATA_UPDATE_FAILED = "MetadataUpdateFailed"
    SYNCHRONIZED = "Synchronized"


_MISSING_PERMISSIONS = "Missing permissions since "

FAILED_CONNECTION_STATES = frozenset({ConnectionState.CONNECTION_FAILED, ConnectionState.CONNECTION_MAINTENANCE_FAILED})
"""A sync must not overwrite these: the error of the connection takes precedence."""

Object = dict[str, Any]


@dataclass(frozen=True)
class ApplicationCounts:
    """Numbers of Applications that the Director assigns and that are in sync, and errors of the failed ones by name."""

    desired: int
    synced: int
    failed: Mapping[str, str]


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC to the second, as metav1.Time is written."""
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(seconds: float) -> str:
    """A duration for people, rounded down to one unit."""
    whole = int(abs(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def parse_timestamp(text: object) -> float | None:
    """Epoch seconds of a metav1.Time; None for null, absent or unreadable."""
    if not isinstance(text, str):
        return None
    try:
        parsed = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed.timestamp() if parsed.tzinfo else None


def state_of(connection: Mapping[str, Any] | None) -> ConnectionState | None:
    """The state of a CompassConnection; None if it has none, or one that this agent does not know."""
    try:
        return ConnectionState(_status(connection).get("connectionState", ""))
    except ValueError:
        return None


def flag(connection: Mapping[str, Any] | None, name: str) -> bool:
    """`spec.resyncNow` or `spec.refreshCredentialsNow`."""
    return connection is not None and fields.spec(connection).get(name) is True


def connection_error(connection: Mapping[str, Any] | None) -> str:
    """`status.connectionStatus.error`, "" without one."""
    error = (_status(connection).get("connectionStatus") or {}).get("error")
    return error if isinstance(error, str) else ""


def was_established(connection: Mapping[str, Any] | None) -> bool:
    """Whether pairing ever succeeded for this CompassConnection."""
    return parse_timestamp((_status(connection).get("connectionStatus") or {}).get("established")) is not None


def shorten(text: str) -> str:
    """An error as it is stored."""
    return clean(text, _MAX_MESSAGE)


def connection_part(connection: Object) -> Object:
    """`status.connectionStatus`, for changes; it is created if there is none."""
    part: Object | None = connection.setdefault("status", {}).get("connectionStatus")
    if not isinstance(part, dict):
        part = _connection_status(established=None, last_success=None)
        connection["status"]["connectionStatus"] = part
    return part


def set_established(connection: Object, *, at: float, last_success: float | None) -> None:
    """Begin a status for credentials that were paired `at` that time: drop the part of the connection of earlier ones.

    `last_success`: when the Connector accepted them, None if it is not known.
    """
    status = connection.setdefault("status", {})
    status["connectionState"] = ConnectionState.CONNECTED.value
    status["connectionStatus"] = _connection_status(established=at, last_success=last_success)
    if isinstance(status.get("synchronizationStatus"), dict):
        status["synchronizationStatus"].pop("error", None)


def set_failed(connection: Object, state: ConnectionState, error: str, *, now: float) -> None:
    """The connection is lost, or may be lost, for the reason in `error`."""
    part = connection_part(connection)
    part["lastSync"] = timestamp(now)  # the last check of the connection; the name is that of the Go agent
    part["error"] = shorten(error)
    connection["status"]["connectionState"] = state.value


def set_works(connection: Object, *, state: ConnectionState, now: float) -> None:
    """The connection works again; `state` is the result of the last sync."""
    part = connection_part(connection)
    part["lastSync"] = part["lastSuccess"] = timestamp(now)
    part.pop("error", None)
    connection["status"]["connectionState"] = state.value


def set_contacted(connection: Object, *, at: float) -> None:
    """Record the time at which the Connector accepted the certificate."""
    part = connection_part(connection)
    part["lastSync"] = part["lastSuccess"] = timestamp(at)


def management_info(*, connector_url: str, director_url: str) -> Object:
    """`spec.managementInfo`: the URLs of Compass."""
    return {"connectorUrl": connector_url, "directorUrl": director_url}


def set_sync_failed(connection: Object, error: str, *, now: float) -> None:
    """Record that the fetch from the Director failed; the times of the last successes stay."""
    part = _synchronization_part(connection)
    part["lastAttempt"] = timestamp(now)
    part["error"] = shorten(error)
    _set_sync_state(connection, ConnectionState.SYNCHRONIZATION_FAILED)


def set_synchronized(
    connection: Object,
    *,
    fetched_at: float,
    now: float,
    counts: ApplicationCounts,
    apply_error: str | None,
    labels_error: str | None,
) -> ConnectionState:
    """Record the results of a fetch. An error of the labels is written only if all Applications are in sync.

    Returns the resulting state, also if the state of a lost connection hides it.
    """
    part = _synchronization_part(connection)
    part["lastAttempt"] = part["lastSuccessfulFetch"] = timestamp(fetched_at)
    connection["status"]["applications"] = {
        "desired": counts.desired,
        "synced": counts.synced,
        "failed": len(counts.failed),
        "failing": [clean(name, _MAX_NAME) for name in sorted(counts.failed)[:_MAX_NAMES_IN_ERROR]],
    }
    if apply_error:
        state, error = ConnectionState.RESOURCE_APPLICATION_FAILED, f"Failed to apply configuration: {apply_error}"
    elif labels_error:
        state = ConnectionState.METADATA_UPDATE_FAILED
        error = f"Failed to reconcile Runtime labels with proper URLs: {labels_error}"
    else:
        state, error = ConnectionState.SYNCHRONIZED, ""
    if error:
        part["error"] = shorten(error)
    else:
        part.pop("error", None)
        part["lastSuccessfulApplication"] = timestamp(now)
    _set_sync_state(connection, state)
    return state


def set_permissions_missing(connection: Object, text: str, *, since: str) -> None:
    """The agent lacks permissions. This takes precedence over other errors of the sync."""
    connection_part(connection)  # the CRD of the Go agent has no status without it
    _synchronization_part(connection)["error"] = shorten(f"{_MISSING_PERMISSIONS}{since}: {text}")
    if state_of(connection) is not None:  # a state of the sync would say that it is connected
        _set_sync_state(connection, ConnectionState.SYNCHRONIZATION_FAILED)


def reports_missing_permissions(connection: Mapping[str, Any]) -> bool:
    """Whether there is a report of `set_permissions_missing`."""
    error = fields.member(_status(connection), "synchronizationStatus").get("error")
    return str(error).startswith(_MISSING_PERMISSIONS)


def clear_permissions_missing(connection: Object) -> None:
    """Remove the report of missing permissions, and start a sync. No effect if there is no such report."""
    if not reports_missing_permissions(connection):
        return
    del _synchronization_part(connection)["error"]
    if state_of(connection) is not None:
        _set_sync_state(connection, ConnectionState.CONNECTED)
    connection["spec"]["resyncNow"] = True


def failures_text(failed: Mapping[str, str]) -> str:
    """Up to ten failing Applications with their errors, and the number of others."""
    names = sorted(failed)
    shown = "; ".join(f"{clean(name, _MAX_NAME)}: {shorten(failed[name])}" for name in names[:_MAX_NAMES_IN_ERROR])
    more = len(names) - _MAX_NAMES_IN_ERROR
    return f"{shown}; and {more} more" if more > 0 else shown


_Truth = Literal["True", "False", "Unknown"]

_CONDITIONS: Mapping[ConnectionState | None, tuple[_Truth, _Truth]] = {
    # state: (Connected, Synchronized); Ready is true when both are
    None: ("Unknown", "Unknown"),
    ConnectionState.CONNECTION_FAILED: ("False", "Unknown"),
    ConnectionState.CONNECTION_MAINTENANCE_FAILED: ("False", "Unknown"),
    ConnectionState.CONNECTED: ("True", "Unknown"),
    ConnectionState.SYNCHRONIZATION_FAILED: ("True", "False"),
    ConnectionState.RESOURCE_APPLICATION_FAILED: ("True", "False"),
    ConnectionState.METADATA_UPDATE_FAILED: ("True", "False"),
    ConnectionState.SYNCHRONIZED: ("True", "True"),
}

_PENDING = "Pending"


class Lasting(StrEnum):
    """Problems that last. Each is a condition only while it is true, and a restart finds in it since when that is."""

    CERTIFICATE_REFUSED = "CertificateRefused"
    PAIRING_FAILING = "PairingFailing"


@dataclass(frozen=True)
class LastingCondition:
    """`subject`: what it is about, so that it does not apply to another certificate or token. `since`: in epoch
    seconds.
    """

    subject: str
    reason: str
    text: str
    since: float


def write_lasting(connection: Object, kind: Lasting, lasting: LastingCondition | None) -> None:
    """Write the condition; None: remove it."""
    known = read_lasting(connection, kind)
    status = connection.setdefault("status", {})
    if "conditions" in status:
        status["conditions"] = [c for c in _conditions_of(status) if c["type"] != kind]
    if lasting is None:
        return
    since = lasting.since
    if known is not None and known.subject == lasting.subject and abs(known.since - since) < _SAME_MOMENT_SECONDS:
        since = known.since  # one of the two times was rounded
    status.setdefault("conditions", []).append(
        {
            "type": kind.value,
            "status": "True",
            "reason": lasting.reason,
            "message": shorten(f"{lasting.subject}: {lasting.text}"),
            "lastTransitionTime": timestamp(since),
        }
    )


def read_lasting(connection: Mapping[str, Any] | None, kind: Lasting) -> LastingCondition | None:
    """The condition; None if it is not true."""
    for condition in _conditions_of(_status(connection)):
        since = parse_timestamp(condition.get("lastTransitionTime"))
        if condition["type"] == kind and since is not None:
            subject, _, text = str(condition.get("message")).partition(": ")
            return LastingCondition(subject, str(condition.get("reason")), text, since)
    return None


def derive_conditions(connection: Object, *, now: float) -> None:
    """Conditions, observedGeneration and summary from the state, so that `kubectl wait --for=condition=Ready` works."""
    status = connection.setdefault("status", {})
    state = state_of(connection)
    connection_part = status.get("connectionStatus") or {}
    error = connection_part.get("error", "")
    sync_error = (status.get("synchronizationStatus") or {}).get("error", "")
    connected, synchronized = _CONDITIONS[state]
    lost = state in FAILED_CONNECTION_STATES
    reason = state.value if state is not None else _PENDING
    connected_reason = reason if lost or state is None else ConnectionState.CONNECTED.value
    if lost:
        synchronized_reason, synchronized_message = reason, error
    elif synchronized == "Unknown":
        synchronized_reason, synchronized_message = (
            _PENDING,
            sync_error or "Waiting for the first answer of the Director",
        )
    else:
        synchronized_reason, synchronized_message = reason, "" if synchronized == "True" else sync_error
    ready = connected == synchronized == "True"
    generation = connection.get("metadata", {}).get("generation", 0)
    status["conditions"] = _merged_conditions(
        _conditions_of(status),
        [
            ("Ready", "True" if ready else "False", "Ready" if ready else reason, synchronized_message),
            ("Connected", connected, connected_reason, error if lost else connection_part.get("warning", "")),
            ("Synchronized", synchronized, synchronized_reason, synchronized_message),
        ],
        generation=generation,
        now=now,
    )
    status["observedGeneration"] = generation
    status["summary"] = {"message": clean(_WHERE.sub("", synchronized_message, count=1), _MAX_IN_COLUMN)}
    if isinstance(counts := status.get("applications"), dict):
        status["summary"]["applications"] = clean(
            f"{counts.get('synced', 0)}/{counts.get('desired', 0)}", _MAX_IN_COLUMN
        )


def drop_additions(connection: Object) -> None:
    """Remove all fields that the CRD of the Go agent would prune, so that only storable fields are compared."""
    status = connection.get("status", {})
    for name in ("conditions", "observedGeneration", "runtime", "applications", "summary"):
        status.pop(name, None)
    part = status.get("connectionStatus")
    if isinstance(part, dict):
        part.pop("warning", None)


def _merged_conditions(
    present: Sequence[Mapping[str, Any]], wanted: list[tuple[str, str, str, str]], *, generation: int, now: float
) -> list[Object]:
    conditions = [dict(condition) for condition in present]
    by_type = {condition["type"]: condition for condition in conditions}
    for kind, status, reason, message in wanted:
        condition = by_type.get(kind)
        if condition is None:
            condition = {"type": kind}
            conditions.append(condition)
        if condition.get("status") != status:
            condition["lastTransitionTime"] = timestamp(now)
        condition |= {
            "status": status,
            "reason": reason,
            "message": shorten(message),
            "observedGeneration": generation,
        }
    return conditions


def _conditions_of(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    present = status.get("conditions")
    known = [c for c in present if isinstance(c, Mapping)] if isinstance(present, list) else []
    return [c for c in known if isinstance(c.get("type"), str)]


def _set_sync_state(connection: Object, state: ConnectionState) -> None:
    if state_of(connection) not in FAILED_CONNECTION_STATES:
        connection["status"]["connectionState"] = state.value


def _status(connection: Mapping[str, Any] | None) -> Mapping[str, Any]:
    status = (connection or {}).get("status")
    return status if isinstance(status, Mapping) else {}


def _synchronization_part(connection: Object) -> Object:
    status = connection.setdefault("status", {})
    part: Object | None = status.get("synchronizationStatus")
    if not isinstance(part, dict):
        part = {"lastAttempt": None, "lastSuccessfulFetch": None, "lastSuccessfulApplication": None}
        status["synchronizationStatus"] = part
    return part


def _connection_status(*, established: float | None, last_success: float | None) -> Object:
    return {
        "certificateStatus": {},
        "established": _optional(established),
        "lastSuccess": _optional(last_success),
        "lastSync": _optional(last_success),
        "renewed": None,
    }


def _optional(seconds: float | None) -> str | None:
    return None if seconds is None else timestamp(seconds)
