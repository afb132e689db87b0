"""The configuration of a pairing: Runtime id, tenant, Connector URL and one-time token.

It is read from the first of three places that exists. The others are not read, so an incomplete place is reported and
not completed from another one:

1. `spec.pairing` of the CompassConnection, if it contains a token
2. the Secret `APP_AGENT_CONFIGURATION_SECRET`
3. the ConfigMap of the same name

A token in the CompassConnection is readable for many. `remove_token` removes it, also from the annotation in which
`kubectl apply` keeps a copy.

The mark of a revocation is an annotation of the CompassConnection, so it survives restarts, the Go agent's CRD and the
agent's own writes of the status. It contains a fingerprint of the configuration, which does not disclose the token: the
agent must not pair again with that one. When the configuration changes, or the CompassConnection is deleted, the mark
has no effect.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from controller import fields
from controller.resources import CONFIG_MAP, SECRET
from controller.settings import ObjectName
from controller.urls import url_problem
from informers.client import Client
from informers.encoding import decode
from informers.errors import NotFound
from informers.indexer import Lister
from informers.resource import Resource

REVOKED = "compass.kyma-project.io/revoked-with"
"""Annotation: an operator has revoked the connection that was made with this configuration."""

_UNCONFIGURED = "none"

SPEC_PAIRING = "CompassConnection spec.pairing"

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""Annotation of `kubectl apply`: the JSON of the whole manifest, so also the token in it."""

_CONNECTOR_URL, _RUNTIME_ID, _TENANT, _TOKEN = "CONNECTOR_URL", "RUNTIME_ID", "TENANT", "TOKEN"
_KEYS = (_CONNECTOR_URL, _RUNTIME_ID, _TENANT, _TOKEN)
SPEC_NAMES = {_CONNECTOR_URL: "connectorUrl", _RUNTIME_ID: "runtimeId", _TENANT: "tenant", _TOKEN: "token"}
_MAX_VALUE = 4096  # longer values would not fit into a header

Object = dict[str, Any]


@dataclass(frozen=True)
class ConfigurationProblem:
    """Pairing is not possible with this configuration. `text` has the object and all invalid keys.

    `nothing`: none of the three places exists, so no pairing is requested.
    """

    text: str
    nothing: bool = False


@dataclass(frozen=True)
class PairingConfiguration:
    """A complete configuration. `origin`: the object that contains it, for messages.

    `literal`: the token itself is in the CompassConnection, which many people may read.
    """

    origin: str
    connector_url: str
    runtime_id: str
    tenant: str
    token: str = field(repr=False)
    literal: bool = False

    @property
    def from_connection(self) -> bool:
        return self.origin == SPEC_PAIRING

    @cached_property
    def fingerprint(self) -> str:
        """Equal for equal configurations, to detect changes. It does not disclose the token."""
        parts = "\0".join((self.connector_url, self.runtime_id, self.tenant, self.token))
        return hashlib.sha256(parts.encode()).hexdigest()


Configuration = PairingConfiguration | ConfigurationProblem


class RevokedMeanwhile(Exception):
    """The connection was marked as revoked after the decision to pair or to renew."""


class _Unusable(Exception):
    """The text is that of the problem."""


class ConfigurationReader:
    """Reads ConfigMap and Secret from the caches."""

    def __init__(
        self,
        client: Client,
        *,
        secrets: Lister,
        config_maps: Lister,
        name: ObjectName,
    ) -> None:
        self._client = client
        self._secrets = secrets
        self._config_maps = config_maps
        self.name = name

    def resolve(self, connection: Mapping[str, Any] | None, *, live: bool = False) -> Configuration:
        """The current configuration, or its problem. Raises informers.ApiError of the reads.

        `live` reads from the API server and not from the caches. If an operator changes the configuration and then
        deletes the CompassConnection, the watch of the deletion may be faster.
        """
        return resolve(
            connection,
            self._read(SECRET) if live else self._secret(),
            self._read(CONFIG_MAP) if live else self._config_map(),
            name=self.name,
        )

    def identity(self, connection: Mapping[str, Any] | None) -> tuple[str, str] | None:
        """Runtime id and tenant from the first place where both are valid, for credentials that do not include them.

        These are credentials of the Go agent, which reads both from its configuration at each synchronisation.
        """
        secret, config_map = _secret_strings(self._secret()), _strings((self._config_map() or {}).get("data"))
        return (
            ids_of(connection)
            or _valid_ids(secret, _RUNTIME_ID, _TENANT)
            or _valid_ids(config_map, _RUNTIME_ID, _TENANT)
        )

    def _secret(self) -> Mapping[str, Any] | None:
        return self._secrets.get(self.name.name, self.name.namespace)

    def _config_map(self) -> Mapping[str, Any] | None:
        return self._config_maps.get(self.name.name, self.name.namespace)

    def _read(self, resource: Resource) -> Mapping[str, Any] | None:
        try:
            return self._client.get(resource, self.name.name, namespace=self.name.namespace)
        except NotFound:
            return None


def resolve(
    connection: Mapping[str, Any] | None,
    secret: Mapping[str, Any] | None,
    config_map: Mapping[str, Any] | None,
    *,
    name: ObjectName,
) -> Configuration:
    """The configuration for a pairing, or its problem. `name`: that of Secret and ConfigMap."""
    pairing = _spec_pairing(connection)
    try:
        if pairing.get("token") or pairing.get("tokenSecretRef"):
            return _from_connection(pairing, name)
        if secret is not None:
            return _from_keys(f"Secret {name}", _decoded(f"Secret {name}", secret))
        if config_map is not None:
            return _from_keys(f"ConfigMap {name}", _strings(config_map.get("data")))
    except _Unusable as error:
        return ConfigurationProblem(str(error))
    return ConfigurationProblem(
        f"no pairing configuration found: there is neither a ConfigMap {name} nor a Secret {name}, "
        f"and the CompassConnection has no token in spec.pairing",
        nothing=True,
    )


def has_reference(connection: Mapping[str, Any] | None) -> bool:
    """Whether `spec.pairing` refers to a Secret, as earlier versions allowed."""
    return bool(_spec_pairing(connection).get("tokenSecretRef"))


def has_literal_token(connection: Mapping[str, Any] | None) -> bool:
    """Whether `spec.pairing` contains a token itself."""
    return bool(_strings(_spec_pairing(connection)).get("token"))


def ids_of(connection: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """Runtime id and tenant in `spec.pairing`, with or without a token; None if one of them is invalid."""
    return _valid_ids(_strings(_spec_pairing(connection)), SPEC_NAMES[_RUNTIME_ID], SPEC_NAMES[_TENANT])


def holds_token(connection: Mapping[str, Any], fingerprint: str) -> bool:
    """Whether `spec.pairing` is the configuration with this fingerprint and contains its token."""
    pairing = _strings(_spec_pairing(connection))
    if not pairing.get("token"):
        return False
    try:
        return _from_spec(pairing).fingerprint == fingerprint
    except _Unusable:
        return False


def remove_token(connection: Object) -> None:
    """Remove a literal token from `spec.pairing` and from the copy of `kubectl apply`; addresses and ids stay."""
    connection["spec"]["pairing"].pop("token", None)
    remove_applied_token(connection)


def remove_applied_token(connection: Object) -> None:
    """Remove the token from the copy that `kubectl apply` keeps; the whole copy if it cannot be read."""
    annotations = connection["metadata"].get("annotations") or {}
    applied = annotations.get(LAST_APPLIED)
    if applied is None or '"token"' not in applied:
        return
    try:
        manifest = json.loads(applied)
        pairing = manifest["spec"]["pairing"]
        if "token" not in pairing:
            return
        del pairing["token"]
    except (ValueError, LookupError, TypeError):
        del annotations[LAST_APPLIED]
        return
    annotations[LAST_APPLIED] = json.dumps(manifest, separators=(",", ":")) + "\n"  # as kubectl writes it


def secret_value(secret: Mapping[str, Any] | None, key: str) -> str:
    """The text of a key of a Secret; "" if the key is absent. Raises ValueError if the value is not a text."""
    value = fields.member(secret, "data").get(key)
    if value is None:
        return ""
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, TypeError) as error:
        raise ValueError("is not base64 of UTF-8 text") from error


def fault_of(value: str) -> str:
    """Why the value cannot be sent in a header, for people; "" if it can."""
    if not value:
        return "is empty"
    if len(value) > _MAX_VALUE or not value.isprintable() or not value.isascii() or value != value.strip():
        return f"is not one line of printable ASCII of at most {_MAX_VALUE} characters"
    return ""


def fault_of_url(value: str) -> str:
    """Why the value is not a URL of Compass, for people; "" if it is valid."""
    if url_problem(value):
        return fault_of(value) or "is not a URL that starts with https:// and has no user name in it"
    return fault_of(value)


def fingerprint_of(configuration: Configuration) -> str:
    """Equal for equal configurations, also for invalid ones."""
    return configuration.fingerprint if isinstance(configuration, PairingConfiguration) else configuration.text


def origin_of(configuration: Configuration | None) -> str:
    """The object that has the configuration; "" if it cannot be used."""
    return configuration.origin if isinstance(configuration, PairingConfiguration) else ""


# --- the mark of a revocation ---


def mark_revoked(connection: Object, configuration: Configuration) -> None:
    """Mark the connection as revoked for this configuration."""
    connection["metadata"].setdefault("annotations", {})[REVOKED] = _mark_for(configuration)


def revocation_mark(connection: Mapping[str, Any] | None) -> str | None:
    """The mark, for any configuration; None if there is none."""
    return None if connection is None else fields.annotations(connection).get(REVOKED)


def is_revoked(connection: Mapping[str, Any] | None, configuration: Configuration) -> bool:
    """Whether the connection was revoked, and the configuration has not changed since."""
    return revocation_mark(connection) == _mark_for(configuration)


def assert_not_revoked(connection: Mapping[str, Any] | None, earlier: Mapping[str, Any] | None) -> None:
    """Raises RevokedMeanwhile if a revocation has begun since the CompassConnection was read as `earlier`."""
    if revocation_mark(connection) not in (None, revocation_mark(earlier)):
        raise RevokedMeanwhile


def remove_revocation_mark(connection: Object) -> None:
    """There is a new connection, or the old one was not revoked."""
    annotations = connection["metadata"].get("annotations") or {}
    if annotations.pop(REVOKED, None) is not None and not annotations:
        del connection["metadata"]["annotations"]


def _mark_for(configuration: Configuration) -> str:
    return _UNCONFIGURED if isinstance(configuration, ConfigurationProblem) else configuration.fingerprint


# --- parts ---


def _spec_pairing(connection: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return fields.member(fields.member(connection, "spec"), "pairing")


def _valid_ids(values: Mapping[str, str], runtime_id: str, tenant: str) -> tuple[str, str] | None:
    ids = (values.get(runtime_id, "").strip(), values.get(tenant, "").strip())
    return None if any(map(fault_of, ids)) else ids


def _from_connection(pairing: Mapping[str, Any], secret_name: ObjectName) -> PairingConfiguration:
    if not pairing.get("token"):
        raise _Unusable(
            f"{SPEC_PAIRING}: tokenSecretRef is not supported any more; remove it, and put the one-time token into the "
            f"Secret {secret_name}"
        )
    return _from_spec(_strings(pairing))


def _from_spec(values: Mapping[str, str]) -> PairingConfiguration:
    data = {key: values[name] for key, name in SPEC_NAMES.items() if name in values}
    return _from_keys(SPEC_PAIRING, data, names=SPEC_NAMES, literal=True)


def _from_keys(
    origin: str, data: Mapping[str, str], *, names: Mapping[str, str] | None = None, literal: bool = False
) -> PairingConfiguration:
    data = _with_raw_encoded(data)
    problems, values = [], {}
    for key in _KEYS:
        name = names[key] if names else key
        value = values[key] = data.get(key, "").strip()
        fault = (fault_of_url if key == _CONNECTOR_URL else fault_of)(value)
        if key not in data:
            fault = "is missing"
        if fault:
            problems.append(f"{name} {fault}")
    if problems:
        raise _Unusable(f"{origin}: {', '.join(problems)}")
    return PairingConfiguration(
        origin=origin,
        connector_url=values[_CONNECTOR_URL],
        runtime_id=values[_RUNTIME_ID],
        tenant=values[_TENANT],
        token=values[_TOKEN],
        literal=literal,
    )


def _with_raw_encoded(data: Mapping[str, str]) -> Mapping[str, str]:
    """Cockpits of Compass show `rawEncoded`: base64 of a JSON with the token and the URL of the Connector."""
    try:
        raw = decode(base64.b64decode(data.get(_TOKEN, ""), validate=True))
    except ValueError:
        return data
    decoded = _strings(raw)
    if not decoded.get("token"):
        return data
    known = {_CONNECTOR_URL: decoded["connectorURL"]} if "connectorURL" in decoded else {}
    return known | dict(data) | {_TOKEN: decoded["token"]}


def _decoded(origin: str, secret: Mapping[str, Any]) -> dict[str, str]:
    values, problems = {}, []
    for key in _KEYS:
        if key not in fields.member(secret, "data"):
            continue
        try:
            values[key] = secret_value(secret, key)
        except ValueError as error:
            problems.append(f"{key} {error}")
    if problems:
        raise _Unusable(f"{origin}: {', '.join(problems)}")
    return values


def _secret_strings(secret: Mapping[str, Any] | None) -> dict[str, str]:
    if secret is None:
        return {}
    try:
        return _decoded("", secret)
    except _Unusable:
        return {}  # pairing reports it


def _strings(values: object) -> dict[str, str]:
    return {k: v for k, v in values.items() if isinstance(v, str)} if isinstance(values, Mapping) else {}
