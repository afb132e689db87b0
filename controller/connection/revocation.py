"""The mark of a connection that an operator has revoked: the agent must not pair again with the same configuration.

It is an annotation of the CompassConnection, so it survives restarts, the Go agent's CRD and the agent's own writes of
the status. It contains a fingerprint of the configuration, which does not disclose the token. When the configuration
changes, or the CompassConnection is deleted, the mark has no effect.
"""

from collections.abc import Mapping
from typing import Any

from controller.connection.configuration import ConfigurationProblem, PairingConfiguration
from controller.model import fields


class RevokedMeanwhile(Exception):
    """The connection was marked as revoked after the decision to pair or to renew."""


ANNOTATION = "compass.kyma-project.io/revoked-with"

_UNCONFIGURED = "none"

Object = dict[str, Any]
Configuration = PairingConfiguration | ConfigurationProblem


def mark(connection: Object, configuration: Configuration) -> None:
    """Mark the connection as revoked for this configuration."""
    connection["metadata"].setdefault("annotations", {})[ANNOTATION] = _value(configuration)


def has_mark(connection: Mapping[str, Any] | None) -> bool:
    """Whether there is a mark, for any configuration."""
    return _mark(connection) is not None


def is_newly_marked(connection: Mapping[str, Any] | None, earlier: Mapping[str, Any] | None) -> bool:
    """Whether a revocation has begun since the CompassConnection was read as `earlier`."""
    return _mark(connection) not in (None, _mark(earlier))


def is_marked(connection: Mapping[str, Any] | None, configuration: Configuration) -> bool:
    """Whether the connection was revoked, and the configuration has not changed since."""
    return _mark(connection) == _value(configuration)


def unmark(connection: Object) -> None:
    """Remove the mark, because there is a new connection, or the old one was not revoked."""
    annotations = connection["metadata"].get("annotations") or {}
    if annotations.pop(ANNOTATION, None) is not None and not annotations:
        del connection["metadata"]["annotations"]


def _mark(connection: Mapping[str, Any] | None) -> str | None:
    return None if connection is None else fields.annotations(connection).get(ANNOTATION)


def _value(configuration: Configuration) -> str:
    return _UNCONFIGURED if isinstance(configuration, ConfigurationProblem) else configuration.fingerprint
