"""The admin API: what a scenario or a person may do to the running mock, as JSON over plain HTTP.

`GET /` lists all calls. Answers are JSON; errors are `{"error": "..."}` with 400 or 404.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from e2e.mock_compass.compass import Compass
from e2e.mock_compass.examples import landscape
from e2e.mock_compass.faults import Fault
from e2e.mock_compass.gateway import OUTAGES
from e2e.mock_compass.state import TOKEN_LIFETIME, UnknownError

Call = Callable[..., Any]
"""Gets the body and the parts of the path."""


class Admin:
    """`handle` is the aiohttp handler."""

    def __init__(self, compass: Compass) -> None:
        self._compass = compass
        state, faults, outages, requests = compass.state, compass.faults, compass.outages, compass.requests
        self._calls: dict[str, tuple[str, Call]] = {
            "GET /": ("this list", lambda _: self._help()),
            "GET /status": ("URLs, Runtimes, numbers", lambda _: self._status()),
            "GET /ca": ("PEM of the authority of the servers", lambda _: {"ca": compass.ca_pem}),
            "GET /applications": ("all Applications", lambda _: state.applications()),
            "POST /applications": (
                "adds or replaces one, and assigns it to the first Runtime",
                lambda body: {"id": compass.put_application(body)["id"]},
            ),
            "POST /applications/examples": (
                "the example landscape, assigned",
                lambda _: {"ids": [compass.put_application(one)["id"] for one in landscape()]},
            ),
            "POST /applications/generate": (
                '{"count"}: so many small ones, assigned',
                lambda body: compass.generate_applications(int(body["count"])),
            ),
            "PATCH /applications/{id}": (
                "replaces the given top-level fields",
                lambda body, application: state.change_application(application, body),
            ),
            "DELETE /applications/{id}": ("removes it", lambda _, application: state.remove_application(application)),
            "DELETE /runtimes/{runtime}/applications/{id}": (
                "unassigns it",
                lambda _, runtime, application: state.unassign(application, runtime),
            ),
            "POST /runtimes/{runtime}/tokens": (
                '{"lifetime"?}: the values that a Runtime is configured with, and a one-time token',
                lambda body, runtime: self._issue_token(runtime, float(body.get("lifetime", TOKEN_LIFETIME))),
            ),
            "GET /runtimes/{runtime}/certificates": (
                "issued certificates",
                lambda _, runtime: [
                    {**dataclasses.asdict(one), "revoked": state.is_revoked(one.fingerprint)}
                    for one in state.certificates(runtime)
                ],
            ),
            "DELETE /runtimes/{runtime}/certificates": (
                "revokes them all",
                lambda _, runtime: {"revoked": state.revoke_all(runtime)},
            ),
            "POST /faults": ("arms one (fields of Fault)", lambda body: {"number": faults.add(Fault(**body))}),
            "DELETE /faults": ("removes all", lambda _: faults.clear()),
            "PUT /outages/{name}": (
                f"takes it down; one of {', '.join(OUTAGES)}",
                lambda _, name: outages.begin(name),
            ),
            "DELETE /outages/{name}": ("ends one", lambda _, name: outages.end(name)),
            "DELETE /outages": ("ends all", lambda _: outages.clear()),
            "GET /requests": (
                "the log of requests, without secrets",
                lambda _: [dataclasses.asdict(request) for request in requests.all()],
            ),
        }

    async def handle(self, request: web.Request) -> web.Response:
        raw = await request.read()
        try:
            status, answer = self._call(request.method, request.path, orjson.loads(raw) if raw else {})
        except UnknownError as error:
            status, answer = 404, {"error": str(error)}
        except (ValueError, TypeError, KeyError) as error:
            status, answer = 400, {"error": str(error)}
        body = orjson.dumps(answer, option=orjson.OPT_INDENT_2) + b"\n"
        return web.Response(status=status, body=body, content_type="application/json")

    def _call(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """HTTP status and answer."""
        for pattern, (_text, call) in self._calls.items():
            if found := re.fullmatch(re.sub(r"\{\w+\}", "([^/]+)", pattern), f"{method} {path}"):
                return 200, call(body, *found.groups())
        return 404, {"error": f"there is no {method} {path}; see GET /"}

    def _help(self) -> list[str]:
        return [f"{pattern}: {text}" for pattern, (text, _call) in self._calls.items()]

    def _status(self) -> dict[str, Any]:
        compass = self._compass
        return {
            "connectorUrl": compass.connector_url,
            "securedConnectorUrl": compass.secured_connector_url,
            "directorUrl": compass.director_url,
            "applications": len(compass.state.applications()),
            "runtimes": [
                {
                    "id": runtime.id,
                    "tenant": runtime.tenant,
                    "labels": runtime.labels,
                    "applications": len(runtime.applications),
                }
                for runtime in compass.state.runtimes()
            ],
        }

    def _issue_token(self, runtime_id: str, lifetime: float) -> dict[str, str]:
        runtime = self._compass.state.runtime(runtime_id)
        if runtime is None:
            raise UnknownError("Runtime", runtime_id)
        return {
            "CONNECTOR_URL": self._compass.connector_url,
            "RUNTIME_ID": runtime.id,
            "TENANT": runtime.tenant,
            "TOKEN": self._compass.state.issue_token(runtime.id, lifetime=lifetime),
        }
