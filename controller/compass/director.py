"""The Director: which applications are assigned to the Runtime, and the Runtime's labels."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from controller.compass.answers import Answer
from controller.compass.errors import identified_by
from controller.compass.fetch import APPLICATIONS_PER_PAGE, Fetch, KnownApplications
from controller.compass.graphql import TOTAL_TIMEOUT, Transport
from controller.compass.limits import Limits
from controller.compass.queries import SET_RUNTIME_LABEL, VIEWER, Operation
from controller.compass.types import Assignment, Viewer

T = TypeVar("T")


class DirectorClient:
    """Calls the Director over `transport` (mTLS). `tenant` is the external tenant id, "" to send none.

    Every method raises any CompassError. `request_id` is sent as x-request-id. `limits` bound a fetch; `known` are
    what earlier ones have read.
    """

    def __init__(
        self,
        transport: Transport,
        url: str,
        *,
        tenant: str,
        limits: Limits | None = None,
        known: KnownApplications | None = None,
        applications_per_page: int = APPLICATIONS_PER_PAGE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._url = url
        self._headers = {"Tenant": tenant} if tenant else {}
        self._limits = limits or Limits()
        self._known: KnownApplications = {} if known is None else known
        self._applications_per_page = applications_per_page
        self._monotonic = monotonic

    def viewer(self, *, request_id: str) -> Viewer | None:
        """Whom the certificate belongs to, as the Director knows it.

        None when the Director answers with a GraphQL error: a Compass that does not know the field or does not allow
        it, but also one that cannot say just now. So None is not final: ask again after another call has succeeded.
        """
        with identified_by(request_id):
            answer = self._call(VIEWER, {}, request_id=request_id)
            return None if answer.errors else answer.whole().viewer

    def fetch(self, runtime_id: str, *, request_id: str) -> Assignment:
        """Read everything that is assigned to the Runtime.

        All applications that share an id are incomplete. Raises InvalidAnswer with path "applicationsForRuntime" if no
        reading was consistent, TooLarge or Unavailable if a limit was exceeded.
        """
        fetch = Fetch(
            partial(self._call, request_id=request_id),
            runtime_id,
            per_page=self._applications_per_page,
            limits=self._limits,
            known=self._known,
            monotonic=self._monotonic,
        )
        with identified_by(request_id):
            return fetch.run()

    def set_runtime_label(self, runtime_id: str, key: str, value: str, *, request_id: str) -> None:
        """Set one label of the Runtime, and leave the others as they are."""
        variables = {"runtime": runtime_id, "key": key, "value": value}
        with identified_by(request_id):
            self._call(SET_RUNTIME_LABEL, variables, request_id=request_id).whole()

    def _call(
        self,
        operation: Operation[T],
        variables: dict[str, Any],
        *,
        request_id: str,
        timeout: float = TOTAL_TIMEOUT,
    ) -> Answer[T]:
        return self._transport.execute(
            self._url,
            operation,
            variables,
            headers=self._headers,
            request_id=request_id,
            timeout=timeout,
            may_be_abandoned=True,
        )
