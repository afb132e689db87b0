"""Secrets of a bundle: its credentials, and its additional headers and query parameters."""

import base64
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from controller import fields
from controller.applications import go_json, names
from controller.compass.foreign_text import shown_name
from controller.compass.types import BasicCredentials, Bundle, OAuthCredentials, UsableCredentials

#: Maximum size of all values of a Secret in the API server, in bytes.
MAX_SECRET_BYTES = 1024 * 1024

_APP_LABEL = "app"
_BUNDLE_LABEL = "bundleId"

#: Selects all Secrets of this agent and of the Go agent.
SECRETS_SELECTOR = f"{_APP_LABEL},{_BUNDLE_LABEL}"

_OWNER_API_VERSION = "applicationconnector.kyma-project.io/v1alpha1"
_OWNER_KIND = "Application"

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DesiredSecret:
    """The desired state of a Secret, without namespace and owner. The values of `data` are base64, as in the API."""

    name: str
    labels: Mapping[str, str]
    data: Mapping[str, str] = field(repr=False)


def credentials_secret(application: str, bundle: Bundle, credentials: UsableCredentials) -> DesiredSecret:
    """The Secret from which the gateway reads user name and password, or client id and client secret."""
    match credentials:
        case BasicCredentials(username, password):
            values = {"username": username, "password": password}
        case OAuthCredentials(client_id, client_secret):
            values = {"clientId": client_id, "clientSecret": client_secret}
        case other:
            assert_never(other)
    return _secret(names.secret_name(application, bundle.id), application, bundle.id, values)


def params_secret(application: str, bundle: Bundle) -> DesiredSecret | None:
    """The Secret from which the gateway reads headers and query parameters; None if there are none.

    It has a key if the Director has sent a map for it, even an empty one.
    """
    if not bundle.headers and not bundle.query_params:
        return None
    maps = {"headers": bundle.headers, "queryParameters": bundle.query_params}
    values = {key: go_json.dumps(parameters) for key, parameters in maps.items() if parameters is not None}
    return _secret(names.params_secret_name(application, bundle.id), application, bundle.id, values)


def _secret(name: str, application: str, bundle_id: str, values: Mapping[str, str]) -> DesiredSecret:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return DesiredSecret(name, {_APP_LABEL: application, _BUNDLE_LABEL: bundle_id}, data)


def secrets_problem(secrets: Sequence[DesiredSecret], reserved: Collection[str]) -> str | None:
    """Why the Secrets of one Application cannot be written; None if they can.

    Two Secrets with the same name would overwrite each other. One with a name in `reserved` would replace the
    configuration or the credentials of the agent.
    """
    times = Counter(secret.name for secret in secrets)
    for secret in secrets:
        if secret.name in reserved:
            return f"its Secret would have the name {shown_name(secret.name)!r}, which the agent uses itself"
        if times[secret.name] > 1:
            return f"{times[secret.name]} of its Secrets would have the name {shown_name(secret.name)!r}"
        if problem := secret_problem(secret):
            return problem
    return None


def secret_problem(secret: DesiredSecret) -> str | None:
    """Why Kubernetes would refuse this Secret; None if it would not."""
    if problem := names.name_problem(secret.name):
        return f"the name of its Secret {shown_name(secret.name)!r} {problem}"
    for label, value in secret.labels.items():
        if problem := names.label_value_problem(value):
            return f"the value for the label {label!r} of its Secret {problem}"
    if sum(map(_decoded_length, secret.data.values())) > MAX_SECRET_BYTES:
        return f"the values of its Secret {shown_name(secret.name)!r} are larger than {MAX_SECRET_BYTES} bytes"
    return None


def _decoded_length(value: str) -> int:
    return len(value) // 4 * 3 - value[-2:].count("=")


def merge_secret(actual: Object | None, desired: DesiredSecret, *, namespace: str, owner: Object) -> Object | None:
    """The Secret to create (`actual` None) or to update; None if it is equal already.

    Data and the reference to the owning Application are set exactly; other labels, annotations and references stay.
    `owner` is the stored Application with its uid. `actual` is not changed.
    """
    reference = {
        "apiVersion": _OWNER_API_VERSION,
        "kind": _OWNER_KIND,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }
    if actual is None:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": desired.name,
                "namespace": namespace,
                "labels": dict(desired.labels),
                "ownerReferences": [reference],
            },
            "data": dict(desired.data),
        }
    metadata = actual["metadata"]
    labels = fields.labels(actual)
    references = _references(fields.owner_references(actual), reference)
    if (
        (actual.get("data") or {}) == desired.data
        and desired.labels.items() <= labels.items()
        and references == (metadata.get("ownerReferences") or [])
    ):
        return None
    return {
        **actual,
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {**metadata, "labels": {**labels, **desired.labels}, "ownerReferences": references},
        "data": dict(desired.data),
    }


def _references(present: list[Object], own: Object) -> list[Object]:
    """The references, with ours as the only one to an Application: with a reference to an earlier uid, the garbage
    collector would delete the Secret or keep it.
    """
    if own in present and sum(map(_is_to_application, present)) == 1:
        return present
    return [*(reference for reference in present if not _is_to_application(reference)), own]


def _is_to_application(reference: Object) -> bool:
    return reference.get("apiVersion") == _OWNER_API_VERSION and reference.get("kind") == _OWNER_KIND
