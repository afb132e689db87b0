"""Everything the mock Compass knows: who may connect, which Applications they see, what was asked. Memory, no I/O.

All methods may be called from any thread; each is one atomic change. Application records are replaced, never changed
in place, so a reader may keep what it got.
"""

import secrets
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from e2e.mock_compass import records

TOKEN_LIFETIME = 3600.0  # seconds, of the tokens that the Director gives for Runtimes

_LABELS = {"isNormalized": "true", "runtimeType": "kyma", "scenarios": ["mock-formation"]}
_KEPT = 100_000  # requests; a long demo or benchmark must not grow without bound


class UnknownError(KeyError):
    """There is no object with that id."""

    def __init__(self, kind: str, identifier: str) -> None:
        super().__init__(identifier)
        self._text = f"there is no {kind} {identifier}"

    def __str__(self) -> str:
        return self._text


@dataclass
class Runtime:
    id: str
    tenant: str
    labels: dict[str, Any]
    applications: set[str] = field(default_factory=set)  # ids of those in a formation with this Runtime


@dataclass(frozen=True)
class IssuedCertificate:
    fingerprint: str  # hex SHA-256 of the DER
    client_id: str
    not_before: float
    not_after: float


@dataclass(frozen=True)
class _Token:
    client_id: str
    expires_at: float


class State:
    """`clock` gives the time in seconds since the epoch; tokens expire by it."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._lock = threading.RLock()
        self._runtimes: dict[str, Runtime] = {}
        self._clients: dict[str, str] = {}  # system-auth id (the CN of certificates) -> runtime id
        self._tokens: dict[str, _Token] = {}  # only those not spent yet
        self._certificates: dict[str, IssuedCertificate] = {}
        self._revoked: set[str] = set()
        self._applications: dict[str, dict[str, Any]] = {}
        self._assigned: dict[str, list[dict[str, Any]]] = {}  # what applications_of() gave, until anything changes

    # --- Runtimes ---

    def has_tenant(self, tenant: str) -> bool:
        with self._lock:
            return any(runtime.tenant == tenant for runtime in self._runtimes.values())

    def register_runtime(self, *, tenant: str, runtime_id: str | None = None) -> str:
        """Registers a Runtime and gives its id."""
        with self._lock:
            runtime_id = runtime_id or str(uuid.uuid4())
            self._assigned.pop(runtime_id, None)  # registering an id again starts afresh
            self._runtimes[runtime_id] = Runtime(id=runtime_id, tenant=tenant, labels=dict(_LABELS))
            return runtime_id

    def runtime(self, runtime_id: str) -> Runtime | None:
        with self._lock:
            return self._runtimes.get(runtime_id)

    def runtimes(self) -> list[Runtime]:
        with self._lock:
            return list(self._runtimes.values())

    def set_runtime_label(self, runtime_id: str, key: str, value: Any) -> None:
        with self._lock:
            runtime = self._runtime_locked(runtime_id)
            runtime.labels = {**runtime.labels, key: value}

    def _runtime_locked(self, runtime_id: str) -> Runtime:
        try:
            return self._runtimes[runtime_id]
        except KeyError:
            raise UnknownError("Runtime", runtime_id) from None

    # --- tokens, clients, certificates ---

    def issue_token(self, runtime_id: str, *, lifetime: float = TOKEN_LIFETIME) -> str:
        """A one-time token of the Director. Each makes a new system auth, hence a new CN."""
        with self._lock:
            self._runtime_locked(runtime_id)
            client_id = str(uuid.uuid4())
            self._clients[client_id] = runtime_id
            return self.issue_token_for_client(client_id, lifetime=lifetime)

    def issue_token_for_client(self, client_id: str, *, lifetime: float = TOKEN_LIFETIME) -> str:
        """A one-time token of the Connector, for a client that has just proved who it is."""
        with self._lock:
            token = secrets.token_urlsafe(32)
            self._tokens[token] = _Token(client_id, self.clock() + lifetime)
            return token

    def spend_token(self, token: str) -> str | None:
        """The client id of the token, which no longer works from now on; None if it is unknown, used or expired."""
        with self._lock:
            found = self._tokens.pop(token, None)
            if found is None or self.clock() >= found.expires_at:
                return None
            return found.client_id

    def expire_tokens(self) -> None:
        """Every token given out so far stops working."""
        with self._lock:
            self._tokens.clear()

    def runtime_of_client(self, client_id: str) -> Runtime | None:
        with self._lock:
            return self._runtimes.get(self._clients.get(client_id, ""))

    def record_certificate(self, certificate: IssuedCertificate) -> None:
        with self._lock:
            self._certificates[certificate.fingerprint] = certificate

    def certificates(self, runtime_id: str | None = None) -> list[IssuedCertificate]:
        """In the order of issue; those of one Runtime if it is given."""
        with self._lock:
            return [
                certificate
                for certificate in self._certificates.values()
                if runtime_id is None or self._clients.get(certificate.client_id) == runtime_id
            ]

    def revoke(self, fingerprint: str) -> None:
        with self._lock:
            self._revoked.add(fingerprint)

    def revoke_all(self, runtime_id: str) -> int:
        """Revokes every certificate issued to the Runtime so far and says how many they are."""
        with self._lock:
            found = self.certificates(runtime_id)
            self._revoked.update(certificate.fingerprint for certificate in found)
            return len(found)

    def is_revoked(self, fingerprint: str) -> bool:
        with self._lock:
            return fingerprint in self._revoked

    # --- Applications and formations ---

    def put_application(self, application: dict[str, Any], *, assign_to: Iterable[str] = ()) -> dict[str, Any]:
        """Adds an Application (shape: records.py) or replaces the one of that id. Raises RecordError."""
        record = records.application(application)
        with self._lock:
            self._assigned.clear()
            self._applications[record["id"]] = record
            for runtime_id in assign_to:
                self._runtime_locked(runtime_id).applications.add(record["id"])
            return record

    def change_application(self, application_id: str, changes: dict[str, Any]) -> dict[str, Any]:
        """Replaces the given top-level fields of an Application."""
        with self._lock:
            return self.put_application({**self._application_locked(application_id), **changes, "id": application_id})

    def remove_application(self, application_id: str) -> None:
        with self._lock:
            self._application_locked(application_id)
            self._assigned.clear()
            del self._applications[application_id]
            for runtime in self._runtimes.values():
                runtime.applications.discard(application_id)

    def remove_all_applications(self) -> None:
        with self._lock:
            self._assigned.clear()
            self._applications.clear()
            for runtime in self._runtimes.values():
                runtime.applications.clear()

    def unassign(self, application_id: str, runtime_id: str) -> None:
        with self._lock:
            self._runtime_locked(runtime_id).applications.discard(application_id)
            self._assigned.pop(runtime_id, None)

    def is_assigned(self, application_id: str, runtime_id: str) -> bool:
        with self._lock:
            runtime = self._runtimes.get(runtime_id)
            return runtime is not None and application_id in runtime.applications

    def application(self, application_id: str) -> dict[str, Any] | None:
        with self._lock:
            return self._applications.get(application_id)

    def applications(self) -> list[dict[str, Any]]:
        """All of them, ordered by id."""
        with self._lock:
            return [self._applications[key] for key in sorted(self._applications)]

    def applications_of(self, runtime_id: str) -> list[dict[str, Any]]:
        """Those assigned to the Runtime, ordered by id as the Director pages them. The list must not be changed."""
        with self._lock:
            runtime = self._runtime_locked(runtime_id)
            if runtime_id not in self._assigned:
                self._assigned[runtime_id] = [self._applications[key] for key in sorted(runtime.applications)]
            return self._assigned[runtime_id]

    def _application_locked(self, application_id: str) -> dict[str, Any]:
        try:
            return self._applications[application_id]
        except KeyError:
            raise UnknownError("Application", application_id) from None


@dataclass(frozen=True)
class LoggedRequest:
    """One answered request. `operation`: the root fields, joined by a comma, or "invalid"; `outcome`: see below.

    ok             HTTP 200 without errors
    errors         HTTP 200 with errors
    refused        another HTTP status that the protocol gives
    outage:<name>  something else is down
    fault:<kind>   an injected fault decided the answer
    """

    time: float
    target: str
    operation: str
    request_id: str | None
    status: int
    outcome: str


class RequestLog:
    """Which requests came, without any secret: no bodies, no variables, no header but x-request-id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: deque[LoggedRequest] = deque(maxlen=_KEPT)

    def record(self, request: web.BaseRequest, *, target: str, operation: str, status: int, outcome: str) -> None:
        operation = operation or "invalid"
        request_id = request.headers.get("x-request-id")
        with self._lock:
            self._requests.append(LoggedRequest(time.time(), target, operation, request_id, status, outcome))

    def all(self) -> list[LoggedRequest]:
        with self._lock:
            return list(self._requests)

    def count(self, target: str | None = None, operation: str | None = None) -> int:
        """How many of those that are kept were for a target and with a root field."""
        return sum(
            target in (None, request.target) and (operation is None or operation in request.operation.split(","))
            for request in self.all()
        )

    def clear(self) -> None:
        with self._lock:
            self._requests.clear()
