"""A fetch stays within its bounds: what does not fit is reported, and holds up nothing else. On a virtual clock."""

import json
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.compass.answers import Answer, decode
from controller.compass.errors import TooLarge, Unavailable
from controller.compass.fetch import FOLLOW_UP_TIMEOUT, MAX_SLOW_APPLICATIONS, Call, Fetch
from controller.compass.limits import MIB, Limits
from controller.compass.queries import MORE_BUNDLES, PAGE, Operation
from controller.compass.types import Assignment, items
from tests.unit.compass.fake_director import page

T = TypeVar("T")

LIMITS = Limits()
PER_PAGE = 500
LABELS = {"isNormalized": "true"}


@dataclass
class App:
    """An application by what an answer with it takes: bytes, seconds, and bundles, ten in a page."""

    id: str
    size: int = 125
    seconds: float = 0.006
    bundles: int = 0
    hangs_in_follow_ups: bool = False
    auths: int = 0

    def item(self) -> dict[str, Any]:
        auths = [{"id": f"{n}"} for n in range(self.auths)]
        return {"id": self.id, "name": self.id, "bundles": self.page_of_bundles(None), "auths": auths}

    def page_of_bundles(self, after: str | None) -> dict[str, Any]:
        return page([{"id": f"{n}", "name": ""} for n in range(self.bundles)], 10, after)


@dataclass
class Director:
    """Answers on a clock of its own, and gives up a call that takes too long or too much."""

    apps: list[App]
    now: float = 0.0
    down: bool = False
    seconds_per_call: float = 0.0
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __call__(self, operation: Operation[T], variables: dict[str, Any], *, timeout: float) -> Answer[T]:
        self.calls.append((operation.text.split()[1].split("(")[0], variables))
        data, answer_size, seconds = self._answer(operation, variables)
        seconds += self.seconds_per_call
        if self.down or seconds > timeout:
            self.now += timeout
            raise Unavailable(f"no complete answer within {timeout:g} s", timed_out=True)
        self.now += seconds
        if answer_size > LIMITS.answer_bytes:
            raise TooLarge("the answer is too large", single=True)
        return Answer(decode(json.dumps(data).encode(), operation.data), size=answer_size)

    def _answer(self, operation: Operation[Any], variables: dict[str, Any]) -> tuple[dict[str, Any], int, float]:
        if operation is MORE_BUNDLES:
            app = next(app for app in self.apps if app.id == variables["application"])
            found = {"id": app.id, "bundles": app.page_of_bundles(variables.get("after"))}
            return {"application": found}, 0, 1e9 if app.hangs_in_follow_ups else 0.01
        some = page(self.apps, variables["first"], variables.get("after"))
        if operation is PAGE:
            listed = {**some, "data": [app.item() for app in some["data"]]}
            size, seconds = sum(app.size for app in some["data"]), sum(app.seconds for app in some["data"])
            return {"runtime": {"labels": LABELS}, "applicationsForRuntime": listed}, size, seconds
        names = {**some, "data": [{"id": app.id, "name": app.id} for app in some["data"]]}
        return {"runtime": {"labels": LABELS}, "applicationsForRuntime": names}, 0, 0.0

    def fetch(self, limits: Limits = LIMITS) -> Assignment:
        call: Call = self
        return Fetch(call, "runtime-1", per_page=PER_PAGE, limits=limits, known={}, monotonic=lambda: self.now).run()

    def asked(self, name: str) -> int:
        return sum(called == name for called, _ in self.calls)


def apps(count: int, **fields: Any) -> list[App]:
    return [App(f"app-{n:05}", **fields) for n in range(count)]


def names(found: Any) -> list[str]:
    return [app.id for app in found]


def test_pages_shrink_until_an_answer_fits_and_grow_again() -> None:
    """Usual applications are read as usual, also behind large ones."""
    director = Director(apps(600) + [App(f"big-{n}", LIMITS.answer_bytes // 3) for n in range(5)] + apps(0))
    director.apps += [App(f"small-{n:04}") for n in range(2000)]
    result = director.fetch()
    assert names(result.applications) == [app.id for app in director.apps]
    assert result.incomplete == ()
    firsts = [variables["first"] for name, variables in director.calls if name == "Page"]
    assert firsts[0] == PER_PAGE
    assert min(firsts) <= 3
    assert firsts[-1] == PER_PAGE
    assert len(firsts) < 40


def test_an_application_too_large_for_a_page_is_incomplete() -> None:
    director = Director([*apps(300), App("huge", LIMITS.answer_bytes + 1), *apps(0)])
    director.apps += [App(f"more-{n}") for n in range(300)]
    result = director.fetch()
    assert len(result.applications) == 600
    ((name, reason),) = [(app.name, app.reason) for app in result.incomplete]
    assert name == "huge"
    assert reason.startswith("too large: ")
    assert director.asked("Outline") == 1


def test_the_reason_names_the_limit_for_larger_answers() -> None:
    """A small memory limit makes for small answers."""
    limits = Limits(memory_limit=128 * MIB)
    director = Director([App("huge", LIMITS.answer_bytes + 1)])
    (incomplete,) = director.fetch(limits).incomplete
    assert incomplete.reason.endswith("; raise the container's memory limit of 128 MiB")


@pytest.mark.parametrize("others", [0, 3])
def test_labels_are_read_although_the_first_application_is_not(others: int) -> None:
    """They say whether names are normalised."""
    result = Director([App("huge", LIMITS.answer_bytes + 1), *apps(others)]).fetch()
    assert (len(result.incomplete), len(result.applications), result.labels) == (1, others, LABELS)


SIZES = st.lists(st.sampled_from([1, 1000, 100_000, 5_000_000, 30_000_000, 60_000_000, 10**9]), max_size=60)


@settings(deadline=None)
@given(SIZES)
def test_applications_of_any_size_are_accounted_for(sizes: list[int]) -> None:
    """Complete when it fits into an answer, incomplete when it does not; and the number of calls is bounded."""
    director = Director([App(f"app-{n:03}", size) for n, size in enumerate(sizes)])
    result = director.fetch()
    fitting = [app.id for app in director.apps if app.size <= LIMITS.answer_bytes]
    assert names(result.applications) == fitting
    assert len(result.incomplete) == len(sizes) - len(fitting)
    assert len(director.calls) <= 12 + 8 * len(sizes)


def test_a_slow_application_does_not_hold_up_the_others() -> None:
    """Its page is divided until it stands alone; then it is incomplete, and the rest is read as usual."""
    director = Director([*apps(250), App("slow", seconds=1e9), *apps(0)])
    director.apps += [App(f"more-{n:04}") for n in range(900)]
    result = director.fetch()
    assert len(result.applications) == 1150
    assert names(result.incomplete) == ["slow"]
    assert result.incomplete[0].reason == "no complete answer within 15 s"
    assert director.now < 150


def test_a_director_without_any_answer_is_an_outage() -> None:
    """One page and one short question, not one for each size of a page."""
    director = Director(apps(1000), down=True)
    with pytest.raises(Unavailable, match="no complete answer within 10 s"):
        director.fetch()
    assert director.now == 40.0


def test_hanging_follow_ups_leave_their_application_incomplete() -> None:
    """The others are complete; after a few slow ones no more time is spent on follow-ups."""
    slow = [App(f"slow-{n}", bundles=25, hangs_in_follow_ups=True) for n in range(10)]
    director = Director([App("many", bundles=45), *slow, *apps(100), App("late", bundles=25)])
    result = director.fetch()
    assert names(result.applications) == ["many", *names(apps(100))]
    assert [len(items(app.bundles)) for app in result.applications[:1]] == [45]
    assert names(result.incomplete) == [*names(slow), "late"]
    assert result.incomplete[0].reason == f"no complete answer within {FOLLOW_UP_TIMEOUT:g} s"
    assert "did not answer in time for 3 other applications" in result.incomplete[-1].reason
    assert director.now < MAX_SLOW_APPLICATIONS * FOLLOW_UP_TIMEOUT + 5


@pytest.mark.parametrize(
    "large", [apps(2000, size=1_250_000), apps(200, bundles=11)], ids=["many pages", "many follow-ups"]
)
@pytest.mark.parametrize("seconds_per_call", [0.5, 3.0, 29.0, 31.0, 1e9])
def test_a_fetch_ends_within_its_time(seconds_per_call: float, large: list[App]) -> None:
    """However slow the Director is; the error says which bound it was."""
    limits = Limits(seconds=60.0)
    director = Director(large, seconds_per_call=seconds_per_call)
    with pytest.raises(Unavailable) as caught:
        director.fetch(limits)
    assert director.now <= 60.0 + 1e-9
    if seconds_per_call < 10:
        assert "did not give everything within 60 s" in str(caught.value)


RAISE_BOTH = "raise APP_MAX_APPLICATIONS and the container's memory limit"

BOUNDS: list[tuple[Director, Limits, str]] = [
    (
        Director(apps(11)),
        Limits(applications=10),
        "Compass assigns 11 Applications, and APP_MAX_APPLICATIONS is 10; raise it, and the container's memory limit",
    ),
    (
        Director(apps(60, size=5_000_000)),
        Limits(pages=50),
        "a fetch takes more than 50 pages",
    ),
    (
        Director(apps(60, bundles=11)),
        Limits(pages=50),
        "a fetch takes more than 50 pages",
    ),
    (
        Director(apps(99, auths=5000)),
        Limits(applications=1000),
        f"the Applications of Compass take more than 15.6 MiB; {RAISE_BOTH}",
    ),
    (
        Director(apps(10, auths=50_000)),
        Limits(memory_limit=100 * MIB),
        "the Applications of Compass take more than 27 MiB; raise the container's memory limit of 100 MiB",
    ),
]


@pytest.mark.parametrize(
    ("director", "limits", "message"), BOUNDS, ids=["number", "pages", "follow-ups", "memory", "memory limit"]
)
def test_a_bound_is_named_with_the_way_to_raise_it(director: Director, limits: Limits, message: str) -> None:
    """Nothing is applied of what is not complete."""
    with pytest.raises(TooLarge) as caught:
        director.fetch(limits)
    assert str(caught.value) == message
    assert not caught.value.single


@pytest.mark.parametrize("memory_limit", [None, 2**33, 2**30, 2**29, 2**28, 200 * MIB, 128 * MIB])
def test_all_together_fits_into_the_memory_limit(memory_limit: int | None) -> None:
    """What the process takes itself, all Applications, an answer, its body, and the follow-ups within it."""
    limits = Limits(memory_limit=memory_limit)
    answer = limits.answer_bytes
    in_all = 64 * MIB + limits.applications_memory + 10 * answer
    assert in_all < min(memory_limit or 2**29, 2**29)
    assert answer > MIB // 2
