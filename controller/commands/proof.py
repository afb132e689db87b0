"""Revokes one certificate at the Connector, until this is proven.

During an outage of its Director or its database, Compass refuses every certificate with the same answers as a revoked
one: an empty HTTP 400 of the Connector, "insufficient scopes" of the Director. So a refusal alone proves nothing. Each
of these is a proof:

* the Connector confirms the revocation
* the Connector refuses the certificate, and it has expired
* the Connector accepted the certificate right before it was asked to revoke it, its answer was lost, and since then
  Connector and Director have refused the certificate for longer than an outage, without a break

    NotRevoked     nothing was done
    └── Unknown    the request may have had its effect, and its answer is missing
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TextIO

from controller.compass.connector import ConnectorClient
from controller.compass.director import DirectorClient
from controller.compass.errors import CompassError, InvalidAnswer, Refused, Unavailable, UnexpectedAnswer
from controller.connection import texts
from controller.connection.credentials import Registration, StoredCredentials
from controller.connection.sessions import Sessions, request_id
from workqueue.clock import Clock

_BETWEEN_QUESTIONS_SECONDS = 10.0


class NotRevoked(Exception):
    """The certificate was not revoked. The text for the operator says what to do."""


class Unknown(NotRevoked):
    """It is unknown whether the certificate was revoked."""


@dataclass(frozen=True, kw_only=True)
class Revoker:
    """`tolerance`: seconds in which refusals may be caused by an outage."""

    sessions: Sessions
    tolerance: float
    clock: Clock
    out: TextIO

    def revoke(
        self,
        credentials: StoredCredentials,
        registration: Registration,
        *,
        asked_before: bool,
        about_to_ask: Callable[[], object],
    ) -> str:
        """Return the proof, a text for the operator. Raises NotRevoked, and the errors of `about_to_ask`.

        `asked_before`: the Connector accepted the certificate in an earlier run, whose request had no answer.
        `about_to_ask` is called before the request, to store this fact for the next run.
        """
        identifier, url = request_id(registration.runtime_id), registration.connector_url
        connector = self.sessions.connector(credentials)
        if not asked_before:
            try:
                connector.configuration(url, request_id=identifier)
            except Refused as error:
                if self.clock.time() >= credentials.not_after:
                    return "There is nothing to revoke: the certificate has expired."
                raise NotRevoked(_refused(error, registration)) from error
            except CompassError as error:
                raise NotRevoked(_unchanged(error)) from error
            about_to_ask()
        try:
            connector.revoke(url, request_id=identifier)
        except CompassError as error:
            if not asked_before and isinstance(error, Refused):
                raise NotRevoked(_refused(error, registration)) from error
            if not asked_before and not _answer_is_lost(error):
                raise NotRevoked(_unchanged(error)) from error
            director = self.sessions.director(credentials, registration)
            self._ask_again(error, connector, url, director, identifier)
        return f"The certificate is revoked (x-request-id: {identifier})."

    def _ask_again(
        self, lost: CompassError, connector: ConnectorClient, url: str, director: DirectorClient, identifier: str
    ) -> None:
        """Returns when the certificate is revoked."""
        print(
            f"The answer of the Connector is missing: {lost}. A refusal may also be that of an outage, so the "
            f"request is repeated for {texts.duration(self.tolerance)}.",
            file=self.out,
            flush=True,
        )
        never, end = threading.Event(), self.clock.monotonic() + self.tolerance
        while self.clock.monotonic() < end:
            self.clock.sleep(_BETWEEN_QUESTIONS_SECONDS, never)
            try:
                connector.revoke(url, request_id=identifier)
            except Refused as error:
                self._assert_director_refuses(error, director, identifier)
            except CompassError as error:
                raise Unknown(_unknown(error)) from error
            else:
                return

    def _assert_director_refuses(self, refusal: Refused, director: DirectorClient, identifier: str) -> None:
        try:
            viewer = director.viewer(request_id=identifier)
        except Refused:
            return
        except CompassError as error:
            raise Unknown(_unknown(error)) from error
        if viewer is not None:
            raise Unknown(_unknown(refusal)) from refusal


def _answer_is_lost(error: CompassError) -> bool:
    """The answer is missing, incomplete or invalid. An HTTP status other than 200 means that nothing was done."""
    match error:
        case Unavailable(status=status) | UnexpectedAnswer(status=status):
            return status in (0, HTTPStatus.OK)
        case _:
            return isinstance(error, InvalidAnswer)


def _unchanged(error: CompassError) -> str:
    return f"The certificate could not be revoked, and nothing was changed: {error}"


def _unknown(error: CompassError) -> str:
    return f"The certificate may or may not be revoked: {error}. Run the command again within the hour."


def _refused(error: Refused, registration: Registration) -> str:
    return (
        f"Compass refuses the certificate, so it could not be revoked, and nothing was changed: {error}. Compass "
        f"refuses a certificate that is already revoked, and every certificate while its Director or its database is "
        f"down. Run the command again when Compass is available. If Compass refuses the certificate then too, it is "
        f"revoked, or Runtime {registration.runtime_id} is not registered any more: delete the Secret with the "
        f"certificate, or reconnect with a new one-time token."
    )
