"""Results on standard output: text for people, JSON and YAML for scripts."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import yaml

from kubectl_compass.arguments import Output


def show(result: Mapping[str, Any], output: Output, out: TextIO, *, lines: Callable[[], list[str]]) -> None:
    """Print the result. `lines`: the text for people."""
    if output == "json":
        print(json.dumps(result, indent=2), file=out)
    elif output == "yaml":
        print(yaml.safe_dump(dict(result), sort_keys=False), end="", file=out)
    else:
        print("\n".join(lines()), file=out)
