"""Waiting for the agent: each change is one line, and the end is a condition or the time."""

import io
from typing import Any

import pytest

from informers import ConnectionFailed, Forbidden
from kubectl_compass.actions import wait as wait_for
from kubectl_compass.status import situation
from kubectl_compass.terminal import Terminal
from tests.clock import VirtualClock

Object = dict[str, Any]


def connection(state: str, **parts: Object) -> Object:
    return {"status": {"connectionState": state, **parts}}


class Steps:
    """What the API server answers, one after the other, the last one for ever; an exception is raised."""

    def __init__(self, *answers: Object | Exception | None) -> None:
        self._answers = list(answers)

    def __call__(self) -> Object | None:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def wait(clock: VirtualClock, *answers: Object | Exception | None, known: Object | None = None) -> list[str]:
    """The lines, when the state is Synchronized in the end."""
    err = io.StringIO()
    terminal = Terminal("text", out=io.StringIO(), err=err, clock=clock)

    def done(found: Object | None) -> bool:
        return bool((found or {}).get("status", {}).get("connectionState") == "Synchronized")

    try:
        wait_for(Steps(*answers), done, terminal, known=known, timeout=10)
    except TimeoutError as error:
        return [*err.getvalue().splitlines(), str(error)]
    return err.getvalue().splitlines()


def test_each_change_is_one_line_with_the_seconds(clock: VirtualClock) -> None:
    """What was so before is no news."""
    before = connection("ConnectionFailed", connectionStatus={"error": "why"})
    counts = {"synced": 2, "desired": 3}
    lines = wait(
        clock,
        before,
        before,
        None,
        connection("Connected"),
        connection("Synchronized", applications=counts),
        known=before,
    )
    assert lines == [
        "   1 s  there is no CompassConnection",
        "   2 s  Connected",
        "   2 s  Synchronized: 2 of 3 Applications are in sync",
    ]


def test_the_end_is_told_also_where_nothing_has_changed(clock: VirtualClock) -> None:
    end = connection("Synchronized")
    assert wait(clock, end, known=end) == ["   0 s  Synchronized"]


def test_it_ends_in_time(clock: VirtualClock) -> None:
    lines = wait(clock, connection("SynchronizationFailed", synchronizationStatus={"error": "HTTP 500"}))
    assert lines == ["   0 s  SynchronizationFailed: HTTP 500", "not within 10s"]


def test_an_api_server_that_is_away_is_waited_for(clock: VirtualClock) -> None:
    lines = wait(clock, ConnectionFailed("refused"), ConnectionFailed("refused"), connection("Synchronized"))
    assert lines == ["   0 s  the API server does not answer: refused", "   1 s  Synchronized"]


def test_what_stays_is_raised(clock: VirtualClock) -> None:
    with pytest.raises(Forbidden):
        wait(clock, Forbidden("no", status=403))


@pytest.mark.parametrize(
    "status", [None, 3, {"connectionState": {"a": 1}}, {"applications": 3, "connectionStatus": []}]
)
def test_whatever_the_object_holds_has_a_situation(status: Any) -> None:
    assert situation({"status": status})
