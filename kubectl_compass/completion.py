"""`kubectl_complete-compass`: what kubectl's shell completion runs for `kubectl compass`.

kubectl passes the words after `compass`. The last one, which may be empty, is to be completed. The output has one
candidate in each line and, in the last line, a colon with a number of cobra's ShellCompDirective
(https://pkg.go.dev/github.com/spf13/cobra).
"""

import argparse
import sys
from collections.abc import Iterable, Sequence

from kubectl_compass.arguments import parser

_DEFAULT, _NO_FILES = 0, 4
"""cobra's directives: the shell may complete file names, or may not."""


def main(given: Sequence[str] | None = None) -> int:
    """Prints the candidates."""
    words = list(sys.argv[1:] if given is None else given)
    candidates, directive = complete(words[:-1], words[-1] if words else "")
    for candidate in candidates:
        print(candidate)
    print(f":{directive}")
    return 0


def complete(before: Sequence[str], current: str) -> tuple[list[str], int]:
    """The candidates for `current` after the words `before`, and the directive of cobra."""
    here = parser()
    option: argparse.Action | None = None
    for word in before:
        found = here._option_string_actions.get(word)  # noqa: SLF001 - argparse has no other way to look one up
        if option is not None:
            option = None  # this word was its value
        elif found is not None:
            option = None if found.nargs == 0 else found
        elif (commands := _commands(here)) and word in commands:
            here = commands[word]
    if option is None and current.startswith("--") and "=" in current:
        name, _, value = current.partition("=")
        option = here._option_string_actions.get(name)  # noqa: SLF001
        values, directive = _values(option)
        return [f"{name}={v}" for v in values if v.startswith(value)], directive
    if option is not None:
        values, directive = _values(option)
        return [value for value in values if value.startswith(current)], directive
    if current.startswith("-"):
        names: Iterable[str] = here._option_string_actions  # noqa: SLF001
        return sorted(name for name in names if name.startswith(current) and name.startswith("--")), _NO_FILES
    return [name for name in _commands(here) if name.startswith(current)], _NO_FILES


def _commands(here: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in here._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            found: dict[str, argparse.ArgumentParser] = action.choices
            return found
    return {}


def _values(option: argparse.Action | None) -> tuple[list[str], int]:
    if option is None:
        return [], _NO_FILES
    if option.dest == "kubeconfig":
        return [], _DEFAULT
    return sorted(map(str, option.choices or ())), _NO_FILES
