"""The help and docs/plugin.md say the same in the same words."""

import argparse
import re
from pathlib import Path

import pytest

from kubectl_compass.arguments import COMMANDS, EXAMPLES, EXIT_STATUSES, parser

PAGE = (Path(__file__).parents[3] / "docs/plugin.md").read_text()


def rows(head: str) -> dict[str, str]:
    """First and second cell of the rows below a head."""
    table = PAGE[PAGE.index(f"| {head} |") :].split("\n\n", 1)[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    return {row[0].replace("`", ""): row[1] for row in cells}


def subparsers() -> dict[str, argparse.ArgumentParser]:
    (action,) = [one for one in parser()._actions if isinstance(one, argparse._SubParsersAction)]
    return dict(action.choices)


def test_commands_and_exit_statuses() -> None:
    """All of them, in the order of the help."""
    assert list(rows("command").items()) == list(COMMANDS.items())
    assert list(subparsers()) == list(COMMANDS)
    assert rows("exit status") == EXIT_STATUSES


def test_options_that_several_commands_have() -> None:
    """With their meaning."""
    found: dict[str, list[str]] = {}
    for command in subparsers().values():
        for action in command._actions:
            if action.dest != "help":
                found.setdefault(", ".join(action.option_strings), []).append(str(action.help))
    shared = {option: texts[0] for option, texts in found.items() if len(texts) > 2}
    assert rows("option") == shared


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_of_the_help_are_on_the_page(name: str) -> None:
    help_ = subparsers()[name].format_help()
    page = re.sub(r"\\\n *", "", PAGE)
    for example in EXAMPLES[name]:
        assert f"  {example}\n" in help_
        assert re.search(rf"^ *\$ {re.escape(example.removesuffix(' <token'))}\b", page, re.MULTILINE), example
