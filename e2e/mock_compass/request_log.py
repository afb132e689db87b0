"""Which requests came, without any secret: no bodies, no variables, no header but x-request-id."""

import threading
from collections import Counter, deque
from dataclasses import dataclass

_KEPT = 10_000  # requests; a long demo or benchmark must not grow without bound, the counters go on


@dataclass(frozen=True)
class LoggedRequest:
    """One answered request. `operation`: the root fields, joined by a comma; `outcome`: see below.

    ok             HTTP 200 without errors
    errors         HTTP 200 with errors
    refused        another HTTP status that the protocol gives
    outage:<name>  something else is down
    fault:<kind>   an injected fault decided the answer
    """

    time: float
    target: str
    operation: str
    runtime_id: str | None
    client_id: str | None
    request_id: str | None
    status: int
    outcome: str


class RequestLog:
    def __init__(self) -> None:
        self._appended = threading.Condition()
        self._requests: deque[LoggedRequest] = deque(maxlen=_KEPT)
        self._counts: Counter[tuple[str, str]] = Counter()

    def append(self, request: LoggedRequest) -> None:
        with self._appended:
            self._requests.append(request)
            self._counts[request.target, request.operation] += 1
            self._appended.notify_all()

    def all(self) -> list[LoggedRequest]:
        with self._appended:
            return list(self._requests)

    def count(self, target: str | None = None, operation: str | None = None) -> int:
        """How many requests there were since the start or the last clear, of a target and with a root field."""
        with self._appended:
            return self._count_locked(target, operation)

    def wait_for(self, number: int, target: str | None = None, operation: str | None = None, *, timeout: float) -> bool:
        """Blocks until `count` is at least `number`; False when `timeout` seconds passed before that."""
        with self._appended:
            return self._appended.wait_for(lambda: self._count_locked(target, operation) >= number, timeout)

    def _count_locked(self, target: str | None, operation: str | None) -> int:
        return sum(
            number
            for (counted, operations), number in self._counts.items()
            if target in (None, counted) and (operation is None or operation in operations.split(","))
        )

    def counters(self) -> dict[str, int]:
        """Requests by `target/operation`."""
        with self._appended:
            return {f"{target}/{operation}": number for (target, operation), number in sorted(self._counts.items())}

    def clear(self) -> None:
        with self._appended:
            self._requests.clear()
            self._counts.clear()
