"""What goes wrong: faults that tests order, and the order of what nobody has ordered.

A fault is armed with `Faults.add` and ends after `times` requests, or when it is removed. The first armed fault
that decides the answer wins; faults that only delay, act or change fields go together with it.
"""

import itertools
import os
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from graphql import GraphQLError

from e2e.mock_compass.gateway import NOT_FOUND, Reply

SEED_VARIABLE = "MOCK_COMPASS_SEED"

_T = TypeVar("_T")

DECIDING = ("status", "page", "garbage", "truncated", "cut", "reset", "hang", "graphql_error")
"""
status         HTTP `status` with `body` and `headers`
page           one of PAGES, named by `page`
garbage        HTTP `status` with bytes that are no text
truncated      the true answer, cut in the middle, as a complete HTTP answer
cut            the true answer; the connection closes in the middle of the body
reset          the connection is reset without an answer
hang           no answer until the client gives up
graphql_error  HTTP 200, `message` and `code` in errors, data null
"""
ACCOMPANYING = ("delay", "action", "field")
"""
delay   the answer comes `seconds` later
action  `action()` is called, on the server's thread: it must not wait for another request
field   the field `field` ("Bundle.apiDefinitions") answers `value`, or fails with `message` and `code`;
        only in the object `object_id` if that is given
"""
TARGETS = ("any", "connector", "director")

HTML_503 = "<html><head><title>503</title></head><body><h1>503 Service Temporarily Unavailable</h1></body></html>"
_LOGIN = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><form method='post'></form></body></html>"
_FORBIDDEN = "<html><head><title>403 Forbidden</title></head><body><h1>403 Forbidden</h1></body></html>"
_NO_PAGE = "<html><head><title>404 Not Found</title></head><body><h1>404 Not Found</h1></body></html>"

PAGES: Mapping[str, Reply] = {
    "unavailable": Reply(503, "text/html", HTML_503),
    "login redirect": Reply(302, "text/html", headers=(("Location", "https://login.example/oauth2/auth"),)),
    "login page": Reply(200, "text/html", _LOGIN),
    "forbidden page": Reply(403, "text/html", _FORBIDDEN),
    "no such path": NOT_FOUND,
    "no such page": Reply(404, "text/html", _NO_PAGE),
}
"""What is answered when a URL is wrong, or a proxy with ideas of its own stands before Compass."""

_GARBAGE = bytes(range(128, 256)) * 4


@dataclass(frozen=True)
class RequestInfo:
    """What a fault can be matched against. `operations`: name of the operation and of its root fields."""

    target: str
    operations: frozenset[str]
    next_page: bool


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`kind` is one of DECIDING and ACCOMPANYING above; the other attributes by use:

    target      connector, director or any
    operation   only requests with this operation name or root field; None: all
    next_page   only requests for a second or later page of applicationsForRuntime
    skip        that many matching requests pass before the first one is hit
    times       that many requests are hit; None: until removed
    after       the request takes effect before the fault does: only its answer is replaced, late, or after the action
    """

    kind: str
    target: str = "any"
    operation: str | None = None
    next_page: bool = False
    skip: int = 0
    times: int | None = None
    after: bool = False
    status: int = 500
    page: str = ""
    body: str | bytes = ""
    headers: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0
    message: str | None = None
    code: int | None = None
    field: str = ""
    object_id: str | None = None
    value: Any = None
    action: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        if self.kind not in DECIDING + ACCOMPANYING:
            raise ValueError(f"fault kind {self.kind!r} is none of {', '.join(DECIDING + ACCOMPANYING)}")
        if self.target not in TARGETS:
            raise ValueError(f"fault target {self.target!r} is none of {', '.join(TARGETS)}")
        if self.kind == "field" and "." not in self.field:
            raise ValueError('a fault of kind field needs field="Type.field"')
        if self.kind == "action" and self.action is None:
            raise ValueError("a fault of kind action needs an action")
        if self.kind == "page" and self.page not in PAGES:
            raise ValueError(f"page {self.page!r} is none of {', '.join(PAGES)}")

    @property
    def raw_body(self) -> bytes:
        if self.kind == "garbage":
            return _GARBAGE
        return self.body.encode() if isinstance(self.body, str) else self.body

    @property
    def error(self) -> GraphQLError:
        extensions = None if self.code is None else {"error_code": self.code}
        return GraphQLError(self.message or "injected error", extensions=extensions)

    def matches(self, info: RequestInfo) -> bool:
        return (
            self.target in ("any", info.target)
            and (self.operation is None or self.operation in info.operations)
            and (info.next_page or not self.next_page)
        )


@dataclass(frozen=True)
class Hit:
    """The faults that apply to one request. `before` and `after` its effect: delays and actions, as ordered.

    `overrides`: those of kind field.
    """

    deciding: Fault | None
    before: tuple[Fault, ...]
    after: tuple[Fault, ...]
    overrides: tuple[Fault, ...]


@dataclass
class _Armed:
    fault: Fault
    skip: int
    left: int | None


class Faults:
    """The armed faults, in the order of arming. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._armed: dict[int, _Armed] = {}

    def add(self, fault: Fault) -> int:
        """Arms the fault and gives its number."""
        with self._lock:
            number = next(self._ids)
            self._armed[number] = _Armed(fault, fault.skip, fault.times)
            return number

    def remove(self, number: int) -> None:
        """Ends one fault; nothing happens when it has ended by itself."""
        with self._lock:
            self._armed.pop(number, None)

    def clear(self) -> None:
        with self._lock:
            self._armed.clear()

    def take(self, info: RequestInfo) -> Hit:
        """The faults that hit this request; counts them down."""
        deciding: Fault | None = None
        accompanying: list[Fault] = []
        overrides: list[Fault] = []
        with self._lock:
            for number, armed in list(self._armed.items()):
                fault = armed.fault
                if not fault.matches(info) or (fault.kind in DECIDING and deciding is not None):
                    continue
                if armed.skip > 0:
                    armed.skip -= 1
                    continue
                if armed.left is not None:
                    armed.left -= 1
                    if armed.left <= 0:
                        del self._armed[number]
                if fault.kind in DECIDING:
                    deciding = fault
                elif fault.kind == "field":
                    overrides.append(fault)
                else:
                    accompanying.append(fault)
        return Hit(
            deciding,
            before=tuple(fault for fault in accompanying if not fault.after),
            after=tuple(fault for fault in accompanying if fault.after),
            overrides=tuple(overrides),
        )


def choose_seed() -> str:
    """Sets $MOCK_COMPASS_SEED if it is not set, so that all processes of a run have one; the text repeats a run."""
    seed = os.environ.setdefault(SEED_VARIABLE, str(random.SystemRandom().getrandbits(32)))
    return f"mock Compass: {SEED_VARIABLE}={seed}"


class Disorder:
    """Nested lists and errors come in another order with each answer.

    As the real Director, whose database unites lists without ordering them, and whose fields are resolved at once.

    The same `seed` gives the same orders to the same sequence of requests. Without one it is $MOCK_COMPASS_SEED, or
    made up. `enabled` False keeps every list as it was written.
    """

    def __init__(self, seed: int | None = None) -> None:
        given = os.environ.get(SEED_VARIABLE)
        if seed is None and given:
            seed = int(given)
        self.seed = random.SystemRandom().getrandbits(32) if seed is None else seed
        self.enabled = True
        self._random = random.Random(self.seed)

    def shuffled(self, items: list[_T]) -> list[_T]:
        """The items in a fresh order; the list itself is not changed."""
        return self._random.sample(items, len(items)) if self.enabled and len(items) > 1 else items
