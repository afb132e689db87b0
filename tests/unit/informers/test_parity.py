"""The page that holds the project against client-go: what it names exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = [
    ROOT / "tests" / kind / part for kind in ("unit", "integration") for part in ("informers", "workqueue", "runtime")
]
FILES = {path: path.read_text() for folder in FOLDERS for path in sorted(folder.glob("*.py"))}
ROWS = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line in (ROOT / "docs" / "client-go-parity.md").read_text().splitlines()
    if line.startswith("| ")
    and not line.startswith(("| client-go |", "| controller-runtime |", "| trap |", "| test of "))
]


def test_rows_are_found() -> None:
    """The page has a row for each promise, and this test reads them."""
    assert len(ROWS) > 60


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:60] for row in ROWS])
def test_named_tests_exist(row: list[str]) -> None:
    """Each file, class, test and case that a row names is there; a row without a test says that none is needed."""
    tests = row[-1]
    if tests == "-":
        assert re.search("not ported|off,|does not apply", row[1]), "a row without tests says why"
        return
    names = re.findall(r"`([^`]+)`", tests)
    cases = re.findall(r'"([^"]+)"', tests)
    assert names or cases or tests.startswith(("all ", "does not apply: ")), tests
    for name in names:
        assert _exists(name), name
    for case in cases:
        assert any(re.search(rf'"[^"\n]*{re.escape(case)}[^"\n]*"', text) for text in FILES.values()), case


def _exists(name: str) -> bool:
    file, *parts = name.split("::") if ".py" in name else ["", *name.split("::")]
    texts = [text for path, text in FILES.items() if str(path).endswith(file)]
    if file.startswith("tests/") and not file.endswith(".py"):
        return (ROOT / file).is_dir()
    if not file and name.startswith("tests/"):
        return (ROOT / name).is_dir()
    found = [text for text in texts if all(re.search(rf"(def|class) {re.escape(part)}\b", text) for part in parts)]
    return bool(found)
