"""Where the agent learns how to pair: runtime id, tenant, Connector URL and one-time token.

Three places can say it. The first that exists wins, and the others are not read at all, so that a half-filled place is
reported and not silently completed from another:

1. ``spec.pairing`` of the CompassConnection, when it holds a token or a reference to one
2. the Secret ``APP_AGENT_CONFIGURATION_SECRET``
3. the ConfigMap ``APP_AGENT_CONFIGURATION_CONFIG_MAP``

    ConfigurationError            names the object and each key in it that is missing or cannot be used
    ├── NothingConfigured         none of the three places exists
    └── TokenSecretUnusable       the Secret of a tokenSecretRef, which nobody watches: look again after a while
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from controller.settings import ObjectName

_CONNECTOR_URL, _RUNTIME_ID, _TENANT, _TOKEN = "CONNECTOR_URL", "RUNTIME_ID", "TENANT", "TOKEN"
_MAX_VALUE = 4096  # longer values would not fit a header

ReadSecret = Callable[[ObjectName], Mapping[str, Any] | None]
"""Gives a Secret as the API server has it, or None; raises TokenSecretUnusable or informers.ApiError."""


class ConfigurationError(Exception):
    """Pairing is not possible with what is configured."""


class NothingConfigured(ConfigurationError):
    """There is nothing to pair with, so nobody asks for a pairing either."""


class TokenSecretUnusable(ConfigurationError):
    """The Secret of ``spec.pairing.tokenSecretRef`` is missing, unreadable or has no token."""


@dataclass(frozen=True)
class PairingConfiguration:
    """How to pair. ``origin`` names the object it came from, for messages."""

    origin: str
    connector_url: str
    runtime_id: str
    tenant: str
    token: str = field(repr=False)
    from_connection: bool = False

    @property
    def fingerprint(self) -> str:
        """Equal for equal configurations, and telling nothing of the token: to see whether something changed."""
        parts = "\0".join((self.connector_url, self.runtime_id, self.tenant, self.token))
        return hashlib.sha256(parts.encode()).hexdigest()


def resolve(
    connection: Mapping[str, Any] | None,
    secret: Mapping[str, Any] | None,
    config_map: Mapping[str, Any] | None,
    *,
    secret_name: ObjectName,
    config_map_name: ObjectName,
    read_secret: ReadSecret,
) -> PairingConfiguration:
    """The configuration to pair with; raises ConfigurationError saying what is missing where."""
    pairing = _pairing_of(connection)
    if pairing is not None:
        return _from_connection(pairing, read_secret)
    if secret is not None:
        return _from_keys(f"Secret {secret_name}", _decoded(f"Secret {secret_name}", secret))
    if config_map is not None:
        return _from_keys(f"ConfigMap {config_map_name}", _strings(config_map.get("data")))
    raise NothingConfigured(
        f"no configuration to pair with: there is neither a ConfigMap {config_map_name} nor a Secret {secret_name}, "
        f"and the CompassConnection has no spec.pairing with a token"
    )


def runtime_identity(
    secret: Mapping[str, Any] | None, config_map: Mapping[str, Any] | None, connection: Mapping[str, Any] | None
) -> tuple[str, str] | None:
    """Runtime id and tenant as far as they are configured: for connections whose credentials do not tell them.

    Those are the ones that were established by the Go agent, which reads both from its configuration at each sync.
    """
    pairing = _strings((connection or {}).get("spec", {}).get("pairing"))
    for values, runtime_id, tenant in (
        (pairing, "runtimeId", "tenant"),
        (_secret_strings(secret), _RUNTIME_ID, _TENANT),
        (_strings((config_map or {}).get("data")), _RUNTIME_ID, _TENANT),
    ):
        if values.get(runtime_id) and values.get(tenant):
            return values[runtime_id].strip(), values[tenant].strip()
    return None


def holds_token(connection: Mapping[str, Any], fingerprint: str) -> bool:
    """Whether ``spec.pairing`` holds, as literal, the very token of the configuration with that fingerprint."""
    pairing = _strings(connection.get("spec", {}).get("pairing"))
    if not pairing.get("token"):
        return False
    try:
        return _from_connection(pairing, lambda _: None).fingerprint == fingerprint
    except ConfigurationError:
        return False


def secret_value(secret: Mapping[str, Any], key: str) -> str:
    """The text under a key of a Secret; "" when the key is absent. Raises ValueError when it is no text."""
    value = (secret.get("data") or {}).get(key)
    if value is None:
        return ""
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, TypeError) as error:
        raise ValueError("is not base64 of UTF-8 text") from error


def _pairing_of(connection: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    pairing = (connection or {}).get("spec", {}).get("pairing")
    if isinstance(pairing, Mapping) and (pairing.get("token") or pairing.get("tokenSecretRef")):
        return pairing
    return None


def _from_connection(pairing: Mapping[str, Any], read_secret: ReadSecret) -> PairingConfiguration:
    origin = "CompassConnection spec.pairing"
    values = _strings(pairing)
    token = values.get("token", "")
    reference = pairing.get("tokenSecretRef")
    if not token and isinstance(reference, Mapping):
        name = ObjectName(str(reference.get("namespace", "")), str(reference.get("name", "")))
        key = str(reference.get("key") or _TOKEN)
        if not name.namespace or not name.name:
            raise ConfigurationError(f"{origin}: tokenSecretRef needs namespace and name")
        found = read_secret(name)
        if found is None:
            raise TokenSecretUnusable(f"{origin}: the Secret {name} of tokenSecretRef does not exist")
        try:
            token = secret_value(found, key)
        except ValueError as error:
            raise TokenSecretUnusable(f"Secret {name} of {origin}.tokenSecretRef: key {key} {error}") from error
        if not token.strip():
            raise TokenSecretUnusable(f"{origin}: the Secret {name} of tokenSecretRef has no value under the key {key}")
    names = {_CONNECTOR_URL: "connectorUrl", _RUNTIME_ID: "runtimeId", _TENANT: "tenant", _TOKEN: "token"}
    data = {key: values.get(name, "") for key, name in names.items()} | {_TOKEN: token}
    return _from_keys(origin, data, names=names, from_connection=True)


def _from_keys(
    origin: str, data: Mapping[str, str], *, names: Mapping[str, str] | None = None, from_connection: bool = False
) -> PairingConfiguration:
    problems, values = [], {}
    for key in (_CONNECTOR_URL, _RUNTIME_ID, _TENANT, _TOKEN):
        name = names[key] if names else key
        value = values[key] = data.get(key, "").strip()
        if not value:
            problems.append(f"{name} is missing" if key not in data else f"{name} is empty")
        elif len(value) > _MAX_VALUE or not value.isprintable() or not value.isascii():
            problems.append(f"{name} is not one line of printable ASCII of at most {_MAX_VALUE} characters")
        elif key == _CONNECTOR_URL and not _is_https_url(value):
            problems.append(f"{name} is not a URL that starts with https:// and has no user name in it")
    if problems:
        raise ConfigurationError(f"{origin}: {', '.join(problems)}")
    return PairingConfiguration(
        origin=origin,
        connector_url=values[_CONNECTOR_URL],
        runtime_id=values[_RUNTIME_ID],
        tenant=values[_TENANT],
        token=values[_TOKEN],
        from_connection=from_connection,
    )


def _is_https_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc and " " not in text


def _decoded(origin: str, secret: Mapping[str, Any]) -> dict[str, str]:
    values, problems = {}, []
    for key in (_CONNECTOR_URL, _RUNTIME_ID, _TENANT, _TOKEN):
        if key not in (secret.get("data") or {}):
            continue
        try:
            values[key] = secret_value(secret, key)
        except ValueError as error:
            problems.append(f"{key} {error}")
    if problems:
        raise ConfigurationError(f"{origin}: {', '.join(problems)}")
    return values


def _secret_strings(secret: Mapping[str, Any] | None) -> dict[str, str]:
    if secret is None:
        return {}
    try:
        return _decoded("", secret)
    except ConfigurationError:
        return {}  # it is reported where pairing needs it


def _strings(values: object) -> dict[str, str]:
    return {k: v for k, v in values.items() if isinstance(v, str)} if isinstance(values, Mapping) else {}
