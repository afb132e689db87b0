"""docs/connection.md speaks of what there is."""

import re
from pathlib import Path

import pytest

from controller.connection import problem
from controller.connection.configuration import REVOKED
from controller.connection.observations import Failure, Owner
from controller.connection.problem import Problem, TokenFate
from controller.connection.status import ConnectionState
from tests.support.rules_page import render

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "connection.md").read_text()
TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text()
FAILURE = Failure(Exception, "...")
DIAGRAM = TEXT[TEXT.index("```mermaid") : TEXT.index("| edge |")]
TABLE = TEXT[TEXT.index("| edge |") : TEXT.index("## Lost")]


def test_each_test_named_exists() -> None:
    """An edge without its test would be a claim."""
    defined = {
        name
        for directory in ("integration/connection", "integration/sync", "unit/controller", "unit/applications")
        for path in (ROOT / "tests" / directory).glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+)`", TABLE))
    assert named
    assert named <= defined


def test_each_edge_of_the_diagram_is_in_the_table_and_has_a_test() -> None:
    """By its number."""
    drawn = {int(number) for label in re.findall(r"--> \w+: ([\d, ]+)", DIAGRAM) for number in label.split(",")}
    rows = [row.split("|") for row in TABLE.splitlines()[2:] if row.startswith("|")]
    tested = {int(number) for row in rows for number in re.findall(r"\d+", row[1]) if "`test_" in row[3]}
    assert drawn == set(range(1, max(drawn) + 1))
    assert tested == drawn


def test_the_diagram_has_each_state() -> None:
    """And no other."""
    nodes = set(re.findall(r"(\w+) --> ", DIAGRAM)) | set(re.findall(r"--> (\w+)", DIAGRAM))
    assert nodes - {"answers"} == {state.value for state in ConnectionState}


def test_the_tables_are_those_of_the_rules() -> None:
    """Each rule, in the order in which the first that applies decides."""
    assert render(TEXT) == TEXT, "run: python -m tests.support.rules_page"


@pytest.mark.parametrize(
    "told",
    [
        problem.pairing_failed("", FAILURE, fate=TokenFate.REFUSED, origin="..."),
        problem.pairing_failed("", FAILURE, fate=TokenFate.UNCERTAIN, origin="..."),
        problem.pairing_failed("", FAILURE, fate=TokenFate.ANSWER_LOST, origin="..."),
        problem.wrong_runtime(Owner("", "", "...", settled=False), configured="...", origin="..."),
    ],
    ids=["refused", "uncertain", "answer lost", "wrong Runtime"],
)
def test_troubleshooting_has_the_very_texts(told: Problem) -> None:
    """With dots for what differs; of a failed pairing, what is said of its token."""
    text = told.message.removeprefix("... (").removesuffix(")")
    assert f"`{text}`" in TROUBLESHOOTING


def test_the_annotation_is_the_one_in_use() -> None:
    """What operators may look for."""
    assert REVOKED in TEXT
