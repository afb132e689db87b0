"""The guard against mass deletions, as a table of syncs in a row."""

import pytest

from controller.reconcilers.deletions import DeletionGuard


def _names(count: int, first: int = 0) -> list[str]:
    return [f"app-{number}" for number in range(first, first + count)]


@pytest.mark.parametrize(
    ("limit", "gone", "managed", "confirmed", "held", "used"),
    [
        (None, 10, 10, None, 0, False),  # off: all may go
        (50, 5, 10, None, 0, False),  # exactly the limit
        (50, 6, 10, None, 6, False),  # above it: none goes
        (50, 6, 10, 5, 6, False),  # confirmed for fewer
        (50, 6, 10, 6, 0, True),
        (50, 6, 10, 100, 0, True),
        (50, 5, 10, 5, 0, False),  # not needed, so not used up
        (0, 1, 1000, None, 1, False),  # no deletion at all without confirmation
        (100, 10, 10, None, 0, False),
        (0, 0, 0, None, 0, False),
    ],
)
def test_one_sync(limit: int | None, gone: int, managed: int, confirmed: int | None, held: int, used: bool) -> None:
    """More than the limit is held back as a whole, unless so many are confirmed."""
    verdict = DeletionGuard(limit).judge(_names(gone), managed=managed, confirmed=confirmed)
    assert (len(verdict.held), verdict.fresh, verdict.used) == (held, gone, used)


def test_what_was_let_go_is_not_held_half_way() -> None:
    """Deletions that take several syncs go on, though ever fewer Applications are left."""
    guard = DeletionGuard(50)
    gone = _names(10)
    guard.settle(gone, guard.judge(gone, managed=10, confirmed=10))
    for left in (7, 3, 1):
        verdict = guard.judge(_names(left), managed=left, confirmed=None)
        assert (verdict.held, verdict.fresh) == (frozenset(), 0)
        guard.settle(_names(left), verdict)


def test_later_ones_are_judged_by_themselves() -> None:
    """More that go while others are deleted are held; those that were let go before are not."""
    guard = DeletionGuard(50)
    guard.settle(_names(5), guard.judge(_names(5), managed=10, confirmed=None))
    verdict = guard.judge(_names(10), managed=10, confirmed=None)
    assert not verdict.held
    guard = DeletionGuard(40)
    guard.settle(_names(4), guard.judge(_names(4), managed=10, confirmed=None))
    verdict = guard.judge(_names(10), managed=10, confirmed=None)
    assert verdict.held == frozenset(_names(6, first=4))


def test_assigned_again_and_gone_again_counts_anew() -> None:
    """A confirmation is for what went then."""
    guard = DeletionGuard(50)
    guard.settle(_names(10), guard.judge(_names(10), managed=10, confirmed=10))
    guard.settle([], guard.judge([], managed=10, confirmed=None))
    assert len(guard.judge(_names(10), managed=10, confirmed=None).held) == 10


def test_a_verdict_that_was_not_settled_changes_nothing() -> None:
    """When using up the confirmation fails, the next sync decides the same."""
    guard = DeletionGuard(50)
    assert guard.judge(_names(10), managed=10, confirmed=10).used
    assert guard.judge(_names(10), managed=10, confirmed=10).used
    assert len(guard.judge(_names(10), managed=10, confirmed=None).held) == 10
