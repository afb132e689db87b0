"""What goes wrong: faults that tests order, and the order of what nobody has ordered.

A fault is armed with `Faults.add` and ends after `times` requests, or when it is removed. The first armed fault
that decides the answer wins; faults that only delay, act or change fields go together with it.
"""

import itertools
import os
import random
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from graphql import GraphQLError

SEED_VARIABLE = "MOCK_COMPASS_SEED"

_T = TypeVar("_T")

DECIDING = ("status", "cut", "reset", "hang", "graphql_error")
"""
status         HTTP `status` with `body`
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


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`kind` is one of DECIDING and ACCOMPANYING above; the other attributes by use:

    target      connector, director or any
    operation   only requests with this operation name or root field; None: all
    times       that many requests are hit; None: until removed
    after       the request takes effect before the fault does: only its answer is replaced, late, or after the action
    """

    kind: str
    target: str = "any"
    operation: str | None = None
    times: int | None = None
    after: bool = False
    status: int = 500
    body: str = ""
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

    @property
    def error(self) -> GraphQLError:
        extensions = None if self.code is None else {"error_code": self.code}
        return GraphQLError(self.message or "injected error", extensions=extensions)

    def matches(self, target: str, operations: Collection[str]) -> bool:
        return self.target in ("any", target) and (self.operation is None or self.operation in operations)


@dataclass(frozen=True)
class Hit:
    """The faults that apply to one request. `before` and `after` its effect: delays and actions, as ordered.

    `overrides`: those of kind field.
    """

    deciding: Fault | None
    before: tuple[Fault, ...]
    after: tuple[Fault, ...]
    overrides: tuple[Fault, ...]


class Faults:
    """The armed faults, in the order of arming. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._armed: dict[int, Fault] = {}

    def add(self, fault: Fault) -> int:
        """Arms the fault and gives its number."""
        with self._lock:
            number = next(self._ids)
            self._armed[number] = fault
            return number

    def remove(self, number: int) -> None:
        """Ends one fault; nothing happens when it has ended by itself."""
        with self._lock:
            self._armed.pop(number, None)

    def clear(self) -> None:
        with self._lock:
            self._armed.clear()

    def take(self, target: str, operations: Collection[str]) -> Hit:
        """The faults that hit this request; counts them down. `operations`: name of the operation, root fields."""
        hit: list[Fault] = []
        with self._lock:
            for number, fault in list(self._armed.items()):
                decided = fault.kind in DECIDING and any(other.kind in DECIDING for other in hit)
                if decided or not fault.matches(target, operations):
                    continue
                hit.append(fault)
                if fault.times is not None:
                    self._armed[number] = replace(fault, times=fault.times - 1)
                    if fault.times <= 1:
                        del self._armed[number]
        accompanying = [fault for fault in hit if fault.kind in ("delay", "action")]
        return Hit(
            next((fault for fault in hit if fault.kind in DECIDING), None),
            before=tuple(fault for fault in accompanying if not fault.after),
            after=tuple(fault for fault in accompanying if fault.after),
            overrides=tuple(fault for fault in hit if fault.kind == "field"),
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
