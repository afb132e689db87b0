"""Holds back the deletion of many Applications at once until it is confirmed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONFIRM_DELETIONS = "compass.kyma-project.io/confirm-deletions"
"""Annotation of the CompassConnection. Its value is the fingerprint of the confirmed deletions.

The next sync removes it: it confirms the deletions that wait then, or it has no effect.
"""

_FINGERPRINT_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about the Applications that are no longer assigned.

    `held` must stay until they are confirmed. `allowed`: names and uids of those to delete. `limited`: there is a
    limit. `new` counts those that no earlier verdict allowed, `fingerprint` identifies exactly these. `confirmed`: they
    exceed the limit and were confirmed.
    """

    held: frozenset[str]
    allowed: frozenset[tuple[str, str]]
    limited: bool
    new: int
    fingerprint: str
    confirmed: bool

    def allows(self, metadata: Mapping[str, Any]) -> bool:
        """Whether an Application may be deleted. With a limit, one that appeared later waits until the next verdict
        counts it.
        """
        return not self.limited or (metadata["name"], metadata["uid"]) in self.allowed


def fingerprint(uids: Mapping[str, str]) -> str:
    """Identifies a set of Applications, given as uids by name: these objects, and not later ones with the same
    names.
    """
    text = "\n".join(f"{name} {uid}" for name, uid in sorted(uids.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:_FINGERPRINT_DIGITS]


class DeletionGuard:
    """Holds back more than `limit` percent of the managed Applications; nothing if the limit is None.

    A deletion that was allowed stays allowed until it is done or the Application is assigned again. So deletions that
    take longer than a period, or that fail, are not counted again against the decreasing number of Applications.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._allowed: frozenset[tuple[str, str]] = frozenset()

    def judge(self, gone: Mapping[str, str], *, managed: int, confirmation: str | None) -> Verdict:
        """`gone` has uids by name; `managed` is the number of all Applications of the agent, including those in
        `gone`.

        Does not change any state.
        """
        new = {name: uid for name, uid in gone.items() if (name, uid) not in self._allowed}
        expected = fingerprint(new)
        too_many = self._limit is not None and len(new) * 100 > self._limit * managed
        confirmed = too_many and confirmation == expected
        held = frozenset(new if too_many and not confirmed else ())
        allowed = frozenset((name, uid) for name, uid in gone.items() if name not in held)
        return Verdict(held, allowed, self._limit is not None, len(new), expected, confirmed)

    def settle(self, verdict: Verdict) -> None:
        """Remember the allowed deletions, when they are final."""
        self._allowed = verdict.allowed
