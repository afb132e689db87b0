"""Telling a person what takes so long."""

import sys
from collections.abc import Callable

Report = Callable[[str], None]
"""Takes one line of progress."""


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Like `41 s` or `3 min 05 s`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
