"""Makes text from outside safe for a status, an Event, a log line or a terminal."""

import json
from functools import lru_cache


def printable(text: str) -> str:
    """The text with a JSON escape for each unprintable character: controls, line ends, marks that change the direction
    of writing, lone surrogates. So it stays in its line and cannot control a terminal.
    """
    if text.isprintable():
        return text
    return "".join(map(_printable_character, text))


@lru_cache(maxsize=1024)
def _printable_character(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


def clean(text: str, limit: int) -> str:
    """The text in at most `limit` printable characters; an ellipsis replaces the rest."""
    shown = printable(text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "\u2026"


def clean_lines(text: str, limit: int) -> list[str]:
    """The lines of the text, each as `clean` makes it, in at most `limit` characters together. At least one line."""
    shown, left = [], limit
    for line in text[: limit + 1].split("\n"):
        if left > 0:
            shown.append(clean(line, left))
            left -= len(shown[-1]) + 1
    return shown
