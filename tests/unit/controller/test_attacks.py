"""Attacks that have no better place: each is tried, and what stops it is asserted."""

import sys
from typing import Any

from controller.compass import tls
from tests.support.connection_bench import Bench


class _Opened:
    """The files that this process opens for writing; an audit hook stays, so it is switched off at the end."""

    def __init__(self) -> None:
        self.active = False
        self.paths: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.active and event == "open" and isinstance(arguments[0], (str, bytes)):
            self.paths.append(str(arguments[0]))


def test_a_client_key_gets_no_path() -> None:
    """OpenSSL reads key and certificate from anonymous memory: no file is opened by name for it."""
    credentials = Bench().paired().credentials.load()
    opened = _Opened()
    opened.active = True
    try:
        tls.client_context(credentials.pair)
    finally:
        opened.active = False
    assert opened.paths == []
