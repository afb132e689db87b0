"""What the tests share that throw anything at the agent: values, places, the log, and how many examples they try.

Each test tries a few fixed examples, which take a minute in all. With FUZZ_SEED in the environment the examples are
others, and many more: `make chaos` does that for ten minutes and prints the seed of a failure.
"""

import copy
import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from controller.runtime.logs import TextFormatter

SEED = os.environ.get("FUZZ_SEED", "")

quickly = settings(
    max_examples=200 if SEED else 20,
    deadline=None,
    derandomize=not SEED,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

HOSTILE = "\x1b[2J\x9b31m\u202egone\r\nFORGED\x00"
TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", HOSTILE, "x" * 5000, "9" * 5000, "true", "../..", "2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]
)
KEYS = st.sampled_from(
    ["app", "bundleId", "applicationId", "error", "id", "kind", "name", "namespace", "secretName", "uid", HOSTILE]
)


def any_json(texts: st.SearchStrategy[str], keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Any JSON, with these texts and keys in it: words that the agent looks for come more often than by chance."""
    return st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=8,
    )


VALUES = any_json(TEXTS, KEYS)

PLACES = st.lists(st.integers(min_value=0, max_value=7), max_size=8)
"""A way down into a document: at each level the n-th member, as far as there are any."""


def planted(document: Any, way: list[int], value: Any) -> Any:
    """The document with `value` where the way ends."""
    if not way or not isinstance(document, (dict, list)) or not document:
        return value
    changed: Any = copy.copy(document)
    key = list(document)[way[0] % len(document)] if isinstance(document, dict) else way[0] % len(document)
    changed[key] = planted(document[key], way[1:], value)
    return changed


@contextmanager
def log() -> Iterator[io.StringIO]:
    """All that is logged inside, as the process would print it, debug records included."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(TextFormatter())
    root, package = logging.getLogger(), logging.getLogger("controller")
    level = package.level
    root.addHandler(handler)
    package.setLevel(logging.DEBUG)
    try:
        yield text
    finally:
        root.removeHandler(handler)
        package.setLevel(level)


def strings(value: Any) -> Iterator[str]:
    """Every text in a document, keys included."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from strings(key)
            yield from strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value
