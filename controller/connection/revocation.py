"""The mark of a connection that an operator has revoked: the agent must not pair again with what is configured then.

It is an annotation of the CompassConnection, so that it survives restarts, the Go agent's CRD and the agent's own
writes of the status. It holds the fingerprint of the configuration, which tells nothing of the token. As soon as the
configuration is another one, or the CompassConnection is deleted, the mark means nothing any more.
"""

from collections.abc import Mapping
from typing import Any

from controller.connection.configuration import PairingConfiguration

ANNOTATION = "compass.kyma-project.io/revoked-with"

_UNCONFIGURED = "none"

Object = dict[str, Any]


def reason(configuration: PairingConfiguration | None) -> str:
    """Why there is no connection, and how to get one."""
    place = configuration.origin if configuration else "the configuration"
    return f"the certificate was revoked by an operator; to connect, put a new one-time token into {place}"


def mark(connection: Object, configuration: PairingConfiguration | None) -> None:
    """Note that the connection is revoked while this is configured; None: nothing that could be paired with."""
    connection["metadata"].setdefault("annotations", {})[ANNOTATION] = _value(configuration)


def is_marked(connection: Mapping[str, Any] | None, configuration: PairingConfiguration | None) -> bool:
    """Whether the connection was revoked and nothing else was configured since."""
    annotations = (connection or {}).get("metadata", {}).get("annotations") or {}
    found: object = annotations.get(ANNOTATION)
    return found == _value(configuration)


def unmark(connection: Object) -> None:
    """There is a new connection."""
    annotations = connection["metadata"].get("annotations")
    if annotations:
        annotations.pop(ANNOTATION, None)
        if not annotations:
            del connection["metadata"]["annotations"]


def _value(configuration: PairingConfiguration | None) -> str:
    return _UNCONFIGURED if configuration is None else configuration.fingerprint
