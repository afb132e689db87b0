"""What goes wrong: faults that tests inject, and the disorder of every answer.

A fault is armed with `Faults.add` and ends after `times` requests, or when it is removed. The first armed fault
decides the answer; those that only change fields go together with it.
"""

import itertools
import os
import random
import threading
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, TypeVar

SEED_VARIABLE = "MOCK_COMPASS_SEED"

_T = TypeVar("_T")

KINDS = ("status", "cut", "hang", "delay", "graphql_error", "field")
"""
status         HTTP `status` with `body`
cut            the true answer; the connection closes in the middle of the body
hang           no answer until the client gives up
delay          the true answer, `seconds` later
graphql_error  HTTP 200, `message` in errors, data null
field          the field `field` ("Application.name") answers `value`; only in the object `object_id` if that is given
"""
TARGETS = ("any", "connector", "director")

HTML_503 = "<html><head><title>503</title></head><body><h1>503 Service Temporarily Unavailable</h1></body></html>"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`kind` is one of KINDS above; the other attributes by use:

    target      connector, director or any
    operation   only requests with this operation name or root field; None: all
    times       that many requests are hit; None: until removed
    """

    kind: str
    target: str = "any"
    operation: str | None = None
    times: int | None = None
    status: int = 500
    body: str = ""
    seconds: float = 0.0
    message: str = "injected error"
    field: str = ""
    object_id: str | None = None
    value: Any = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"fault kind {self.kind!r} is none of {', '.join(KINDS)}")
        if self.target not in TARGETS:
            raise ValueError(f"fault target {self.target!r} is none of {', '.join(TARGETS)}")

    def matches(self, target: str, operations: Collection[str]) -> bool:
        return self.target in ("any", target) and (self.operation is None or self.operation in operations)


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

    def take(self, target: str, operations: Collection[str]) -> tuple[Fault | None, tuple[Fault, ...]]:
        """The fault that decides the answer, and those of kind field; counts them down.

        `operations`: name of the operation, root fields.
        """
        deciding: Fault | None = None
        overrides: list[Fault] = []
        with self._lock:
            for number, fault in list(self._armed.items()):
                if not fault.matches(target, operations) or (deciding and fault.kind != "field"):
                    continue
                if fault.kind == "field":
                    overrides.append(fault)
                else:
                    deciding = fault
                if fault.times is not None:
                    self._armed[number] = replace(fault, times=fault.times - 1)
                    if fault.times <= 1:
                        del self._armed[number]
        return deciding, tuple(overrides)


def choose_seed() -> str:
    """Sets $MOCK_COMPASS_SEED if it is not set, so that all processes of a run have one; the text repeats a run."""
    seed = os.environ.setdefault(SEED_VARIABLE, str(random.SystemRandom().getrandbits(32)))
    return f"mock Compass: {SEED_VARIABLE}={seed}"


class Disorder:
    """Nested lists and errors come in another order with each answer.

    As the real Director, whose database unites lists without ordering them, and whose fields are resolved at once.

    The same `seed` gives the same orders to the same sequence of requests. Without one it is $MOCK_COMPASS_SEED, or
    made up.
    """

    def __init__(self, seed: int | None = None) -> None:
        given = os.environ.get(SEED_VARIABLE) if seed is None else seed
        self._random = random.Random(None if given is None else int(given))

    def shuffled(self, items: list[_T]) -> list[_T]:
        """The items in a fresh order; the list itself is not changed."""
        return self._random.sample(items, len(items)) if len(items) > 1 else items
