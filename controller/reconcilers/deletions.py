"""How many Applications may be deleted at once: an operator's guard against a mistake in Compass."""

from collections.abc import Collection
from dataclasses import dataclass

CONFIRM_DELETIONS = "compass.kyma-project.io/confirm-deletions"
"""Annotation of the CompassConnection: so many Applications may be deleted at once. Taken away when it was used."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the Applications that are gone from the Director.

    ``held`` must stay; ``fresh`` are those that were not decided on before; ``used``: the confirmation was needed.
    """

    held: frozenset[str]
    fresh: int
    used: bool


class DeletionGuard:
    """Holds back more than ``limit`` percent of the managed Applications; never anything when that is None.

    What was let go once stays so until it is deleted or assigned again: deletions that take longer than a period, or
    that fail, are not counted anew against the ever fewer Applications that are left.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._allowed: frozenset[str] = frozenset()

    def judge(self, gone: Collection[str], *, managed: int, confirmed: int | None) -> Verdict:
        """``managed`` counts all Applications of the agent, those that are gone included. Nothing is remembered."""
        fresh = frozenset(gone) - self._allowed
        too_many = self._limit is not None and len(fresh) * 100 > self._limit * managed
        used = too_many and confirmed is not None and confirmed >= len(fresh)
        return Verdict(fresh if too_many and not used else frozenset(), len(fresh), used)

    def settle(self, gone: Collection[str], verdict: Verdict) -> None:
        """Remember what was let go, once it is certain to be."""
        self._allowed = frozenset(gone) - verdict.held
