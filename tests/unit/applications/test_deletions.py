"""The guard against mass deletions, as a table of syncs in a row."""

import pytest

from controller.applications.deletions import DeletionGuard, fingerprint


def _gone(count: int, first: int = 0, generation: str = "") -> dict[str, str]:
    return {f"app-{number}": f"uid-{number}{generation}" for number in range(first, first + count)}


@pytest.mark.parametrize(
    ("limit", "gone", "managed", "confirmation", "held", "confirmed"),
    [
        (None, 10, 10, None, 0, False),  # off: all may go
        (50, 5, 10, None, 0, False),  # exactly the limit
        (50, 6, 10, None, 6, False),  # above it: none goes
        (50, 6, 10, fingerprint(_gone(5)), 6, False),  # another set was confirmed
        (50, 6, 10, fingerprint(_gone(7)), 6, False),
        (50, 6, 10, fingerprint(_gone(6, first=1)), 6, False),
        (50, 6, 10, fingerprint(_gone(6, generation="b")), 6, False),  # later objects of the same names
        (50, 6, 10, "6", 6, False),
        (50, 6, 10, "", 6, False),
        (50, 6, 10, fingerprint(_gone(6)), 0, True),
        (50, 5, 10, fingerprint(_gone(5)), 0, False),  # not needed
        (0, 1, 1000, None, 1, False),  # no deletion at all without confirmation
        (100, 10, 10, None, 0, False),
        (0, 0, 0, None, 0, False),
    ],
)
def test_one_sync(
    limit: int | None, gone: int, managed: int, confirmation: str | None, held: int, confirmed: bool
) -> None:
    """More than the limit is held back as a whole, unless exactly these are confirmed."""
    verdict = DeletionGuard(limit).judge(_gone(gone), managed=managed, confirmation=confirmation)
    assert (len(verdict.held), verdict.new, verdict.confirmed) == (held, gone, confirmed)


def test_a_released_deletion_is_not_held_later() -> None:
    """Deletions that take several syncs go on, though ever fewer Applications are left."""
    guard = DeletionGuard(50)
    gone = _gone(10)
    guard.settle(guard.judge(gone, managed=10, confirmation=fingerprint(gone)))
    for left in (7, 3, 1):
        verdict = guard.judge(_gone(left), managed=left, confirmation=None)
        assert (verdict.held, verdict.new) == (frozenset(), 0)
        guard.settle(verdict)


def test_later_deletions_are_judged_separately() -> None:
    """Further deletions are held while earlier ones go on."""
    guard = DeletionGuard(50)
    guard.settle(guard.judge(_gone(5), managed=10, confirmation=None))
    verdict = guard.judge(_gone(10), managed=10, confirmation=None)
    assert not verdict.held
    guard = DeletionGuard(40)
    guard.settle(guard.judge(_gone(4), managed=10, confirmation=None))
    verdict = guard.judge(_gone(10), managed=10, confirmation=None)
    assert verdict.held == frozenset(_gone(6, first=4))
