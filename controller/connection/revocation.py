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

PROOF = "compass.kyma-project.io/revoked-certificate"
"""Annotation with the fingerprint of a certificate whose revocation is proven, for another run of `revoke`."""

QUESTION = "compass.kyma-project.io/revocation-asked"
"""Annotation: the Connector accepted a certificate and was then asked to revoke it. Fingerprint, and epoch seconds."""

_QUESTION_SECONDS = 3600.0
"""After this time the Connector must be asked again whether it accepts the certificate."""

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


def note_proof(connection: Object, certificate: str) -> None:
    """Record that this certificate is revoked."""
    connection["metadata"].setdefault("annotations", {})[PROOF] = certificate


def is_proven(connection: Mapping[str, Any] | None, certificate: str) -> bool:
    """Whether it is recorded that this certificate is revoked."""
    return _annotation(connection, PROOF) == certificate


def note_question(connection: Object, certificate: str, now: float) -> None:
    """Record that the Connector accepts this certificate, and that the request to revoke it follows."""
    connection["metadata"].setdefault("annotations", {})[QUESTION] = f"{certificate} {int(now)}"


def was_asked(connection: Mapping[str, Any] | None, certificate: str, now: float) -> bool:
    """Whether there is a recent record that the Connector accepted this certificate before the request to revoke it."""
    noted, _, at = (_annotation(connection, QUESTION) or "").partition(" ")
    return noted == certificate and at.isdecimal() and 0 <= now - int(at[:12]) < _QUESTION_SECONDS


def unmark(connection: Object) -> None:
    """Remove the mark, because there is a new connection, or the old one was not revoked."""
    annotations = connection["metadata"].get("annotations")
    if annotations:
        for name in (ANNOTATION, PROOF, QUESTION):
            annotations.pop(name, None)
        if not annotations:
            del connection["metadata"]["annotations"]


def _mark(connection: Mapping[str, Any] | None) -> str | None:
    return _annotation(connection, ANNOTATION)


def _annotation(connection: Mapping[str, Any] | None, name: str) -> str | None:
    return None if connection is None else fields.annotations(connection).get(name)


def _value(configuration: Configuration) -> str:
    return _UNCONFIGURED if isinstance(configuration, ConfigurationProblem) else configuration.fingerprint
