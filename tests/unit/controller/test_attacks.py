"""Attacks that have no better place: each is tried, and what stops it is asserted."""

import sys
from typing import Any

from controller.compass import tls
from tests.support.connection_bench import Bench


def test_a_client_key_gets_no_path() -> None:
    """OpenSSL reads key and certificate from anonymous memory: no file is opened by name for it."""
    credentials = Bench().paired().credentials.load()
    opened: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open" and isinstance(arguments[0], (str, bytes)):
            opened.append(str(arguments[0]))

    sys.addaudithook(hook)
    try:
        tls.client_context(credentials.pair)
    finally:
        watching = False  # a hook cannot be removed
    assert opened == []
