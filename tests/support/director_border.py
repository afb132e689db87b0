"""The Director of the mock behind the agent's own client, without sockets: for any answer.

Only the exchange of bytes is replaced; queries, paging, parsing and redaction are the real ones.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from controller.compass.director import DirectorClient
from controller.compass.graphql import Transport
from controller.compass.http import HttpAnswer
from e2e.mock_compass.director import DirectorContext, executor
from e2e.mock_compass.examples import generate
from e2e.mock_compass.executor import RequestError
from e2e.mock_compass.faults import Disorder
from e2e.mock_compass.state import State
from tests.support.connector_border import tls_context

RUNTIME = "6f0c1a4e-0000-4000-8000-000000000001"  # the Director insists on a UUID


class DirectorBorder:
    """A Director with `count` Applications. `intervene` gets the true answer and gives the one that is sent."""

    def __init__(self, count: int) -> None:
        self.state = State(clock=time.time)
        self.state.register_runtime(tenant="t", runtime_id=RUNTIME)
        for application in generate(count):
            self.state.put_application(application, assign_to=(RUNTIME,))
        self.intervene: Callable[[dict[str, Any]], HttpAnswer] = truthful
        self._executor = executor(Disorder())

    def client(self) -> DirectorClient:
        transport = Transport(tls_context())
        transport._http = self  # type: ignore[assignment]
        return DirectorClient(transport, "https://director.example/graphql", tenant="t")

    def post(
        self, _url: str, body: bytes, *, headers: Mapping[str, str], timeout: float, may_be_abandoned: bool
    ) -> HttpAnswer:
        assert may_be_abandoned
        prepared = self._executor.prepare(body)
        assert not isinstance(prepared, RequestError)
        return self.intervene(prepared.run(DirectorContext(self.state, self.state.runtime(RUNTIME))))

    def close(self) -> None:
        pass


def truthful(document: dict[str, Any]) -> HttpAnswer:
    return HttpAnswer(200, orjson.dumps(document), "")
