"""Expressions that the text of this repository does not use: private vocabulary, and phrases that are hard to read."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
THIS = Path(__file__).relative_to(ROOT)

#: Each with what to write instead. Spaces stand for any white space, so a line break is no hiding place.
GONE = {
    "the least of hopes": "say what is expected",
    "ended so:": "failed:",
    "is nobody's": "has no owner",
    "what it misses": "what is missing",
    "brings about": "creates, causes",
    "bring about": "create, cause",
    "comes about": "happens, is met",
    "come about": "happen, be met",
    "as the Director says": "in sync with the Director",
    "as Compass wants": "in sync",
    "is nobody that": "no ... does",
    "had better": "should",
    "the agent in Go": "the Go agent",
    "agents in Go": "Go agents",
    "puts it right": "reverts it",
    "put right": "reverted, corrected",
    "tell of": "report, show",
    "tells of": "reports, shows",
    "hears of": "gets, is called for",
    "whoever it is": "any client",
    "as it should be": "in sync, correct",
    "as they should be": "in sync, correct",
}


def tracked() -> list[str]:
    """Files with text of ours."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [name for name in names if Path(name).suffix in {".md", ".py", ".yaml", ".toml"} and Path(name) != THIS]


@pytest.mark.parametrize("expression", GONE)
def test_expressions_that_are_gone(expression: str) -> None:
    """Case does not matter; nor does the sign of a comment at a line break."""
    pattern = re.compile(r"\b" + r"\s+(?:#:?\s+)?".join(map(re.escape, expression.split())), re.IGNORECASE)
    found = [name for name in tracked() if pattern.search((ROOT / name).read_text())]
    assert not found, f"write instead: {GONE[expression]}"


def test_docstrings_and_comments_are_markdown() -> None:
    """Code is in single backquotes."""
    doubled = re.compile(r"(?<!`)``(?!`)")
    assert not [name for name in tracked() if name.endswith(".py") and doubled.search((ROOT / name).read_text())]
