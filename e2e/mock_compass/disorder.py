"""The order of what nobody has ordered: nested lists and errors come in another one with each answer."""

import os
import random
from typing import TypeVar

SEED_VARIABLE = "MOCK_COMPASS_SEED"

_T = TypeVar("_T")


def choose_seed() -> str:
    """Sets $MOCK_COMPASS_SEED if it is not set, so that all processes of a run have one; the text repeats a run."""
    seed = os.environ.setdefault(SEED_VARIABLE, str(random.SystemRandom().getrandbits(32)))
    return f"mock Compass: {SEED_VARIABLE}={seed}"


class Disorder:
    """As the real Director, whose database unites lists without ordering them, and whose fields are resolved at once.

    The same `seed` gives the same orders to the same sequence of requests. Without one it is $MOCK_COMPASS_SEED, or
    made up. `enabled` False keeps every list as it was written.
    """

    def __init__(self, seed: int | None = None) -> None:
        given = os.environ.get(SEED_VARIABLE)
        if seed is None and given:
            seed = int(given)
        self.seed = random.SystemRandom().getrandbits(32) if seed is None else seed
        self.enabled = True
        self._random = random.Random(self.seed)

    def shuffled(self, items: list[_T]) -> list[_T]:
        """The items in a fresh order; the list itself is not changed."""
        return self._random.sample(items, len(items)) if self.enabled and len(items) > 1 else items
