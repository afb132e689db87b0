"""A Director behind the client of the agent, without sockets: it pages by offset, changes between pages, and answers in
parts.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.compass.director import DirectorClient
from controller.compass.graphql import Transport
from controller.compass.http import HttpAnswer
from controller.compass.types import Assignment
from tests.support.compass_border import tls_context

DEFINITIONS = ("apiDefinitions", "eventDefinitions")


def definition(number: int | str, **extra: Any) -> dict[str, Any]:
    return {"id": f"def-{number}", "name": f"Definition {number}", **extra}


def bundle(number: int | str, *, apis: int = 0, events: int = 0, auth: Any = None, **extra: Any) -> dict[str, Any]:
    return {
        "id": f"bundle-{number}",
        "name": f"Bundle {number}",
        "description": None,
        "instanceAuthRequestInputSchema": None,
        "defaultInstanceAuth": auth,
        "apiDefinitions": [definition(f"{number}-a{n}", targetURL=f"https://t/{n}") for n in range(apis)],
        "eventDefinitions": [definition(f"{number}-e{n}") for n in range(events)],
        **extra,
    }


def application(number: int, *bundles: dict[str, Any], **extra: Any) -> dict[str, Any]:
    return {
        "id": f"app-{number:04}",
        "name": f"shop {number}",
        "description": None,
        "auths": [{"id": f"auth-{number}"}],
        "bundles": list(bundles),
        **extra,
    }


def page(items: list[Any], first: int, after: str | None) -> dict[str, Any]:
    """A page as the Director makes it: offset cursors, "" at the end."""
    start = int(base64.b64decode(after)[11:]) if after else 0
    end = start + first
    more = end < len(items)
    cursor = base64.b64encode(f"DpKtJ4j9jDq{end}".encode()).decode() if more else ""
    return {
        "data": items[start:end],
        "pageInfo": {"startCursor": "", "endCursor": cursor, "hasNextPage": more},
        "totalCount": len(items),
    }


def answered(body: Any, status: int = 200) -> HttpAnswer:
    """A text as it is, anything else as JSON."""
    return HttpAnswer(status, (body if isinstance(body, str) else json.dumps(body)).encode(), "")


def fetch(director: DirectorClient) -> Assignment:
    return director.fetch("runtime-1", request_id="r_1")


@dataclass
class FakeDirector:
    """Answers by the name of the operation and its variables.

    `before` may change the state before each answer, `after` changes a true answer, `instead` replaces one.
    """

    applications: list[dict[str, Any]] = field(default_factory=list)
    labels: Any = None
    before: Callable[["FakeDirector"], object] = lambda _self: None
    after: Callable[[dict[str, Any]], Any] = lambda document: document
    instead: Callable[[str], HttpAnswer | None] = lambda _operation: None
    shuffle: Callable[[list[Any]], None] = lambda _items: None
    seen: list[str] = field(default_factory=list)  # operations
    sent: list[tuple[Mapping[str, str], dict[str, Any]]] = field(default_factory=list)  # headers and variables
    readings: int = 0

    def client(self, **options: Any) -> DirectorClient:
        transport = Transport(tls_context())
        transport._http = self  # type: ignore[assignment]
        settings: dict[str, Any] = {"tenant": "tenant-1", "applications_per_page": 3} | options
        return DirectorClient(transport, "https://director.example/graphql", **settings)

    def post(self, _url: str, body: bytes, *, headers: Mapping[str, str], **_: object) -> HttpAnswer:
        asked = json.loads(body)
        operation, variables = asked["query"].split()[1].split("(")[0], asked["variables"]
        self.seen.append(operation)
        self.sent.append((headers, variables))
        self.readings += operation == "Page" and "after" not in variables
        self.before(self)
        for app in self.applications:
            self._shuffle(app)
        return self.instead(operation) or answered(self.after(self._answer(operation, variables)))

    def _shuffle(self, app: dict[str, Any]) -> None:
        """Everything inside an application comes in a new order for each request; applications are sorted by id."""
        bundles = app["bundles"] if isinstance(app["bundles"], list) else []
        for found in [app["auths"], bundles, *(bundle[name] for bundle in bundles for name in DEFINITIONS)]:
            if isinstance(found, list):
                self.shuffle(found)

    def _answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        if operation == "AssignedIds":
            ids = [{"id": app["id"]} for app in self.applications]
            return {"data": {"applicationsForRuntime": page(ids, given["first"], given.get("after"))}}
        if operation == "Page":
            found = page(self.applications, given["first"], given.get("after"))
            found["data"] = [self._application(app, given["nested"]) for app in found["data"]]
            return {"data": {"runtime": {"labels": self.labels}, "applicationsForRuntime": found}}
        app = next((app for app in self.applications if app["id"] == given["application"]), None)
        if app is None:
            message = "The operation is not allowed [reason=requesting runtime should be in same scenario]"
            return {"data": {"application": None}, "errors": [{"message": message, "extensions": {"error_code": 27}}]}
        result: dict[str, Any] = {"id": app["id"], "name": "raw name"}
        if operation == "MoreBundles":
            found = page(app["bundles"], given["nested"], given.get("after"))
            found["data"] = [self._bundle(item, given["nested"]) for item in found["data"]]
            result["bundles"] = found
        else:
            name = "apiDefinitions" if operation == "MoreApis" else "eventDefinitions"
            item = next((item for item in app["bundles"] if item["id"] == given["bundle"]), None)
            result["bundle"] = item and {
                "id": item["id"],
                "name": item["name"],
                name: page(item[name], given["nested"], given.get("after")),
            }
        return {"data": {"application": result}}

    def _application(self, app: dict[str, Any], nested: int) -> dict[str, Any]:
        bundles = app["bundles"]
        if not isinstance(bundles, list):
            return app
        found = page(bundles, nested, None)
        found["data"] = [self._bundle(item, nested) for item in found["data"]]
        return {**app, "bundles": found}

    def _bundle(self, item: dict[str, Any], nested: int) -> dict[str, Any]:
        lists = {name: page(item[name], nested, None) for name in DEFINITIONS if isinstance(item[name], list)}
        return {**item, **lists}
