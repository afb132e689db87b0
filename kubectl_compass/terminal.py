"""Where a command shows what it has found, and what it does meanwhile."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import yaml

from controller.text import clean
from kubectl_compass.arguments import Output
from workqueue import Clock

_MAX_TEXT = 1024


class Terminal:
    """Results go to `out`: text for people, JSON and YAML for scripts. Progress and errors go to `err`."""

    def __init__(self, output: Output, *, out: TextIO, err: TextIO, clock: Clock) -> None:
        self.output = output
        self.out = out
        self.clock = clock
        self._err = err
        self._began = clock.monotonic()

    def show(self, result: Mapping[str, Any], *, lines: Callable[[], list[str]]) -> None:
        """Print the result. `lines`: the text for people."""
        if self.output == "json":
            text = json.dumps(result, indent=2)
        elif self.output == "yaml":
            text = yaml.safe_dump(dict(result), sort_keys=False).removesuffix("\n")
        else:
            text = "\n".join(lines())
        print(text, file=self.out, flush=True)

    def say(self, text: str) -> None:
        """Print one line about the progress; line breaks in the text are replaced."""
        print(clean(text, _MAX_TEXT), file=self._err, flush=True)

    def step(self, text: str) -> None:
        """The same, with the seconds since the command began."""
        self.say(f"{self.clock.monotonic() - self._began:4.0f} s  {text}")
