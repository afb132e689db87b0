"""Checks the permissions of the agent, and reports each missing one by name.

The check is one SelfSubjectAccessReview for each permission, which every user may create. It runs at the start, after a
refused request, and repeatedly while permissions are missing, because a change of permissions has no event.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from controller.connection import status as cc
from controller.connection.store import ConnectionStore
from controller.resources import APPLICATION, COMPASS_CONNECTION, COMPONENT, CONFIG_MAP, CONNECTION_NAME, SECRET
from controller.runtime.leader_election import LEASES
from controller.settings import ObjectName, Settings
from informers import ApiError, Client, RequestMetrics, Resource
from workqueue import Clock

log = logging.getLogger(__name__)

_REVIEWS = "/apis/authorization.k8s.io/v1"


Object = dict[str, Any]

_PAUSE_SECONDS = 10.0
"""Minimum time between two checks. A check has about thirty small requests."""

_FORBIDDEN = "403"


@dataclass(frozen=True, order=True)
class Right:
    """One verb for one kind of object. `namespace` is "" for cluster-scoped kinds, `name` is "" for all names."""

    group: str
    resource: str  # with its subresource, as roles write it: compassconnections/status
    namespace: str
    name: str
    verb: str


class RightsMissing(Exception):
    """The agent cannot do all its work without the missing `rights`."""

    def __init__(self, rights: Iterable[Right]) -> None:
        self.rights = tuple(sorted(rights))
        super().__init__(
            f"the ServiceAccount of the agent lacks permissions: {describe(self.rights)}; apply config/rbac"
        )


def needed(settings: Settings) -> tuple[Right, ...]:
    """The permissions that the work needs, without those for Events, the cluster metrics and the commands."""
    one = ("list", "watch")
    found = [
        *_rights(COMPASS_CONNECTION, "list", "watch", "get", "create", "update"),
        *_rights(COMPASS_CONNECTION, "update", subresource="status"),
        *_rights(APPLICATION, "list", "watch", "get", "create", "update", "delete"),
        *_rights(
            SECRET, "list", "watch", "get", "create", "update", "delete", namespace=settings.integration_namespace
        ),
        *_named(CONFIG_MAP, settings.configuration_config_map, *one),
        *_named(SECRET, settings.configuration_secret, *one),
        *_credentials(settings.cluster_certificates_secret),
        *_credentials(settings.ca_certificates_secret),
    ]
    if settings.leader_election:
        lease = ObjectName(settings.leader_election_namespace, COMPONENT)
        found += [*_rights(LEASES, "create", namespace=lease.namespace), *_named(LEASES, lease, "get", "update")]
    return tuple(sorted(set(found)))


def missing(client: Client, rights: Iterable[Right], *, account: ObjectName | None = None) -> tuple[Right, ...]:
    """The denied rights of a ServiceAccount, or of the client itself. Raises informers.ApiError."""
    return tuple(right for right in rights if not _allowed(client, right, account))


def describe(rights: Iterable[Right]) -> str:
    """A text for people, with all verbs of a kind together."""
    verbs: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for right in sorted(rights):
        verbs[right.group, right.resource, right.namespace, right.name].append(right.verb)
    return "; ".join(_phrase(what, told) for what, told in verbs.items())


class Refusals:
    """Detects requests that the API server refuses, and passes all measurements on to other metrics."""

    def __init__(self, metrics: RequestMetrics) -> None:
        self._metrics = metrics
        self.seen = threading.Event()

    def request(self, *, verb: str, code: str, host: str, seconds: float) -> None:
        self._metrics.request(verb=verb, code=code, host=host, seconds=seconds)
        if code == _FORBIDDEN:
            self.seen.set()

    def retry(self, *, verb: str, code: str, host: str) -> None:
        self._metrics.retry(verb=verb, code=code, host=host)


class StatusTeller:
    """Writes the missing permissions to the CompassConnection, if there is one.

    Each replica does this, not only the leader: without permissions, there may be no leader and no filled cache. All
    write the same content, and only if it differs.
    """

    def __init__(self, connections: ConnectionStore) -> None:
        """`connections` with RightsCheck.overlay."""
        self._connections = connections

    def __call__(self, missing: tuple[Right, ...]) -> None:
        """Raises informers.ApiError."""
        connection = self._connections.get_live(CONNECTION_NAME)
        if connection is not None:
            self._connections.apply_to(connection, _nothing if missing else cc.rights_restored)


class RightsCheck:
    """The missing rights. `run` checks them, all other methods only read."""

    def __init__(
        self,
        client: Client,
        rights: Iterable[Right],
        *,
        refused: threading.Event,
        clock: Clock,
    ) -> None:
        """`refused` is set when a request was refused."""
        self._client = client
        self._rights = tuple(rights)
        self._refused = refused
        self._clock = clock
        self._missing: tuple[Right, ...] = ()
        self._told: tuple[Right, ...] = ()
        self._tell: Callable[[tuple[Right, ...]], None] = lambda _: None

    @property
    def missing(self) -> tuple[Right, ...]:
        """As of the last check; () before the first."""
        return self._missing

    def tell(self, tell: Callable[[tuple[Right, ...]], None]) -> None:
        """Add a callback for changes of the missing rights. It is repeated while it raises informers.ApiError."""
        self._tell = tell

    def overlay(self, connection: Object) -> None:
        """Keep the report of missing permissions in the CompassConnection during other writes."""
        if self._missing:
            cc.rights_missing(connection, f"{describe(self._missing)}; apply config/rbac")

    def check(self) -> None:
        """A readiness check. Raises RightsMissing while permissions are missing."""
        if self._missing:
            raise RightsMissing(self._missing)

    def run(self, stop: threading.Event) -> None:
        """Blocks until stop is set."""
        due = True
        while not stop.is_set():
            if due or self._refused.is_set():
                self._refused.clear()
                due = self._look()
            if self._clock.sleep(_PAUSE_SECONDS, stop):
                return

    def _look(self) -> bool:
        """Check once. Returns whether to check again without a new refusal."""
        try:
            found = missing(self._client, self._rights)
        except ApiError as error:
            log.warning("Cannot check the permissions of the agent", extra={"error": str(error)})
            return True
        if found != self._missing:
            self._missing = found
            if found:
                log.error("Permissions are missing", extra={"rights": describe(found), "remedy": "apply config/rbac"})
            else:
                log.info("All permissions are granted again")
        if found != self._told:
            try:
                self._tell(found)
            except ApiError as error:
                log.warning(
                    "Cannot write the missing permissions to the status of the CompassConnection",
                    extra={"error": str(error)},
                )
                return True
            self._told = found
        return bool(found)


def _nothing(_: Object) -> None:
    """The overlay says it all."""


def _rights(resource: Resource, *verbs: str, namespace: str = "", subresource: str = "") -> list[Right]:
    name = f"{resource.plural}/{subresource}" if subresource else resource.plural
    return [Right(resource.group, name, namespace, "", verb) for verb in verbs]


def _named(resource: Resource, name: ObjectName, *verbs: str) -> list[Right]:
    return [Right(resource.group, resource.plural, name.namespace, name.name, verb) for verb in verbs]


def _credentials(name: ObjectName) -> list[Right]:
    """RBAC cannot restrict a create to a name, because the request does not contain it."""
    return [*_named(SECRET, name, "list", "watch", "update"), *_rights(SECRET, "create", namespace=name.namespace)]


def _attributes(right: Right) -> dict[str, str]:
    """The resourceAttributes of an access review."""
    resource, _, subresource = right.resource.partition("/")
    found = {
        "verb": right.verb,
        "group": right.group,
        "resource": resource,
        "subresource": subresource,
        "namespace": right.namespace,
        "name": right.name,
    }
    return {key: value for key, value in found.items() if value}


def _allowed(client: Client, right: Right, account: ObjectName | None) -> bool:
    kind = "SelfSubjectAccessReview" if account is None else "SubjectAccessReview"
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": kind,
        "spec": {"resourceAttributes": _attributes(right), **(_subject(account) if account else {})},
    }
    answer = client.request("POST", f"{_REVIEWS}/{kind.lower()}s", body=review)
    return (answer.get("status") or {}).get("allowed") is True


def _subject(account: ObjectName) -> dict[str, Any]:
    """The user and groups that the API server derives from a token of this ServiceAccount."""
    everyone = "system:serviceaccounts"
    return {
        "user": f"system:serviceaccount:{account.namespace}:{account.name}",
        "groups": [everyone, f"{everyone}:{account.namespace}", "system:authenticated"],
    }


def _phrase(what: tuple[str, str, str, str], verbs: Iterable[str]) -> str:
    group, resource, namespace, name = what
    kind = f"{resource}.{group}" if group else resource
    named = f" {name}" if name else ""
    where = f" in {namespace}" if namespace else ""
    return f"{', '.join(verbs)} {kind}{named}{where}"
