"""The mock Compass as scenarios see it: through its admin API, wherever it runs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests

from e2e.mock_compass.examples import landscape

_SECONDS = 30.0  # of one call; bulk loads take a few

Object = dict[str, Any]


class Compass:
    """Connector and Director from the side of an administrator. Raises requests.HTTPError for what they refuse."""

    def __init__(self, admin_url: str) -> None:
        self._url = admin_url
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy stands between this test and its mock
        self.runtime_id: str = self.call("GET", "/status")["runtimes"][0]["id"]

    def close(self) -> None:
        self._session.close()

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One call; `GET /` of the admin API lists them all."""
        answer = self._session.request(method, self._url + path, json=body, timeout=_SECONDS)
        answer.raise_for_status()
        return answer.json()

    @property
    def ca_pem(self) -> str:
        text: str = self.call("GET", "/ca")["ca"]
        return text

    def configuration(self, *, token: str | None = None) -> dict[str, str]:
        """What a cluster has to be configured with: four values, with a fresh one-time token when none is given."""
        values: dict[str, str] = self.call("POST", f"/runtimes/{self.runtime_id}/tokens", {})
        return values if token is None else values | {"TOKEN": token}

    def reset(self) -> None:
        """Nothing is broken or down, and what is assigned is the example landscape as it was at the beginning."""
        self.call("DELETE", "/faults")
        self.call("DELETE", "/outages")
        wanted = {application["id"] for application in landscape()}
        self.call("POST", "/applications/examples")
        for application in self.call("GET", "/applications"):
            if application["id"] not in wanted:
                self.call("DELETE", f"/applications/{application['id']}")

    def put(self, application: Mapping[str, Any]) -> None:
        """Adds an Application, or replaces the one of its id, and assigns it."""
        self.call("POST", "/applications", dict(application))

    def generate(self, count: int) -> None:
        """Adds so many small Applications, and assigns them."""
        self.call("POST", "/applications/generate", {"count": count})

    def change(self, application_id: str, **fields: object) -> None:
        self.call("PATCH", f"/applications/{application_id}", fields)

    def unassign(self, application_id: str) -> None:
        self.call("DELETE", f"/runtimes/{self.runtime_id}/applications/{application_id}")

    def labels(self) -> Object:
        """Of the Runtime."""
        runtimes = self.call("GET", "/status")["runtimes"]
        labels: Object = next(runtime["labels"] for runtime in runtimes if runtime["id"] == self.runtime_id)
        return labels

    def certificates(self) -> list[Object]:
        """All that were issued to the Runtime, in order."""
        issued: list[Object] = self.call("GET", f"/runtimes/{self.runtime_id}/certificates")
        return issued

    @contextmanager
    def outage(self, name: str = "gateway") -> Iterator[None]:
        """What is down, and every endpoint answers as the real ones do (`e2e/mock_compass/gateway.py`)."""
        self.call("PUT", f"/outages/{name}")
        try:
            yield
        finally:
            self.call("DELETE", f"/outages/{name}")
