"""How many Applications may be deleted at once: an operator's guard against a mistake in Compass."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

CONFIRM_DELETIONS = "compass.kyma-project.io/confirm-deletions"
"""Annotation of the CompassConnection. Its value is the fingerprint of the deletions that may happen.

The next answer of the Director uses it up: it confirms what is held back then, or it is void.
"""

_FINGERPRINT_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the Applications that are gone from the Director.

    ``held`` must stay. ``fresh`` counts those that no earlier verdict let go, ``fingerprint`` names exactly these.
    ``confirmed``: they would be held, and were confirmed.
    """

    held: frozenset[str]
    fresh: int
    fingerprint: str
    confirmed: bool


def fingerprint(uids: Mapping[str, str]) -> str:
    """Names a set of Applications, given as uids by name: these objects, and not later ones with the same names."""
    text = "\n".join(f"{name} {uid}" for name, uid in sorted(uids.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:_FINGERPRINT_DIGITS]


class DeletionGuard:
    """Holds back more than ``limit`` percent of the managed Applications; never anything when that is None.

    What was let go once stays so until it is deleted or assigned again: deletions that take longer than a period, or
    that fail, are not counted anew against the ever fewer Applications that are left.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._allowed: frozenset[tuple[str, str]] = frozenset()

    def judge(self, gone: Mapping[str, str], *, managed: int, confirmation: str | None) -> Verdict:
        """``gone`` has uids by name; ``managed`` counts all Applications of the agent, those that are gone included.

        Nothing is remembered.
        """
        fresh = {name: uid for name, uid in gone.items() if (name, uid) not in self._allowed}
        name = fingerprint(fresh)
        too_many = self._limit is not None and len(fresh) * 100 > self._limit * managed
        confirmed = too_many and confirmation == name
        return Verdict(frozenset(fresh if too_many and not confirmed else ()), len(fresh), name, confirmed)

    def settle(self, gone: Mapping[str, str], verdict: Verdict) -> None:
        """Remember what was let go, once it is certain to be."""
        self._allowed = frozenset((name, uid) for name, uid in gone.items() if name not in verdict.held)
