"""The permissions that the work of the agent needs, and a review of those that are missing, for `doctor`.

The review is one SelfSubjectAccessReview for each permission, which every user may create; from outside the Pod, one
SubjectAccessReview.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from controller.resources import APPLICATION, COMPASS_CONNECTION, COMPONENT, CONFIG_MAP, SECRET
from controller.runtime.leader_election import LEASES
from controller.settings import ObjectName, Settings
from informers import Client, Resource

_REVIEWS = "/apis/authorization.k8s.io/v1"


@dataclass(frozen=True, order=True)
class Permission:
    """One verb for one kind of object. `namespace` is "" for cluster-scoped kinds, `name` is "" for all names."""

    group: str
    resource: str  # with its subresource, as roles write it: compassconnections/status
    namespace: str
    name: str
    verb: str


def needed(settings: Settings) -> tuple[Permission, ...]:
    """The permissions that the work needs, without those for Events, the cluster metrics and the commands."""
    # "get": if the CompassConnection was deleted, the configuration is read from the API server and not from the cache.
    reading = ("list", "watch", "get")
    found = [
        *_permissions(COMPASS_CONNECTION, "list", "watch", "get", "create", "update"),
        *_permissions(COMPASS_CONNECTION, "update", subresource="status"),
        *_permissions(APPLICATION, "list", "watch", "get", "create", "update", "delete"),
        *_permissions(
            SECRET, "list", "watch", "get", "create", "update", "delete", namespace=settings.integration_namespace
        ),
        *_named(CONFIG_MAP, settings.configuration, *reading),
        *_named(SECRET, settings.configuration, *reading),
        *_credentials(settings.cluster_certificates_secret),
        *_credentials(settings.ca_certificates_secret),
    ]
    if settings.leader_election:
        lease = ObjectName(settings.leader_election_namespace, COMPONENT)
        found += [*_permissions(LEASES, "create", namespace=lease.namespace), *_named(LEASES, lease, "get", "update")]
    return tuple(sorted(set(found)))


def missing(
    client: Client, permissions: Iterable[Permission], *, account: ObjectName | None = None
) -> tuple[Permission, ...]:
    """The denied permissions of a ServiceAccount, or of the client itself. Raises informers.ApiError."""
    return tuple(permission for permission in permissions if not _allowed(client, permission, account))


def describe(permissions: Iterable[Permission]) -> str:
    """A text for people, with all verbs of a kind together."""
    verbs: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for permission in sorted(permissions):
        verbs[permission.group, permission.resource, permission.namespace, permission.name].append(permission.verb)
    return "; ".join(_phrase(objects, denied) for objects, denied in verbs.items())


def _permissions(resource: Resource, *verbs: str, namespace: str = "", subresource: str = "") -> list[Permission]:
    name = f"{resource.plural}/{subresource}" if subresource else resource.plural
    return [Permission(resource.group, name, namespace, "", verb) for verb in verbs]


def _named(resource: Resource, name: ObjectName, *verbs: str) -> list[Permission]:
    return [Permission(resource.group, resource.plural, name.namespace, name.name, verb) for verb in verbs]


def _credentials(name: ObjectName) -> list[Permission]:
    """RBAC cannot restrict a create to a name, because the request does not contain it."""
    return [
        *_named(SECRET, name, "list", "watch", "get", "update"),
        *_permissions(SECRET, "create", namespace=name.namespace),
    ]


def _attributes(permission: Permission) -> dict[str, str]:
    """The resourceAttributes of an access review."""
    resource, _, subresource = permission.resource.partition("/")
    found = {
        "verb": permission.verb,
        "group": permission.group,
        "resource": resource,
        "subresource": subresource,
        "namespace": permission.namespace,
        "name": permission.name,
    }
    return {key: value for key, value in found.items() if value}


def _allowed(client: Client, permission: Permission, account: ObjectName | None) -> bool:
    kind = "SelfSubjectAccessReview" if account is None else "SubjectAccessReview"
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": kind,
        "spec": {"resourceAttributes": _attributes(permission), **(_subject(account) if account else {})},
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


def _phrase(objects: tuple[str, str, str, str], verbs: Iterable[str]) -> str:
    group, resource, namespace, name = objects
    kind = f"{resource}.{group}" if group else resource
    named = f" {name}" if name else ""
    where = f" in {namespace}" if namespace else ""
    return f"{', '.join(verbs)} {kind}{named}{where}"
