"""Progress: what is pending, what failed, and when there is something to conclude."""

import pytest

from controller.applications.conversion import ConversionSettings
from controller.applications.deletions import DeletionGuard
from controller.applications.desired import desired_set
from controller.applications.progress import HANGING_SECONDS, Plan, Progress
from controller.compass.types import Application, Assignment


@pytest.fixture
def concluded(progress: Progress) -> list[int]:
    """The generation of each conclusion."""
    generations: list[int] = []
    progress.subscribe(lambda: generations.append(progress.outcome().generation))
    return generations


@pytest.fixture
def progress() -> Progress:
    return Progress()


def _published(progress: Progress, *names: str, pending: list[str]) -> Plan:
    applications = tuple(Application(f"id-{name}", name) for name in names)
    assignment = Assignment(applications, (), {"isNormalized": "true"})
    desired = desired_set(assignment, ConversionSettings("http://gateway"))
    plan = progress.publish(desired, DeletionGuard(None).judge({}, managed=0, confirmation=None), request_id="r")
    progress.expect(pending)
    return plan


def test_concludes_with_the_last_pending_name(progress: Progress, concluded: list[int]) -> None:
    """One conclusion for a set, whatever order the outcomes come in."""
    plan = _published(progress, "a", "b", "c", pending=["a", "b"])
    progress.succeeded("b", plan)
    assert (len(concluded), progress.outcome().synced) == (0, 2)
    progress.failed("a", plan, "refused")
    assert len(concluded) == 1
    outcome = progress.outcome()
    assert (outcome.desired, outcome.synced, outcome.pending, outcome.failed) == (3, 2, 0, {"a": "refused"})


def test_concludes_again_only_when_an_outcome_changes(progress: Progress, concluded: list[int]) -> None:
    """Retries that fail alike are no news; a recovery and a new failure are."""
    plan = _published(progress, "a", pending=["a"])
    for error, count in (("x", 1), ("x", 1), ("y", 2)):
        progress.failed("a", plan, error)
        assert len(concluded) == count
    progress.succeeded("a", plan)
    progress.succeeded("a", plan)
    assert len(concluded) == 3


def test_an_outcome_of_an_earlier_set_does_not_count(progress: Progress, concluded: list[int]) -> None:
    """The worker began before the publication."""
    before = _published(progress, "a", pending=["a"])
    now = _published(progress, "a", pending=["a"])
    progress.succeeded("a", before)
    assert (progress.outcome().pending, len(concluded)) == (1, 0)
    progress.failed("a", before, "old")
    assert not progress.outcome().failed
    progress.succeeded("a", now)
    assert (progress.outcome().synced, len(concluded)) == (1, 1)


def test_a_failing_deletion_counts_as_failed_and_not_as_desired(progress: Progress) -> None:
    """Its failure is reported all the same."""
    plan = _published(progress, "a", pending=["gone"])
    progress.failed("gone", plan, "refused")
    outcome = progress.outcome()
    assert (outcome.desired, outcome.synced, outcome.failed) == (1, 1, {"gone": "refused"})


def test_a_failure_lasts_until_a_retry_or_until_it_is_in_sync(progress: Progress) -> None:
    """Between publication and retry a name stays failed; one that needs no work does not."""
    plan = _published(progress, "a", "b", pending=["a", "b"])
    progress.failed("a", plan, "refused")
    progress.failed("b", plan, "refused")
    _published(progress, "a", "b", pending=["a"])
    assert progress.outcome().failed == {"a": "refused"}


def test_names_behind_hanging_writes_are_reported(progress: Progress) -> None:
    """A webhook that hangs for all: with two workers, most names would have no result for as long as it hangs."""
    _published(progress, "a", "b", "c", pending=["mp-a", "mp-b", "mp-c"])
    progress.report_hanging({"mp-a": HANGING_SECONDS, "mp-b": 0.0}, workers=2)
    assert set(progress.outcome().failed) == {"mp-a"}, "one of the workers has just begun"
    progress.report_hanging({"mp-a": HANGING_SECONDS}, workers=2)
    assert set(progress.outcome().failed) == {"mp-a"}, "the other worker has nothing to do"
    assert progress.outcome().pending == 2
    progress.report_hanging({"mp-a": 2 * HANGING_SECONDS, "mp-b": HANGING_SECONDS}, workers=2)
    failed = progress.outcome().failed
    assert progress.outcome().pending == 0
    assert set(failed) == {"mp-a", "mp-b", "mp-c"}
    assert "has not answered" in failed["mp-b"]
    assert "waits for other Applications" in failed["mp-c"]


def test_the_desired_fields_of_an_application_are_known(progress: Progress) -> None:
    """Caches take it from here, so that it is in memory once."""
    assert progress.known_fields("a") == {}
    plan = _published(progress, "a", pending=[])
    assert progress.known_fields("a")["spec"] is plan.desired.by_name["a"].spec
    assert progress.known_fields("b") == {}
