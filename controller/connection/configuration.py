"""The configuration of a pairing: Runtime id, tenant, Connector URL and one-time token.

It is read from the first of three places that exists. The others are not read, so an incomplete place is reported and
not completed from another one:

1. `spec.pairing` of the CompassConnection, if it contains a token
2. the Secret `APP_AGENT_CONFIGURATION_SECRET`
3. the ConfigMap of the same name

A token in the CompassConnection is readable for many. `remove_token` removes it, also from the annotation in which
`kubectl apply` keeps a copy.

The mark of a revocation is an annotation of the CompassConnection, so it survives restarts, the Go agent's CRD and the
agent's own writes of the status. It contains the fingerprint of the configured token, which does not disclose it: the
agent must not pair again with that one. When another token is configured, or the CompassConnection is deleted, the mark
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
from controller.validation import fault_of, fault_of_url
from informers.client import Client
from informers.encoding import decode
from informers.errors import NotFound
from informers.indexer import Indexer
from informers.resource import Resource

REVOKED = "compass.kyma-project.io/revoked-with"
"""Annotation: an operator has revoked the connection while this token was configured."""

_UNCONFIGURED = "none"

SPEC_PAIRING = "CompassConnection spec.pairing"

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""Annotation of `kubectl apply`: the JSON of the whole manifest, so also the token in it."""

_CONNECTOR_URL, _RUNTIME_ID, _TENANT, _TOKEN = "CONNECTOR_URL", "RUNTIME_ID", "TENANT", "TOKEN"
_KEYS = (_CONNECTOR_URL, _RUNTIME_ID, _TENANT, _TOKEN)
SPEC_NAMES = {_CONNECTOR_URL: "connectorUrl", _RUNTIME_ID: "runtimeId", _TENANT: "tenant", _TOKEN: "token"}
_NOT_A_TEXT = "is not base64 of UTF-8 text"

Object = dict[str, Any]
Values = Mapping[str, str | None]
"""The keys of a configuration and their values. The value is None if it is not a text."""


@dataclass(frozen=True)
class ConfigurationProblem:
    """Pairing is not possible with this configuration. `text` has the object and all invalid keys.

    `fingerprint`: equal for equal configurations, also after an update of the agent. `is_absent`: none of the three
    places exists, so no pairing is requested.
    """

    text: str
    fingerprint: str
    is_absent: bool = False
    origin = ""  # no object has it


@dataclass(frozen=True)
class PairingConfiguration:
    """A complete configuration. `origin`: the object that contains it, for messages."""

    origin: str
    connector_url: str
    runtime_id: str
    tenant: str
    token: str = field(repr=False)

    @property
    def is_from_spec(self) -> bool:
        """The token itself is in the CompassConnection, which many people may read."""
        return self.origin == SPEC_PAIRING

    @cached_property
    def fingerprint(self) -> str:
        """Equal for equal configurations, to detect changes. It does not disclose the token."""
        return _fingerprint(self.connector_url, self.runtime_id, self.tenant, self.token)

    @cached_property
    def token_fingerprint(self) -> str:
        """Equal for equal tokens, to detect one that is used. It does not disclose the token."""
        return _fingerprint(self.token)


Configuration = PairingConfiguration | ConfigurationProblem


class RevokedMeanwhile(Exception):
    """The connection was marked as revoked after the decision to pair or to renew."""


class ConfigurationReader:
    """Reads ConfigMap and Secret from the caches."""

    def __init__(
        self,
        client: Client,
        *,
        secrets: Indexer,
        config_maps: Indexer,
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

    def ids(self, connection: Mapping[str, Any] | None) -> tuple[str, str] | None:
        """Runtime id and tenant from the first place where both are valid, for credentials that do not include them.

        These are credentials of the Go agent, which reads both from its configuration at each synchronisation.
        """
        places = (_spec_values(connection), _decoded(self._secret()), _strings((self._config_map() or {}).get("data")))
        return next((ids for ids in map(_valid_ids, places) if ids is not None), None)

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
    if has_spec_token(connection):
        return _checked(SPEC_PAIRING, _spec_values(connection))
    if secret is not None:
        return _checked(f"Secret {name}", _decoded(secret))
    if config_map is not None:
        return _checked(f"ConfigMap {name}", _strings(config_map.get("data")))
    text = (
        f"no pairing configuration found: there is neither a ConfigMap {name} nor a Secret {name}, "
        f"and the CompassConnection has no token in spec.pairing; create one of them with a one-time token"
    )
    return ConfigurationProblem(text, _fingerprint(), is_absent=True)


def has_spec_token(connection: Mapping[str, Any] | None) -> bool:
    """Whether `spec.pairing` contains a token itself."""
    return bool(_strings(_spec_pairing(connection)).get("token"))


def ids_of(connection: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """Runtime id and tenant in `spec.pairing`, with or without a token; None if one of them is invalid."""
    return _valid_ids(_spec_values(connection))


def holds_token(connection: Mapping[str, Any], fingerprint: str) -> bool:
    """Whether `spec.pairing` is the configuration with this fingerprint and contains its token."""
    found = _checked(SPEC_PAIRING, _spec_values(connection))
    return isinstance(found, PairingConfiguration) and found.fingerprint == fingerprint


def remove_token(connection: Object, fingerprint: str) -> None:
    """Remove the token of this configuration from `spec.pairing` and from the copy of `kubectl apply`.

    Addresses and ids stay, and so does the token of another configuration.
    """
    if holds_token(connection, fingerprint):
        del connection["spec"]["pairing"]["token"]
        remove_applied_token(connection)


def remove_applied_token(connection: Object) -> None:
    """Remove the token from the copy that `kubectl apply` keeps; the whole copy if it cannot be read."""
    annotations = connection["metadata"].get("annotations") or {}
    applied = annotations.get(LAST_APPLIED)
    if applied is None or '"token"' not in applied:
        return
    try:
        manifest = json.loads(applied)
        if _spec_pairing(manifest).pop("token", None) is not None:
            annotations[LAST_APPLIED] = json.dumps(manifest, separators=(",", ":")) + "\n"  # as kubectl writes it
    except (ValueError, RecursionError):
        del annotations[LAST_APPLIED]


def secret_value(secret: Mapping[str, Any] | None, key: str) -> str:
    """The text of a key of a Secret; "" if the key is absent. Raises ValueError if the value is not a text."""
    value = fields.member(secret, "data").get(key)
    if value is None:
        return ""
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, TypeError) as error:
        raise ValueError(_NOT_A_TEXT) from error


# --- the mark of a revocation ---


def mark_revoked(connection: Object, configuration: Configuration) -> None:
    """Mark the connection as revoked for the token of this configuration."""
    connection["metadata"].setdefault("annotations", {})[REVOKED] = _mark_for(configuration)


def revocation_mark(connection: Mapping[str, Any] | None) -> str | None:
    """The mark, for any token; None if there is none."""
    return None if connection is None else fields.annotations(connection).get(REVOKED)


def is_revoked(connection: Mapping[str, Any] | None, configuration: Configuration) -> bool:
    """Whether the connection was revoked, and no other token has been configured since. An invalid or removed
    configuration has no other one.
    """
    mark = revocation_mark(connection)
    other_token = isinstance(configuration, PairingConfiguration) and configuration.token_fingerprint != mark
    return mark is not None and not other_token


def assert_not_revoked(connection: Mapping[str, Any] | None, earlier: Mapping[str, Any] | None) -> None:
    """Raises RevokedMeanwhile if a revocation has begun since the CompassConnection was read as `earlier`."""
    if revocation_mark(connection) not in (None, revocation_mark(earlier)):
        raise RevokedMeanwhile


def remove_revocation_mark(connection: Object) -> None:
    """A new connection begins, or the old one was not revoked."""
    (connection["metadata"].get("annotations") or {}).pop(REVOKED, None)


def _mark_for(configuration: Configuration) -> str:
    return configuration.token_fingerprint if isinstance(configuration, PairingConfiguration) else _UNCONFIGURED


# --- parts ---


def _fingerprint(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()


def _spec_pairing(connection: Mapping[str, Any] | None) -> Object:
    return fields.member(fields.member(connection, "spec"), "pairing")


def _spec_values(connection: Mapping[str, Any] | None) -> Values:
    """Under the keys that Secret and ConfigMap have."""
    values = _strings(_spec_pairing(connection))
    return {key: values[name] for key, name in SPEC_NAMES.items() if name in values}


def _decoded(secret: Mapping[str, Any] | None) -> Values:
    values: dict[str, str | None] = {}
    for key in _KEYS:
        if key in fields.member(secret, "data"):
            try:
                values[key] = secret_value(secret, key)
            except ValueError:
                values[key] = None
    return values


def _strings(values: object) -> dict[str, str]:
    return {k: v for k, v in values.items() if isinstance(v, str)} if isinstance(values, Mapping) else {}


def _valid_ids(values: Values) -> tuple[str, str] | None:
    ids = ((values.get(_RUNTIME_ID) or "").strip(), (values.get(_TENANT) or "").strip())
    return None if any(map(fault_of, ids)) else ids


def _checked(origin: str, values: Values) -> Configuration:
    """All faults are reported together."""
    values = _with_raw_encoded(values)
    faults = {key: _fault(key, values) for key in _KEYS}
    if any(faults.values()):
        names = SPEC_NAMES if origin == SPEC_PAIRING else {key: key for key in _KEYS}
        texts = [f"{names[key]} {fault}" for key, fault in faults.items() if fault]
        return ConfigurationProblem(f"{origin}: {', '.join(texts)}", _fingerprint(origin, repr(sorted(values.items()))))
    connector_url, runtime_id, tenant, token = ((values[key] or "").strip() for key in _KEYS)
    return PairingConfiguration(origin, connector_url, runtime_id, tenant, token)


def _fault(key: str, values: Values) -> str:
    if key not in values:
        return "is missing"
    value = values[key]
    if value is None:
        return _NOT_A_TEXT
    return (fault_of_url if key == _CONNECTOR_URL else fault_of)(value.strip())


def _with_raw_encoded(values: Values) -> Values:
    """The values with the decoded token, if it is a `rawEncoded` one, as the user interfaces of Compass show it: base64
    of a JSON with the token and the URL of the Connector.
    """
    try:
        raw = decode(base64.b64decode(values.get(_TOKEN) or "", validate=True))
    except ValueError:
        return values
    decoded = _strings(raw)
    if not decoded.get("token"):
        return values
    known = {_CONNECTOR_URL: decoded["connectorURL"]} if "connectorURL" in decoded else {}
    return {**known, **values, _TOKEN: decoded["token"]}
