"""Convert an application of the Director to an Application and its Secrets, and merge them with the stored objects."""

import base64
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from controller import fields
from controller.applications import names
from controller.compass.types import (
    BASIC,
    OAUTH,
    ApiDefinition,
    Application,
    Bundle,
    EventDefinition,
    Parameters,
    items,
)
from controller.resources import APPLICATION, COMPONENT, SYNC_STATUS, SYNCED
from controller.text import clean

MANAGED_BY_LABEL = "applicationconnector.kyma-project.io/managed-by"

#: The limit of the API server for one request, in bytes. That of etcd is half of it by default; what exceeds only that
#: one is found by the write.
MAX_APPLICATION_BYTES = 3 * 1024 * 1024

_NO_DESCRIPTION = "Description not provided"

_NO_CREDENTIALS = {"type": "", "secretName": ""}

#: The credentials that the gateway can use: their kind in the Director and in an Application, and the keys of their
#: Secret, which have the names of the Director's fields.
_KINDS = {BASIC: ("Basic", ("username", "password")), OAUTH: ("OAuth", ("clientId", "clientSecret"))}

#: Maximum number of characters in a message of a kind of credentials that is not supported.
_MAX_KIND = 60

#: Maximum size of all values of a Secret in the API server, in bytes.
MAX_SECRET_BYTES = 1024 * 1024

_APP_LABEL = "app"
_BUNDLE_LABEL = "bundleId"

#: Selects all Secrets of this agent and of the Go agent.
SECRETS_SELECTOR = f"{_APP_LABEL},{_BUNDLE_LABEL}"

#: Go escapes these for HTML and JavaScript; JSON does not require it.
_ESCAPED = re.compile("[<>&\u2028\u2029]")

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ConversionSettings:
    """`gateway_url` is the prefix of each centralGatewayUrl; `skip_verify` is set in new Applications.

    `reserved_secrets` are names of Secrets that Compass must not choose, because the agent uses them itself.
    """

    gateway_url: str
    skip_verify: bool = False
    reserved_secrets: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DesiredSecret:
    """The desired state of a Secret, without namespace and owner. The values of `data` are base64, as in the API."""

    name: str
    labels: Mapping[str, str]
    data: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Desired:
    """The desired state of one Application.

    `spec` has only the fields that the agent owns. `warnings` describe data of the Director that is not supported; they
    contain ids of bundles and never values. `source` is the application of the Director.
    """

    name: str
    spec: dict[str, Any]
    skip_verify: bool
    secrets: tuple[DesiredSecret, ...]
    warnings: tuple[str, ...]
    source: Application = field(repr=False)


def desired_application(
    application: Application, name: str, settings: ConversionSettings, *, stored: Object | None = None
) -> Desired:
    """Convert one application; `name` is the name of the object.

    What is equal in the `stored` Application is taken from there, so that it is in memory once.
    """
    conversion = _Conversion(name, settings)
    services = [conversion.service(bundle) for bundle in items(application.bundles)]
    spec = {
        "description": application.description or _NO_DESCRIPTION,
        "labels": {"connected-app": name},
        "compassMetadata": {
            "applicationId": application.id,
            "authentication": {"clientIds": [client.id for client in application.auths or ()]},
        },
        "services": services,
    }
    present = fields.spec(stored or {})
    return Desired(
        name,
        {field: present[field] if present.get(field) == value else value for field, value in spec.items()},
        settings.skip_verify,
        tuple(conversion.secrets),
        tuple(conversion.warnings),
        application,
    )


class _Conversion:
    """The conversion of the bundles of one application. It collects the Secrets that the services refer to, and
    warnings.
    """

    def __init__(self, application: str, settings: ConversionSettings) -> None:
        self._application = application
        self._gateway_url = settings.gateway_url
        self.secrets: list[DesiredSecret] = []
        self.warnings: list[str] = []

    def service(self, bundle: Bundle) -> Object:
        segment = names.segment(bundle.name)
        entries = self._apis(bundle, segment)
        entries += [_entry("Events", event, credentials=_NO_CREDENTIALS) for event in items(bundle.eventDefinitions)]
        service = {
            "id": bundle.id,
            "identifier": "",
            "name": names.service_name(segment, bundle.id),
            "displayName": bundle.name,
            "description": bundle.description or _NO_DESCRIPTION,
            "providerDisplayName": "",
            "entries": entries,
        }
        if bundle.instanceAuthRequestInputSchema is not None:
            service["authCreateParameterSchema"] = bundle.instanceAuthRequestInputSchema
        return service

    def _apis(self, bundle: Bundle, segment: str) -> list[Object]:
        credentials = self._credentials(bundle)
        params = params_secret(self._application, bundle)
        base = f"{self._gateway_url}/{self._application}/{segment}"
        entries = [
            _entry(
                "API", api, credentials=credentials, target=api.targetURL, gateway=f"{base}/{names.segment(api.name)}"
            )
            for api in items(bundle.apiDefinitions)
        ]
        if params is not None:
            self.secrets.append(params)
            for entry in entries:
                entry["requestParametersSecretName"] = params.name
        return entries

    def _credentials(self, bundle: Bundle) -> Object:
        """The `credentials` of the bundle's API entries. Without usable ones csrf is left out; a warning says why."""
        auth = bundle.defaultInstanceAuth
        if auth is None:
            return _NO_CREDENTIALS
        if auth.credential is None:
            if auth.accessStrategy and auth.accessStrategy != "open":
                self._not_supported(bundle, f"access strategy {clean(auth.accessStrategy, _MAX_KIND)}")
            return _NO_CREDENTIALS
        if auth.credential.typename not in _KINDS:
            self._not_supported(bundle, clean(auth.credential.typename, _MAX_KIND))
            return _NO_CREDENTIALS
        kind, keys = _KINDS[auth.credential.typename]
        values = {key: getattr(auth.credential, key) for key in keys}
        if not all(values.values()):
            self.warnings.append(f"bundle {names.shown_name(bundle.id)}: its credentials are empty")
            return _NO_CREDENTIALS
        secret = _secret(names.secret_name(self._application, bundle.id), self._application, bundle.id, values)
        self.secrets.append(secret)
        credentials: Object = {"type": kind, "secretName": secret.name}
        if auth.credential.typename == OAUTH and auth.credential.url:
            credentials["authenticationUrl"] = auth.credential.url
        if auth.requestAuth is not None and auth.requestAuth.csrf is not None:
            credentials["csrfInfo"] = {"tokenEndpointURL": auth.requestAuth.csrf.tokenEndpointURL}
        return credentials

    def _not_supported(self, bundle: Bundle, kind: str) -> None:
        self.warnings.append(f"bundle {names.shown_name(bundle.id)}: credentials of the kind {kind} are not supported")


def _entry(
    kind: str, definition: ApiDefinition | EventDefinition, *, credentials: Object, target: str = "", gateway: str = ""
) -> Object:
    return {
        "type": kind,
        "id": definition.id,
        "name": definition.name,
        "targetUrl": target,
        "centralGatewayUrl": gateway,
        "gatewayUrl": "",
        "credentials": credentials,
    }


def application_problem(desired: Desired) -> str | None:
    """Why the API server would refuse the Application; None if it would not."""
    size = len(orjson.dumps(desired.spec))
    if size > MAX_APPLICATION_BYTES:
        return f"its spec would have {size} bytes; the API server accepts at most {MAX_APPLICATION_BYTES}"
    return None


def is_managed(application: Object) -> bool:
    """Whether the agent may change this object: it was created from an application of the Director."""
    spec = application.get("spec")
    return isinstance(spec, dict) and isinstance(spec.get("compassMetadata"), dict)


def merge_application(actual: Object | None, desired: Desired) -> Object | None:
    """The Application to create (`actual` None) or to update; None if the fields of the agent are equal already.

    An update sets only these fields and keeps all others. An absent field and an empty one are equal. `actual` is not
    changed. The caller has made sure that it is managed, or that it is the answer of an own write.
    """
    if actual is None:
        return _new(desired)
    metadata, spec, labels = actual["metadata"], fields.spec(actual), fields.labels(actual)
    if labels.get(MANAGED_BY_LABEL) == COMPONENT and all(
        _same(spec.get(field), value) for field, value in desired.spec.items()
    ):
        return None
    return {
        **actual,
        "apiVersion": APPLICATION.api_version,
        "kind": APPLICATION.kind,
        "metadata": {**metadata, "labels": {**labels, MANAGED_BY_LABEL: COMPONENT}},
        "spec": {**spec, **desired.spec},
    }


def _new(desired: Desired) -> Object:
    return {
        "apiVersion": APPLICATION.api_version,
        "kind": APPLICATION.kind,
        "metadata": {"name": desired.name, "labels": {MANAGED_BY_LABEL: COMPONENT}},
        "spec": {
            **desired.spec,
            "displayName": "",
            "providerDisplayName": "",
            "longDescription": "",
            "skipVerify": desired.skip_verify,
            # The CRD's default is true, but existing Applications rely on false.
            "encodeUrl": False,
        },
        "status": {"installationStatus": {"status": "", "description": ""}},
    }


def _same(actual: Any, desired: Any) -> bool:
    # Usually they are equal, and this comparison builds nothing.
    return bool(actual == desired) or _filled(actual) == _filled(desired)


def _filled(value: Any) -> Any:
    """The value without empty parts, at any depth: the Go agent omits some empty fields and writes others."""
    if isinstance(value, dict):
        return {key: inner for key, item in value.items() if not fields.is_empty(inner := _filled(item))}
    if isinstance(value, list):
        return [_filled(item) for item in value]
    return value


def has_sync_status(application: Object, status: str) -> bool:
    """Whether the Application has this status. An absent annotation means SYNCED."""
    return fields.annotations(application).get(SYNC_STATUS, SYNCED) == status


def with_sync_status(application: Object, status: str) -> Object:
    """The Application with this status in its annotation. `application` is not changed."""
    annotations = {**fields.annotations(application), SYNC_STATUS: status}
    return {**application, "metadata": {**application["metadata"], "annotations": annotations}}


# --- Secrets ---


def params_secret(application: str, bundle: Bundle) -> DesiredSecret | None:
    """The Secret from which the gateway reads headers and query parameters; None if there are none.

    It has a key if the Director has sent a map for it, even an empty one.
    """
    auth = bundle.defaultInstanceAuth
    if auth is None or not (auth.additionalHeaders or auth.additionalQueryParams):
        return None
    maps = {"headers": auth.additionalHeaders, "queryParameters": auth.additionalQueryParams}
    values = {key: go_json(parameters) for key, parameters in maps.items() if parameters is not None}
    return _secret(names.params_secret_name(application, bundle.id), application, bundle.id, values)


def _secret(name: str, application: str, bundle_id: str, values: Mapping[str, str]) -> DesiredSecret:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return DesiredSecret(name, {_APP_LABEL: application, _BUNDLE_LABEL: bundle_id}, data)


def go_json(parameters: Parameters) -> str:
    """JSON as Go's encoding/json writes a map[string][]string, because stored values are compared byte for byte."""
    text = json.dumps(parameters, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    # Only inside strings: none of the five occurs in the syntax of JSON.
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def secrets_problem(secrets: Sequence[DesiredSecret], reserved: Collection[str]) -> str | None:
    """Why the Secrets of one Application cannot be written; None if they can.

    Two Secrets with the same name would overwrite each other. One with a name in `reserved` would replace the
    configuration or the credentials of the agent.
    """
    times = Counter(secret.name for secret in secrets)
    for secret in secrets:
        if secret.name in reserved:
            return f"its Secret would have the name {names.shown_name(secret.name)!r}, which the agent uses itself"
        if times[secret.name] > 1:
            return f"{times[secret.name]} of its Secrets would have the name {names.shown_name(secret.name)!r}"
        if problem := secret_problem(secret):
            return problem
    return None


def secret_problem(secret: DesiredSecret) -> str | None:
    """Why Kubernetes would refuse this Secret; None if it would not."""
    if problem := names.name_problem(secret.name):
        return f"the name of its Secret {names.shown_name(secret.name)!r} {problem}"
    for label, value in secret.labels.items():
        if problem := names.label_value_problem(value):
            return f"the value for the label {label!r} of its Secret {problem}"
    if sum(map(_decoded_length, secret.data.values())) > MAX_SECRET_BYTES:
        return f"the values of its Secret {names.shown_name(secret.name)!r} are larger than {MAX_SECRET_BYTES} bytes"
    return None


def _decoded_length(value: str) -> int:
    return len(value) // 4 * 3 - value[-2:].count("=")


def merge_secret(actual: Object | None, desired: DesiredSecret, *, namespace: str, owner: Object) -> Object | None:
    """The Secret to create (`actual` None) or to update; None if it is equal already.

    Data and the reference to the owning Application are set exactly; other labels, annotations and references stay.
    `owner` is the stored Application with its uid. `actual` is not changed.
    """
    reference = {
        "apiVersion": APPLICATION.api_version,
        "kind": APPLICATION.kind,
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
    if own in present and sum(map(is_to_application, present)) == 1:
        return present
    return [*(reference for reference in present if not is_to_application(reference)), own]


def is_to_application(reference: Object) -> bool:
    """Whether an owner reference is to an Application, in any version of its API."""
    group = str(reference.get("apiVersion")).partition("/")[0]
    return (reference.get("kind"), group) == (APPLICATION.kind, APPLICATION.group)
