"""``compass-runtime-agent revoke``: end the connection for good, with nothing left that could be used.

1  the CompassConnection is marked, so that a running agent does not pair again with what is configured now
2  the certificate is revoked at the Connector, over mTLS
3  both Secrets are deleted
4  the CompassConnection tells it (a running agent would write the very same)

When 2 fails because the Connector cannot be reached, the mark is taken away and nothing has changed. When the Connector
does not accept the certificate, there is nothing left to revoke, and 3 and 4 follow. Ended in between, the command can
be run again.
"""

import time
from collections.abc import Callable
from typing import TextIO

from controller.commands import snapshot
from controller.compass.errors import CompassError, Refused
from controller.connection import revocation
from controller.connection import status as cc
from controller.connection.configuration import ConfigurationError, PairingConfiguration
from controller.connection.credentials import Connection, CredentialsError, StoredCredentials
from controller.connection.sessions import Sessions, request_id
from controller.resources import CONNECTION_NAME
from controller.settings import Settings
from informers import ApiError, Client

DONE, FAILED = 0, 1


def revoke(
    client: Client,
    settings: Settings,
    *,
    confirm: Callable[[str], bool],
    out: TextIO,
    now: Callable[[], float] = time.time,
) -> int:
    """Revoke, when ``confirm`` says yes to the question it is given; gives the exit status."""
    try:
        return _revoke(snapshot.take(client, settings), settings, confirm, out, now)
    except ApiError as error:
        print(f"Stopped by the API server: {error}. Run the command again.", file=out)
        return FAILED


def _revoke(
    taken: snapshot.Snapshot,
    settings: Settings,
    confirm: Callable[[str], bool],
    out: TextIO,
    now: Callable[[], float],
) -> int:
    try:
        credentials = taken.credentials.load()
    except CredentialsError as error:
        print(f"There is no certificate to revoke: {error}", file=out)
        return FAILED
    known = credentials.connection
    if known is None:
        print("It is not known where the certificate is to be revoked: the agent has not taken it over yet.", file=out)
        return FAILED
    question = (
        f"Revoke the certificate of Runtime {known.runtime_id} at {known.connector_url}? The Applications stay, but "
        f"are not updated until a new one-time token is configured."
    )
    if not confirm(question):
        print("Nothing was changed.", file=out)
        return FAILED
    configuration = _configuration(taken)
    taken.connections.put(CONNECTION_NAME, lambda obj: revocation.mark(obj, configuration))
    try:
        _at_connector(settings, credentials, known)
        print("The certificate is revoked.", file=out)
    except Refused as error:
        print(f"The Connector does not accept the certificate, so there is nothing left to revoke: {error}", file=out)
    except CompassError as error:
        taken.connections.put(CONNECTION_NAME, revocation.unmark)
        print(f"The certificate could not be revoked, and nothing was changed: {error}", file=out)
        return FAILED
    taken.credentials.delete()
    reason = revocation.reason(configuration)
    taken.connections.put(CONNECTION_NAME, lambda obj: cc.connection_failed(obj, reason, now=now()))
    print(f"The Secrets are deleted; {reason}.", file=out)
    return DONE


def _configuration(taken: snapshot.Snapshot) -> PairingConfiguration | None:
    try:
        return taken.configured.resolve(taken.connection)
    except ConfigurationError:
        return None


def _at_connector(settings: Settings, credentials: StoredCredentials, known: Connection) -> None:
    sessions = Sessions(ca_file=settings.compass_ca_file, skip_verify=settings.skip_compass_tls_verify)
    try:
        sessions.connector(credentials).revoke(known.connector_url, request_id=request_id(known.runtime_id))
    finally:
        sessions.close()
