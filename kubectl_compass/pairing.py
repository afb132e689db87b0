"""Where a one-time token goes: into the Secret with the configuration, which wins over the ConfigMap.

A Secret, because more people may read ConfigMaps. It is patched or created through the API, so kubectl keeps no copy of
the token in `last-applied-configuration`. The agent's own reader says whether what results could be used, before it
is written.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.connection.configuration import ConfigurationProblem, PairingConfiguration, resolve
from controller.model.fields import member
from controller.resources import CONFIG_MAP, SECRET
from controller.settings import ObjectName, Settings
from informers import Client, NotFound
from kubectl_compass.cluster import find

_MAX_TOKEN = 4096

Object = dict[str, Any]


@dataclass(frozen=True)
class Stored:
    """What is configured now, and in which Secret. `hides`: the ConfigMap that was in use before, None without."""

    configuration: PairingConfiguration
    secret: ObjectName
    hides: ObjectName | None = None


class Unusable(Exception):
    """What is given and what is configured do not make a configuration. Nothing was written."""


def token_of(text: str) -> str:
    """The token in what standard input held; raises Unusable, whose text does not quote it."""
    token = text.strip()
    if not token:
        raise Unusable("there is no one-time token on standard input")
    if len(token) > _MAX_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise Unusable("what is on standard input is not a one-time token: one word of printable ASCII")
    return token


def named_in_connection(connection: Mapping[str, Any] | None) -> str:
    """What in `spec.pairing` wins over Secret and ConfigMap, for a message; "" when nothing does."""
    pairing = member(member(connection, "spec"), "pairing")
    reference = member(pairing, "tokenSecretRef")
    if reference:
        return f"names the Secret {reference.get('namespace')}/{reference.get('name')} in spec.pairing.tokenSecretRef"
    return "has a token in spec.pairing" if pairing.get("token") else ""


def store(client: Client, settings: Settings, given: Mapping[str, str]) -> Stored:
    """Write the token, and what else is given of CONNECTOR_URL, RUNTIME_ID and TENANT, over what is configured.

    Raises Unusable or informers.ApiError.
    """
    name = settings.configuration_secret
    patch = {"data": _encoded(given)}
    try:
        result = _usable(settings, client.patch(SECRET, name.name, patch, namespace=name.namespace, dry_run=True))
    except NotFound:
        return _create(client, settings, given)
    client.patch(SECRET, name.name, patch, namespace=name.namespace)
    return Stored(result, name)


def _create(client: Client, settings: Settings, given: Mapping[str, str]) -> Stored:
    """With the addresses of the ConfigMap, where there is one: it is not read any more once there is a Secret."""
    name, config_map = settings.configuration_secret, settings.configuration_config_map
    known = member(find(client, CONFIG_MAP, config_map.name, config_map.namespace), "data")
    values = {key: value for key, value in known.items() if isinstance(value, str)} | dict(given)
    secret = {
        "apiVersion": SECRET.api_version,
        "kind": SECRET.kind,
        "metadata": {"name": name.name, "namespace": name.namespace},
        "type": "Opaque",
        "data": _encoded(values),
    }
    result = _usable(settings, secret)
    client.create(SECRET, secret, namespace=name.namespace)
    return Stored(result, name, hides=config_map if known else None)


def _encoded(values: Mapping[str, str]) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


def _usable(settings: Settings, secret: Mapping[str, Any]) -> PairingConfiguration:
    found = resolve(
        None,
        secret,
        None,
        secret_name=settings.configuration_secret,
        config_map_name=settings.configuration_config_map,
        read_secret=lambda _: None,
    )
    if isinstance(found, ConfigurationProblem):
        raise Unusable(f"nothing was written, because the agent could not use it: {found.text}")
    return found
