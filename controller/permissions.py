"""The permissions that the agent lacks: requests of its own that the API server refuses, in the text of that server.

A refusal counts when it was repeated: an API server that starts refuses requests until it has read the roles. It lasts
until the same request succeeds, or until it was not repeated for longer than any retry waits. While one lasts, the Pod
is not ready, and the CompassConnection shows it. The list of the permissions that the work needs is in
`controller.commands.permission_review`, for the command `doctor`.
"""

import logging
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from controller.connection import status
from controller.connection.store import ConnectionStore
from controller.resources import APPLY_RELEASE, CONNECTION_NAME
from informers import ApiError, Forbidden
from workqueue import Clock

log = logging.getLogger(__name__)

_PERMISSION = re.compile(r'cannot \S+ resource "([^"]+)".*', re.DOTALL)
"""A missing permission. Quotas and admission plug-ins refuse with the same HTTP status, and another text."""

_OPTIONAL = frozenset({"events", "nodes", "persistentvolumes"})
"""For Events and for the log line with cluster metrics. The agent does all other work without them."""

_AUTHORIZED = frozenset({400, 403, 404, 409, 410, 422})
"""HTTP statuses of requests that pass the check of permissions. 403 can be that of a quota or an admission plug-in."""

LONGEST_RETRY_SECONDS = 300.0
"""The longest delay between retries of a failed key, in each controller, and without its jitter."""

_LASTS_SECONDS = 2 * LONGEST_RETRY_SECONDS
_COUNTS_AFTER_SECONDS = 5.0  # between the first and the latest; back-offs begin with less
_PERIOD_SECONDS = 5.0  # of the report
_FIRST_REFUSALS_SECONDS = 60.0
"""A leader without a refusal in this time lacks no permission: no informer waits longer between two requests."""

_MAX_NAMES = 3

Object = dict[str, Any]


class PermissionsMissing(Exception):
    """The agent cannot do all its work."""


@dataclass(frozen=True)
class MissingPermission:
    """A request that the API server refuses, in its text. `name`: that of the object, or the first ones of several; ""
    if the request is not for one object. Times in epoch seconds.
    """

    text: str
    name: str
    first: float
    latest: float

    def __str__(self) -> str:
        return f"{self.text} ({self.name})" if self.name else self.text


class Permissions:
    """The permissions that are missing. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._refusals: dict[tuple[str, ...], MissingPermission] = {}  # guarded by _lock

    def answered(self, method: str, url: str, error: ApiError | None) -> None:
        """The API server has answered a request. `error`: None for a success."""
        match = _PERMISSION.search(error.message) if isinstance(error, Forbidden) else None
        if error is None or match is None:
            if self._refusals and (error is None or error.status in _AUTHORIZED):
                method, path, _, *selectors = request = _request(method, url)
                with self._lock:
                    self._refusals.pop(request, None)
                    self._refusals.pop((method, path, "", *selectors), None)  # a watch can replace the list
            return
        if match[1] in _OPTIONAL:
            return
        request, now = _request(method, url), self._clock.time()
        with self._lock:
            earlier = self._refusals.get(request)
            first = earlier.first if earlier is not None else now
            self._refusals[request] = MissingPermission(match[0], _name_in(request, error), first, now)

    def missing(self) -> tuple[MissingPermission, ...]:
        """One for each permission, in the order of their texts."""
        groups: dict[str, list[MissingPermission]] = defaultdict(list)
        now = self._clock.time()
        with self._lock:
            self._refusals = {k: r for k, r in self._refusals.items() if abs(now - r.latest) < _LASTS_SECONDS}
            for refusal in self._refusals.values():
                if refusal.latest - refusal.first >= _COUNTS_AFTER_SECONDS:
                    groups[refusal.text].append(refusal)
        return tuple(
            MissingPermission(
                text,
                ", ".join(sorted({r.name for r in refusals if r.name})[:_MAX_NAMES]),
                first=min(r.first for r in refusals),
                latest=max(r.latest for r in refusals),
            )
            for text, refusals in sorted(groups.items())
        )

    def check(self) -> None:
        """A readiness check. Raises PermissionsMissing."""
        if missing := self.missing():
            raise PermissionsMissing(f"the ServiceAccount of the agent {_with_times(missing)}; {APPLY_RELEASE}")

    def overlay(self, connection: Object) -> None:
        """Keep the report of missing permissions in the CompassConnection during other writes."""
        if missing := self.missing():
            since = status.timestamp(min(refusal.first for refusal in missing))
            status.set_permissions_missing(connection, f"{'; '.join(map(str, missing))}; {APPLY_RELEASE}", since=since)


class Report:
    """Logs changes, and writes them to the CompassConnection, if there is one.

    Each replica does this, not only the leader: without permissions, there may be no leader and no filled cache. Only
    the leader removes a report, also that of another process: the others do not send the requests that were refused.
    """

    def __init__(
        self, permissions: Permissions, connections: ConnectionStore, *, clock: Clock, leads: Callable[[], bool]
    ) -> None:
        """`connections` with Permissions.overlay."""
        self._permissions = permissions
        self._connections = connections
        self._clock = clock
        self._leads = leads
        self._leads_since: float | None = None
        self._logged: tuple[str, ...] = ()
        self._written: tuple[str, ...] = ()
        self._error = ""  # of the last write

    def run(self, stop: threading.Event) -> None:
        """Blocks until stop is set."""
        while not self._clock.sleep(_PERIOD_SECONDS, stop):
            self.once()

    def once(self) -> None:
        missing = self._permissions.missing()
        texts = tuple(map(str, missing))
        if texts != self._logged:
            if missing:
                log.error("Permissions are missing", extra={"error": _with_times(missing), "cure": APPLY_RELEASE})
            else:
                log.info("No request is refused any more")
            self._logged = texts
        is_due = texts != self._written if texts else self._knows_that_none_is_missing()
        if is_due:
            try:
                self._write(texts)
            except ApiError as error:
                if str(error) != self._error:
                    log.warning("Cannot write the missing permissions to the status", extra={"error": str(error)})
                self._error = str(error)
            else:
                self._written, self._error = texts, ""

    def _knows_that_none_is_missing(self) -> bool:
        """Whether the report can be removed: at once if this process wrote it, else after leading for a while."""
        now = self._clock.monotonic()
        if not self._leads():
            self._leads_since = None
            return False
        if self._leads_since is None:
            self._leads_since = now
        return bool(self._written) or now - self._leads_since >= _FIRST_REFUSALS_SECONDS

    def _write(self, texts: Sequence[str]) -> None:
        if texts:  # without permissions, the cache may not be filled
            connection = self._connections.get_live(CONNECTION_NAME)
            if connection is not None:
                self._connections.apply_to(connection, _nothing)
            return
        connection = self._connections.get(CONNECTION_NAME)
        if connection is not None and status.reports_missing_permissions(connection):
            self._connections.apply_to(connection, status.clear_permissions_missing)


def _nothing(_: Object) -> None:
    """The overlay writes it."""


def _with_times(missing: Sequence[MissingPermission]) -> str:
    return "; ".join(
        f"{one} (first at {status.timestamp(one.first)}, latest at {status.timestamp(one.latest)})" for one in missing
    )


def _request(method: str, url: str) -> tuple[str, ...]:
    """Equal for the same request with another resourceVersion or another page."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    return method, parts.path, *(query.get(key, [""])[0] for key in ("watch", "labelSelector", "fieldSelector"))


def _name_in(request: Sequence[str], error: ApiError) -> str:
    return str(error.details.get("name") or "") or request[-1].removeprefix("metadata.name=")
