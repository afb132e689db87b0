"""Progress: what is pending, what failed, and when there is something to conclude."""

from collections.abc import Collection

from controller.applications.conversion import ConversionSettings
from controller.applications.desired import DesiredSet, desired_set
from controller.applications.progress import HANGING_SECONDS, Plan, Progress
from controller.compass.types import Application, Assignment, IncompleteApplication


class _Conclusions:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def _set(*names: str, incomplete: tuple[str, ...] = ()) -> DesiredSet:
    assignment = Assignment(
        tuple(Application(f"id-{name}", name) for name in names),
        tuple(IncompleteApplication(f"id-{name}", name, "cut off") for name in incomplete),
        {"isNormalized": "true"},
    )
    return desired_set(assignment, ConversionSettings("http://gateway"))


def _published(progress: Progress, desired: DesiredSet, *, pending: list[str], held: Collection[str] = ()) -> Plan:
    plan = progress.publish(desired, held=held, request_id="r")
    progress.expect(pending)
    return plan


def test_concludes_with_the_last_pending_name() -> None:
    """One conclusion for a set, whatever order the outcomes come in."""
    conclusions = _Conclusions()
    progress = Progress()
    progress.subscribe(conclusions)
    plan = _published(progress, _set("a", "b", "c"), pending=["a", "b"])
    progress.succeeded("b", plan)
    assert (conclusions.count, progress.outcome().synced) == (0, 2)
    progress.failed("a", plan, "refused")
    assert conclusions.count == 1
    outcome = progress.outcome()
    assert (outcome.desired, outcome.synced, outcome.pending, outcome.failed) == (3, 2, 0, {"a": "refused"})


def test_concludes_again_only_when_an_outcome_changes() -> None:
    """Retries that fail alike are no news; a recovery and a new failure are."""
    conclusions = _Conclusions()
    progress = Progress()
    progress.subscribe(conclusions)
    plan = _published(progress, _set("a"), pending=["a"])
    for error, count in (("x", 1), ("x", 1), ("y", 2)):
        progress.failed("a", plan, error)
        assert conclusions.count == count
    progress.succeeded("a", plan)
    progress.succeeded("a", plan)
    assert conclusions.count == 3


def test_an_outcome_of_an_earlier_set_does_not_count() -> None:
    """A worker that began before the publication says nothing about what is wanted now."""
    conclusions = _Conclusions()
    progress = Progress()
    progress.subscribe(conclusions)
    before = _published(progress, _set("a"), pending=["a"])
    now = _published(progress, _set("a"), pending=["a"])
    progress.succeeded("a", before)
    assert (progress.outcome().pending, conclusions.count) == (1, 0)
    progress.failed("a", before, "old")
    assert not progress.outcome().failed
    progress.succeeded("a", now)
    assert (progress.outcome().synced, conclusions.count) == (1, 1)


def test_a_failing_deletion_counts_as_failed_and_not_as_desired() -> None:
    """What is being deleted is wanted by nobody, but its failure is told."""
    progress = Progress()
    plan = _published(progress, _set("a"), pending=["gone"])
    progress.failed("gone", plan, "refused")
    outcome = progress.outcome()
    assert (outcome.desired, outcome.synced, outcome.failed) == (1, 1, {"gone": "refused"})


def test_failures_last_until_they_are_tried_again_or_are_no_longer_wrong() -> None:
    """Between publication and retry a name stays failed; one that needs no work any more does not."""
    progress = Progress()
    plan = _published(progress, _set("a", "b"), pending=["a", "b"])
    progress.failed("a", plan, "refused")
    progress.failed("b", plan, "refused")
    _published(progress, _set("a", "b"), pending=["a"])
    assert progress.outcome().failed == {"a": "refused"}


def test_what_waits_behind_hanging_writes_is_reported_too() -> None:
    """A webhook that hangs for all: with eight workers, most names would have no result for as long as it hangs."""
    progress = Progress()
    _published(progress, _set("a", "b", "c"), pending=["mp-a", "mp-b", "mp-c"])
    progress.report_hanging({"mp-a": HANGING_SECONDS, "mp-b": 0.0})
    assert set(progress.outcome().failed) == {"mp-a"}, "one of the workers has just begun"
    assert progress.outcome().pending == 2
    progress.report_hanging({"mp-a": 2 * HANGING_SECONDS, "mp-b": HANGING_SECONDS})
    failed = progress.outcome().failed
    assert progress.outcome().pending == 0
    assert set(failed) == {"mp-a", "mp-b", "mp-c"}
    assert "has not answered" in failed["mp-b"]
    assert "waits for other Applications" in failed["mp-c"]


def test_what_is_desired_of_an_application_is_known() -> None:
    """Caches take it from here, so that it is in memory once."""
    progress = Progress()
    assert progress.known_fields("a") == {}
    plan = _published(progress, _set("a"), pending=[])
    assert progress.known_fields("a")["spec"] is plan.desired.by_name["a"].spec
    assert progress.known_fields("b") == {}
