"""The detector of changed cache objects."""

import threading

import pytest

from informers.mutation_detector import ENVIRONMENT_VARIABLE, KEEP_SECONDS, CacheMutated, MutationDetector
from tests.clock import VirtualClock
from tests.fake_api_server.objects import widget


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (r"\.spec\.list\[1\]", lambda obj: obj["spec"]["list"].__setitem__(1, "other")),
        (r"\.spec\.list", lambda obj: obj["spec"]["list"].append("more")),
        (r"\.metadata\.labels", lambda obj: obj["metadata"].setdefault("labels", {})),
        (r"\.metadata\.uid", lambda obj: obj["metadata"].pop("uid")),
    ],
)
def test_names_the_field(path: str, change: object) -> None:
    """The error tells object and field, and no value."""
    detector = MutationDetector(VirtualClock())
    obj = widget("a", 1, list=["x", "y"])
    detector.add(obj)
    detector.check()
    change(obj)  # type: ignore[operator]
    with pytest.raises(CacheMutated, match=f"Widget default/a was changed by its reader at {path}:"):
        detector.check()


def test_forgets_after_two_minutes() -> None:
    """What left the cache long ago may do what it likes."""
    clock = VirtualClock()
    detector = MutationDetector(clock)
    obj = widget("a", 1)
    detector.add(obj)
    clock.advance(KEEP_SECONDS + 1)
    detector.check()
    obj["spec"]["x"] = 1
    detector.check()


def test_looks_each_second_and_at_the_end() -> None:
    """run() raises what check() finds."""
    detector = MutationDetector()
    obj = widget("a", 1)
    detector.add(obj)
    obj["spec"]["x"] = 1
    stop = threading.Event()
    stop.set()
    with pytest.raises(CacheMutated):
        detector.run(stop)


@pytest.mark.parametrize(("value", "on"), [("true", True), ("1", True), ("false", False), (None, False)])
def test_is_opt_in(value: str | None, on: bool) -> None:
    """By the environment variable of client-go."""
    environ = {ENVIRONMENT_VARIABLE: value} if value is not None else {}
    assert (MutationDetector.from_environment(environ) is not None) == on
