"""Whose certificate it is: asked before the first fetch, since the Director serves a wrong RUNTIME_ID without an error.

Runtimes of one tenant may read and label each other. With the id of another Runtime, all Applications of this cluster
would be replaced by those of the other one.
"""

import logging

from controller.compass.director import DirectorClient
from controller.connection.credentials import Registration, StoredCredentials
from controller.connection.health import Health, Verdict

log = logging.getLogger(__name__)


class Identity:
    """Asks for each certificate and configured Runtime, until the Director has said whose it is.

    A Director that does not say may be of an older Compass, which does not know the question, or out of order. So it is
    asked once more after it has answered something else: when it still does not say, it never will.
    """

    def __init__(self, health: Health) -> None:
        self._health = health

    def is_another(self, credentials: StoredCredentials, registration: Registration) -> bool:
        """Whether the certificate is known to belong to another Runtime than the configured one."""
        verdict = self._verdict(credentials, registration)
        return verdict is not None and verdict.actual not in (None, registration.runtime_id)

    def may_be_ours(
        self,
        director: DirectorClient,
        credentials: StoredCredentials,
        registration: Registration,
        *,
        request_id: str,
        served: bool = False,
    ) -> bool:
        """Whether the Director may be asked for the configured Runtime, and its answer be used.

        ``served``: it has just answered something else. Raises CompassError.
        """
        verdict = self._verdict(credentials, registration)
        if verdict is None or not verdict.settled:
            viewer = director.viewer(request_id=request_id)
            actual = viewer.id if viewer is not None else None
            settled = actual == registration.runtime_id or (actual is None and served)
            verdict = Verdict(credentials.fingerprint, registration.runtime_id, actual, settled)
            self._health.identified(verdict)
            if settled and actual is None:
                log.warning(
                    "The Director does not return the Runtime of the certificate, so RUNTIME_ID cannot be checked"
                )
        return verdict.actual in (None, registration.runtime_id)

    def _verdict(self, credentials: StoredCredentials, registration: Registration) -> Verdict | None:
        verdict = self._health.facts().verdict
        asked_for = (credentials.fingerprint, registration.runtime_id)
        return verdict if verdict is not None and (verdict.certificate, verdict.configured) == asked_for else None
