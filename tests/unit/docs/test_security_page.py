"""The page on security says what tests show: every statement names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "security.md").read_text()

ROW = re.compile(r"^\| (\d+) \| (.+) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_each_statement_names_tests_that_exist() -> None:
    """By file and name, and nothing else in the column of tests."""
    rows = list(ROW.finditer(PAGE))
    assert rows
    for row in rows:
        cell = row[2].rsplit(" | ", 1)[-1]
        named = TEST.findall(cell)
        assert named, f"statement {row[1]} names no test"
        assert re.sub(r"[, ]", "", TEST.sub("", cell)) == "", f"statement {row[1]}: {cell}"
        missing = [f"{path}::{name}" for path, name in named if not _exists(path, name)]
        assert missing == [], f"statement {row[1]}"


def _exists(path: str, name: str) -> bool:
    file = ROOT / path
    return file.exists() and re.search(rf"^ *def {name}\(", file.read_text(), re.MULTILINE) is not None
