"""The admin API: everything a test or a person may do to the running mock, as JSON over plain HTTP.

`Admin.call` is the API without HTTP. A fault of kind `action` replays such calls between two requests of an agent,
so that `{"kind": "action", "next_page": true, "calls": [{"method": "DELETE", "path": "/applications/<id>"}]}` removes
an Application between two pages.

`GET /` lists all calls. Answers are JSON; errors are `{"error": "..."}` with 400, 404 or 405.
"""

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from e2e.mock_compass import examples
from e2e.mock_compass.faults import PAGES, Fault
from e2e.mock_compass.outages import OUTAGES
from e2e.mock_compass.state import TOKEN_LIFETIME, Runtime, UnknownError

if TYPE_CHECKING:
    from e2e.mock_compass.server import MockCompass


class AdminError(Exception):
    """A call that cannot be done; `status` is its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class _Route:
    method: str
    path: str
    text: str
    call: Callable[[Any, dict[str, str]], Any]

    def match(self, path: str) -> dict[str, str] | None:
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path)
        found = re.fullmatch(pattern, path)
        return found.groupdict() if found else None


class Admin:
    def __init__(self, compass: "MockCompass") -> None:
        self._compass = compass
        self._state = compass.state
        self._routes = (
            _Route("GET", "/", "this list", self._help),
            _Route("GET", "/status", "URLs, Runtimes, numbers", self._status),
            _Route("GET", "/ca", "PEM of the authority of the servers", self._ca),
            _Route("GET", "/applications", "all Applications", self._list_applications),
            _Route(
                "POST",
                "/applications",
                'one or {"applications": [...]}; "assignTo": ids, default: the first Runtime',
                self._put_applications,
            ),
            _Route("POST", "/applications/examples", "the example landscape, assigned", self._examples),
            _Route("POST", "/applications/generate", '{"count", "prefix"?}, assigned', self._generate),
            _Route("DELETE", "/applications", "removes all", self._remove_all),
            _Route("GET", "/applications/{id}", "one Application", self._get_application),
            _Route("PATCH", "/applications/{id}", "replaces the given top-level fields", self._change),
            _Route("DELETE", "/applications/{id}", "removes it", self._remove),
            _Route("POST", "/runtimes", '{"tenant"?, "id"?, "name"?, "labels"?}', self._register),
            _Route("DELETE", "/runtimes/{runtime}", "unregisters it", self._unregister),
            _Route("PUT", "/runtimes/{runtime}/applications/{id}", "assigns", self._assign),
            _Route("DELETE", "/runtimes/{runtime}/applications/{id}", "unassigns", self._unassign),
            _Route("PUT", "/runtimes/{runtime}/labels/{key}", "the body is the value", self._set_label),
            _Route("DELETE", "/runtimes/{runtime}/labels/{key}", "deletes the label", self._delete_label),
            _Route("POST", "/runtimes/{runtime}/tokens", '{"lifetime"?}: a one-time token', self._issue_token),
            _Route("DELETE", "/tokens", "all tokens given out expire", self._expire_tokens),
            _Route("POST", "/tenants", '{"tenant"}', self._add_tenant),
            _Route("GET", "/runtimes/{runtime}/certificates", "issued certificates", self._certificates),
            _Route("DELETE", "/runtimes/{runtime}/certificates", "revokes them all", self._revoke_all),
            _Route("DELETE", "/certificates/{fingerprint}", "revokes one", self._revoke),
            _Route(
                "PATCH",
                "/settings",
                '{"director_url"?, "secured_connector_url"?, "certificate_validity"?, "certificate_backdate"?}',
                self._settings,
            ),
            _Route("PATCH", "/rate-limit", '{"enabled"?, "capacity"?, "fill"?, "interval"?}', self._rate_limit),
            _Route("GET", "/faults", "armed faults with their hits", self._faults),
            _Route("POST", "/faults", f"arms one (fields of Fault); pages: {', '.join(PAGES)}", self._add_fault),
            _Route("DELETE", "/faults", "removes all", self._clear_faults),
            _Route("DELETE", "/faults/{number}", "removes one", self._remove_fault),
            _Route("GET", "/outages", "which are on", self._outages),
            _Route(
                "PUT",
                "/outages/{name}",
                f'{{"delay"?}}: takes it down; seconds until an answer comes; one of {", ".join(OUTAGES)}',
                self._begin_outage,
            ),
            _Route("DELETE", "/outages", "ends all", self._clear_outages),
            _Route("DELETE", "/outages/{name}", "ends one", self._end_outage),
            _Route("GET", "/requests", "the log of requests, without secrets", self._requests),
            _Route("GET", "/counters", "requests by target/operation", self._counters),
            _Route("DELETE", "/requests", "empties log and counters", self._clear_requests),
        )

    async def handle(self, request: web.Request) -> web.Response:
        try:
            raw = await request.read()
            answer = self.call(request.method, request.path, orjson.loads(raw) if raw else None)
        except orjson.JSONDecodeError as error:
            return _response(400, {"error": f"the body is not JSON: {error}"})
        except AdminError as error:
            return _response(error.status, {"error": str(error)})
        return _response(200, answer)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the API; raises AdminError."""
        known = False
        for route in self._routes:
            found = route.match(path)
            if found is None:
                continue
            known = True
            if route.method == method:
                try:
                    return route.call(body, found)
                except UnknownError as error:
                    raise AdminError(404, str(error)) from error
                except (ValueError, TypeError) as error:
                    raise AdminError(400, str(error)) from error
        raise AdminError(405, f"{path} has no {method}") if known else AdminError(404, f"there is no {path}; see GET /")

    # --- what there is ---

    def _help(self, _body: Any, _path: dict[str, str]) -> Any:
        return [f"{route.method} {route.path}: {route.text}" for route in self._routes]

    def _status(self, _body: Any, _path: dict[str, str]) -> Any:
        compass = self._compass
        return {
            "connectorUrl": compass.connector_url,
            "securedConnectorUrl": compass.secured_connector_url,
            "directorUrl": compass.director_url,
            "adminUrl": compass.admin_url,
            "settings": dataclasses.asdict(compass.settings),
            "seed": compass.disorder.seed,
            "applications": len(self._state.applications()),
            "runtimes": [_runtime(runtime) for runtime in self._state.runtimes()],
        }

    def _ca(self, _body: Any, _path: dict[str, str]) -> Any:
        return {"ca": self._compass.ca_pem, "clientCa": self._compass.client_ca_pem}

    # --- Applications ---

    def _list_applications(self, _body: Any, _path: dict[str, str]) -> Any:
        return self._state.applications()

    def _get_application(self, _body: Any, path: dict[str, str]) -> Any:
        found = self._state.application(path["id"])
        if found is None:
            raise UnknownError("Application", path["id"])
        return found

    def _put_applications(self, body: Any, _path: dict[str, str]) -> Any:
        given = dict(_object(body))
        assign_to = given.pop("assignTo", [self._compass.runtime_id])
        wanted = given.get("applications", [given])
        return {"ids": [self._state.put_application(one, assign_to=assign_to)["id"] for one in wanted]}

    def _examples(self, _body: Any, _path: dict[str, str]) -> Any:
        return {"ids": [self._compass.put_application(one)["id"] for one in examples.landscape()]}

    def _generate(self, body: Any, _path: dict[str, str]) -> Any:
        given = _object(body)
        count = given.get("count")
        if not isinstance(count, int) or count < 0:
            raise AdminError(400, "count must be a number of Applications")
        self._compass.generate_applications(count, prefix=str(given.get("prefix", "generated")))
        return {"count": count}

    def _change(self, body: Any, path: dict[str, str]) -> Any:
        return self._state.change_application(path["id"], _object(body))

    def _remove(self, _body: Any, path: dict[str, str]) -> Any:
        self._state.remove_application(path["id"])

    def _remove_all(self, _body: Any, _path: dict[str, str]) -> Any:
        self._state.remove_all_applications()

    # --- Runtimes ---

    def _register(self, body: Any, _path: dict[str, str]) -> Any:
        given = _object(body or {})
        return {
            "id": self._state.register_runtime(
                tenant=given.get("tenant", self._compass.tenant),
                runtime_id=given.get("id"),
                name=given.get("name", "runtime"),
                labels=given.get("labels"),
            )
        }

    def _unregister(self, _body: Any, path: dict[str, str]) -> Any:
        self._state.unregister_runtime(path["runtime"])

    def _assign(self, _body: Any, path: dict[str, str]) -> Any:
        self._state.assign(path["id"], path["runtime"])

    def _unassign(self, _body: Any, path: dict[str, str]) -> Any:
        self._state.unassign(path["id"], path["runtime"])

    def _set_label(self, body: Any, path: dict[str, str]) -> Any:
        self._state.set_runtime_label(path["runtime"], path["key"], body)

    def _delete_label(self, _body: Any, path: dict[str, str]) -> Any:
        return self._state.delete_runtime_label(path["runtime"], path["key"])

    def _add_tenant(self, body: Any, _path: dict[str, str]) -> Any:
        self._state.add_tenant(str(_object(body).get("tenant")))

    # --- tokens, certificates, settings ---

    def _issue_token(self, body: Any, path: dict[str, str]) -> Any:
        """All four values that a Runtime has to be configured with."""
        lifetime = float(_object(body or {}).get("lifetime", TOKEN_LIFETIME))
        runtime = self._state.runtime(path["runtime"])
        if runtime is None:
            raise UnknownError("Runtime", path["runtime"])
        return {
            "CONNECTOR_URL": self._compass.connector_url,
            "RUNTIME_ID": runtime.id,
            "TENANT": runtime.tenant,
            "TOKEN": self._state.issue_token(runtime.id, lifetime=lifetime),
        }

    def _expire_tokens(self, _body: Any, _path: dict[str, str]) -> Any:
        self._state.expire_tokens()

    def _certificates(self, _body: Any, path: dict[str, str]) -> Any:
        return [
            {**dataclasses.asdict(certificate), "revoked": self._state.is_revoked(certificate.fingerprint)}
            for certificate in self._state.certificates(path["runtime"])
        ]

    def _revoke_all(self, _body: Any, path: dict[str, str]) -> Any:
        return {"revoked": self._state.revoke_all(path["runtime"])}

    def _revoke(self, _body: Any, path: dict[str, str]) -> Any:
        self._state.revoke(path["fingerprint"])

    def _settings(self, body: Any, _path: dict[str, str]) -> Any:
        settings = self._compass.settings
        given = _object(body)
        for name, value in given.items():
            if name in ("director_url", "secured_connector_url"):
                valid = value is None or isinstance(value, str)
            elif name in ("certificate_validity", "certificate_backdate"):
                valid = isinstance(value, int | float) and not isinstance(value, bool)
            else:
                raise AdminError(400, f"there is no setting {name}")
            if not valid:
                raise AdminError(400, f"setting {name} has a value of the wrong type")
        for name, value in given.items():
            setattr(settings, name, value)
        return dataclasses.asdict(settings)

    def _rate_limit(self, body: Any, _path: dict[str, str]) -> Any:
        limit = self._compass.rate_limit
        names = ("enabled", "capacity", "fill", "interval")
        given = _object(body)
        for name, value in given.items():
            if name not in names:
                raise AdminError(400, f"the rate limit has no {name}")
            if not (isinstance(value, bool) if name == "enabled" else _is_amount(value)):
                raise AdminError(400, f"{name} of the rate limit has a wrong value")
        for name, value in given.items():
            setattr(limit, name, value)
        return {name: getattr(limit, name) for name in names}

    # --- outages, faults, log ---

    def _outages(self, _body: Any, _path: dict[str, str]) -> Any:
        return self._compass.outages.active()

    def _begin_outage(self, body: Any, path: dict[str, str]) -> Any:
        delay = _object(body or {}).get("delay")
        self._compass.outages.begin(path["name"], delay=None if delay is None else float(delay))

    def _end_outage(self, _body: Any, path: dict[str, str]) -> Any:
        self._compass.outages.end(path["name"])

    def _clear_outages(self, _body: Any, _path: dict[str, str]) -> Any:
        self._compass.outages.clear()

    def _add_fault(self, body: Any, _path: dict[str, str]) -> Any:
        given = dict(_object(body))
        if "headers" in given:
            given["headers"] = tuple(sorted(_object(given["headers"]).items()))
        if given.get("kind") == "action":
            calls = given.pop("calls", None)
            if not isinstance(calls, list):
                raise AdminError(400, 'a fault of kind action needs "calls": a list of {method, path, body?}')
            given["action"] = lambda: [self.call(one["method"], one["path"], one.get("body")) for one in calls]
        return {"number": self._compass.faults.add(Fault(**given))}

    def _faults(self, _body: Any, _path: dict[str, str]) -> Any:
        return [
            {"number": number, "kind": fault.kind, "target": fault.target, "operation": fault.operation, "hits": hits}
            for number, (fault, hits) in self._compass.faults.armed().items()
        ]

    def _clear_faults(self, _body: Any, _path: dict[str, str]) -> Any:
        self._compass.faults.clear()

    def _remove_fault(self, _body: Any, path: dict[str, str]) -> Any:
        self._compass.faults.remove(int(path["number"]))

    def _requests(self, _body: Any, _path: dict[str, str]) -> Any:
        return [dataclasses.asdict(request) for request in self._compass.requests.all()]

    def _counters(self, _body: Any, _path: dict[str, str]) -> Any:
        return self._compass.requests.counters()

    def _clear_requests(self, _body: Any, _path: dict[str, str]) -> Any:
        self._compass.requests.clear()


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise AdminError(400, "the body must be a JSON object")
    return body


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _runtime(runtime: Runtime) -> dict[str, Any]:
    return {
        "id": runtime.id,
        "tenant": runtime.tenant,
        "name": runtime.name,
        "status": runtime.status,
        "labels": runtime.labels,
        "applications": len(runtime.applications),
    }


def _response(status: int, answer: Any) -> web.Response:
    return web.Response(
        status=status,
        body=orjson.dumps(answer, option=orjson.OPT_INDENT_2) + b"\n",
        content_type="application/json",
    )
