"""Stores a one-time token in the Secret with the configuration, which has precedence over the ConfigMap.

It is a Secret because more people may read ConfigMaps. It is not written with `kubectl apply`, which would keep a copy
of the token in `last-applied-configuration`. Before the write, the result is checked with the reader of the agent.
"""

import base64
from collections.abc import Mapping
from typing import Any

from controller.connection.configuration import ConfigurationProblem, PairingConfiguration, resolve
from controller.fields import member
from controller.resources import CONFIG_MAP, SECRET
from controller.settings import ObjectName
from informers import Client, NotFound
from kubectl_compass.cluster import find

_MAX_TOKEN = 4096

Object = dict[str, Any]


class Unusable(Exception):
    """The given and the stored values are not a complete, valid configuration. Nothing was written."""


def token_of(text: str) -> str:
    """The token in the text from standard input. Raises Unusable, whose message does not contain the text."""
    token = text.strip()
    if not token:
        raise Unusable("there is no one-time token on standard input")
    if len(token) > _MAX_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise Unusable("what is on standard input is not a one-time token: one word of printable ASCII")
    return token


def store(client: Client, name: ObjectName, given: Mapping[str, str]) -> tuple[PairingConfiguration, bool]:
    """Write the token and the given ones of CONNECTOR_URL, RUNTIME_ID and TENANT into the Secret; keep other values.

    Returns the configuration, and whether the Secret is new and hides the ConfigMap that was used before.
    Raises Unusable or informers.ApiError.
    """
    patch = {"data": _encoded(given)}
    try:
        result = _usable(name, client.patch(SECRET, name.name, patch, namespace=name.namespace, dry_run=True))
    except NotFound:
        return _create(client, name, given)
    client.patch(SECRET, name.name, patch, namespace=name.namespace)
    return result, False


def _create(client: Client, name: ObjectName, given: Mapping[str, str]) -> tuple[PairingConfiguration, bool]:
    """With the values of the ConfigMap, if there is one, because it is not read if there is a Secret."""
    known = member(find(client, CONFIG_MAP, name.name, name.namespace), "data")
    values = {key: value for key, value in known.items() if isinstance(value, str)} | dict(given)
    secret = {
        "apiVersion": SECRET.api_version,
        "kind": SECRET.kind,
        "metadata": {"name": name.name, "namespace": name.namespace},
        "type": "Opaque",
        "data": _encoded(values),
    }
    result = _usable(name, secret)
    client.create(SECRET, secret, namespace=name.namespace)
    return result, bool(known)


def _encoded(values: Mapping[str, str]) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


def _usable(name: ObjectName, secret: Mapping[str, Any]) -> PairingConfiguration:
    found = resolve(None, secret, None, name=name)
    if isinstance(found, ConfigurationProblem):
        raise Unusable(f"nothing was written, because the agent could not use it: {found.text}")
    return found
