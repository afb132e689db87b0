"""What the CompassConnection tells: every change of its status, as pure functions on the object.

State and fields are those that operators and tools know from the Go agent. The conditions are derived from them, so the
two can never disagree. Each function changes the dict it is given; `controller.connection.store` writes what differs.

| state | set by |
|---|---|
| Connected | pairing succeeded, or a failed connection works again |
| ConnectionFailed | there are no usable credentials, and pairing does not succeed |
| ConnectionMaintenanceFailed | there are credentials, but the Connector cannot be reached or refuses them |
| SynchronizationFailed | the Director could not be asked |
| ResourceApplicationFailed | at least one Application is not as the Director wants it |
| MetadataUpdateFailed | the labels of the Runtime could not be reported |
| Synchronized | everything is as the Director says |
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from controller.text import clean

_MAX_NAMES_IN_ERROR = 10  # enough to see a pattern, and short enough to read in a terminal
_MAX_NAME = 300  # more than Kubernetes takes as a name; what Compass calls one may be megabytes
_MAX_MESSAGE = 1024  # of a condition or an error: an object in etcd is no log


class State(StrEnum):
    CONNECTED = "Connected"
    CONNECTION_FAILED = "ConnectionFailed"
    CONNECTION_MAINTENANCE_FAILED = "ConnectionMaintenanceFailed"
    SYNCHRONIZATION_FAILED = "SynchronizationFailed"
    RESOURCE_APPLICATION_FAILED = "ResourceApplicationFailed"
    METADATA_UPDATE_FAILED = "MetadataUpdateFailed"
    SYNCHRONIZED = "Synchronized"


CONNECTION_LOST = frozenset({State.CONNECTION_FAILED, State.CONNECTION_MAINTENANCE_FAILED})
"""States of a connection over which no synchronisation may report: their error has to be mended first."""

Object = dict[str, Any]


@dataclass(frozen=True)
class Validity:
    """When a client certificate is valid; epoch seconds."""

    not_before: float
    not_after: float


@dataclass(frozen=True)
class ApplicationCounts:
    """How many Applications the Director wants, and how many of them are as wanted or failed."""

    desired: int
    synced: int
    failed: Mapping[str, str]


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC to the second, as metav1.Time is written."""
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: object) -> float | None:
    """Epoch seconds of a metav1.Time; None for null, absent or unreadable."""
    if not isinstance(text, str):
        return None
    try:
        parsed = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed.timestamp() if parsed.tzinfo else None


def state_of(connection: Mapping[str, Any] | None) -> State | None:
    """The state that a CompassConnection tells; None for none, or one that this agent does not know."""
    try:
        return State(_status(connection).get("connectionState", ""))
    except ValueError:
        return None


def flag(connection: Mapping[str, Any] | None, name: str) -> bool:
    """``spec.resyncNow`` or ``spec.refreshCredentialsNow``."""
    return (connection or {}).get("spec", {}).get(name) is True


def connection_error(connection: Mapping[str, Any] | None) -> str:
    """``status.connectionStatus.error``, "" without one."""
    error = (_status(connection).get("connectionStatus") or {}).get("error")
    return error if isinstance(error, str) else ""


def was_established(connection: Mapping[str, Any] | None) -> bool:
    """Whether pairing ever succeeded for this CompassConnection."""
    return parse_timestamp((_status(connection).get("connectionStatus") or {}).get("established")) is not None


def shorten(text: str) -> str:
    """An error as it is stored."""
    return clean(text, _MAX_MESSAGE)


def paired(connection: Object, *, validity: Validity, runtime_id: str, tenant: str, now: float) -> None:
    """Pairing succeeded: there are new credentials, and all that was said of older ones is void."""
    status = connection.setdefault("status", {})
    status["connectionState"] = State.CONNECTED.value
    status["connectionStatus"] = _connection_status(
        established=now, last_sync=now, last_success=now, renewed=None, acquired=now, validity=validity
    )
    status["runtime"] = {"id": runtime_id, "tenant": tenant}


def connection_failed(connection: Object, error: str, *, now: float) -> None:
    """There are no usable credentials and pairing failed with ``error``."""
    _connection_problem(connection, State.CONNECTION_FAILED, error, now)


def maintenance_failed(connection: Object, error: str, *, now: float) -> None:
    """The credentials could not be used or renewed just now."""
    _connection_problem(
        connection,
        State.CONNECTION_MAINTENANCE_FAILED,
        f"Error while trying to maintain connection: {error}",
        now,
    )


def maintained(connection: Object, *, now: float) -> None:
    """The Connector accepted the credentials."""
    part = _connection_part(connection)
    part["lastSync"] = part["lastSuccess"] = timestamp(now)
    part.pop("error", None)
    status = connection["status"]
    if state_of(connection) in (None, *CONNECTION_LOST):
        status["connectionState"] = State.CONNECTED.value


def renewed(connection: Object, *, validity: Validity, now: float) -> None:
    """The certificate was replaced by a fresh one."""
    maintained(connection, now=now)
    part = _connection_part(connection)
    part["renewed"] = timestamp(now)
    part["certificateStatus"] = _certificate_status(now, validity)


def describe_runtime(connection: Object, *, runtime_id: str, tenant: str) -> None:
    """Tell which Runtime this is, for operators."""
    connection.setdefault("status", {})["runtime"] = {"id": runtime_id, "tenant": tenant}


def certificate_known(connection: Object, *, validity: Validity) -> None:
    """Make the certificate's dates those of the certificate, should someone have edited or wiped them."""
    part = _connection_part(connection)
    known = part.setdefault("certificateStatus", _certificate_status(None, None))
    known["notBefore"], known["notAfter"] = timestamp(validity.not_before), timestamp(validity.not_after)
    known.setdefault("acquired", None)


def sync_failed(connection: Object, error: str, *, now: float) -> None:
    """The Director could not be asked; the last successes stay known."""
    part = _synchronization_part(connection)
    part["lastAttempt"] = timestamp(now)
    part["error"] = shorten(error)
    _set_sync_state(connection, State.SYNCHRONIZATION_FAILED)


def synchronized(
    connection: Object,
    *,
    fetched_at: float,
    now: float,
    counts: ApplicationCounts,
    apply_error: str | None,
    labels_error: str | None,
) -> None:
    """A fetch was carried out, wholly or with errors. A label error is told only when all Applications are right."""
    part = _synchronization_part(connection)
    part["lastAttempt"] = part["lastSuccessfulFetch"] = timestamp(fetched_at)
    connection["status"]["applications"] = {
        "desired": counts.desired,
        "synced": counts.synced,
        "failed": len(counts.failed),
        "failing": [clean(name, _MAX_NAME) for name in sorted(counts.failed)[:_MAX_NAMES_IN_ERROR]],
    }
    if apply_error:
        state, error = State.RESOURCE_APPLICATION_FAILED, f"Failed to apply configuration: {apply_error}"
    elif labels_error:
        state = State.METADATA_UPDATE_FAILED
        error = f"Failed to reconcile Runtime labels with proper URLs: {labels_error}"
    else:
        state, error = State.SYNCHRONIZED, ""
    if error:
        part["error"] = shorten(error)
        part["lastSuccessfulApplication"] = None
    else:
        part.pop("error", None)
        part["lastSuccessfulApplication"] = timestamp(now)
    _set_sync_state(connection, state)


def failures_text(failed: Mapping[str, str]) -> str:
    """Up to ten failing Applications with their errors, and how many more there are."""
    names = sorted(failed)
    shown = "; ".join(f"{clean(name, _MAX_NAME)}: {shorten(failed[name])}" for name in names[:_MAX_NAMES_IN_ERROR])
    more = len(names) - _MAX_NAMES_IN_ERROR
    return f"{shown}; and {more} more" if more > 0 else shown


def derive_conditions(connection: Object, *, now: float) -> None:
    """Conditions and observedGeneration from the state, so that ``kubectl wait --for=condition=Ready`` works."""
    status = connection.setdefault("status", {})
    state = state_of(connection)
    sync_error = (status.get("synchronizationStatus") or {}).get("error", "")
    connection_error = (status.get("connectionStatus") or {}).get("error", "")
    if state in CONNECTION_LOST:
        connected, synced = ("False", connection_error), ("Unknown", connection_error)
        connected_reason = synced_reason = state.value
    elif state is State.SYNCHRONIZED:
        connected, synced = ("True", ""), ("True", "")
        connected_reason, synced_reason = "Connected", state.value
    elif state is State.CONNECTED or state is None:
        known = "Unknown" if state is None else "True"
        connected, synced = (known, ""), ("Unknown", "waiting for the first answer of the Director")
        connected_reason, synced_reason = "Connected" if state else "Pending", "Pending"
    else:
        connected, synced = ("True", ""), ("False", sync_error)
        connected_reason, synced_reason = "Connected", state.value
    ready = "True" if connected[0] == synced[0] == "True" else "False"
    ready_message = connected[1] if connected[0] != "True" else synced[1]
    ready_reason = (state.value if state else "Pending") if ready == "False" else "Ready"
    status["conditions"] = _merged_conditions(
        status.get("conditions"),
        [
            ("Ready", ready, ready_reason, ready_message),
            ("Connected", connected[0], connected_reason, connected[1]),
            ("Synchronized", synced[0], synced_reason, synced[1]),
        ],
        generation=connection.get("metadata", {}).get("generation", 0),
        now=now,
    )
    status["observedGeneration"] = connection.get("metadata", {}).get("generation", 0)


def drop_additions(connection: Object) -> None:
    """Leave out what the CRD of the Go agent would prune, so that what is compared is what can be stored."""
    status = connection.get("status", {})
    for name in ("conditions", "observedGeneration", "runtime", "applications"):
        status.pop(name, None)


def _merged_conditions(
    present: object, wanted: list[tuple[str, str, str, str]], *, generation: int, now: float
) -> list[Object]:
    conditions = [dict(c) for c in present if isinstance(c, Mapping)] if isinstance(present, list) else []
    by_type = {condition.get("type"): condition for condition in conditions}
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


def _connection_problem(connection: Object, state: State, error: str, now: float) -> None:
    part = _connection_part(connection)
    part["lastSync"] = timestamp(now)
    part["error"] = shorten(error)
    connection["status"]["connectionState"] = state.value


def _set_sync_state(connection: Object, state: State) -> None:
    if state_of(connection) not in CONNECTION_LOST:
        connection["status"]["connectionState"] = state.value


def _status(connection: Mapping[str, Any] | None) -> Mapping[str, Any]:
    status = (connection or {}).get("status")
    return status if isinstance(status, Mapping) else {}


def _connection_part(connection: Object) -> Object:
    part: Object | None = connection.setdefault("status", {}).get("connectionStatus")
    if not isinstance(part, dict):
        part = _connection_status(
            established=None, last_sync=None, last_success=None, renewed=None, acquired=None, validity=None
        )
        connection["status"]["connectionStatus"] = part
    return part


def _synchronization_part(connection: Object) -> Object:
    status = connection.setdefault("status", {})
    part: Object | None = status.get("synchronizationStatus")
    if not isinstance(part, dict):
        part = {"lastAttempt": None, "lastSuccessfulFetch": None, "lastSuccessfulApplication": None}
        status["synchronizationStatus"] = part
    return part


def _connection_status(
    *,
    established: float | None,
    last_sync: float | None,
    last_success: float | None,
    renewed: float | None,
    acquired: float | None,
    validity: Validity | None,
) -> Object:
    return {
        "certificateStatus": _certificate_status(acquired, validity),
        "established": _optional(established),
        "lastSuccess": _optional(last_success),
        "lastSync": _optional(last_sync),
        "renewed": _optional(renewed),
    }


def _certificate_status(acquired: float | None, validity: Validity | None) -> Object:
    return {
        "acquired": _optional(acquired),
        "notAfter": _optional(validity.not_after if validity else None),
        "notBefore": _optional(validity.not_before if validity else None),
    }


def _optional(seconds: float | None) -> str | None:
    return None if seconds is None else timestamp(seconds)
