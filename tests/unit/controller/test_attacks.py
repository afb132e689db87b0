"""Attacks that have no better place: each is tried, and what stops it is asserted."""

import sys
from typing import Any

import pytest

from controller.compass import tls
from tests.support import connection_bench
from tests.support.agent_thread import small_key
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


def test_a_client_key_gets_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL reads key and certificate from anonymous memory: no file is opened by name for it."""
    monkeypatch.setattr(connection_bench, "pooled_key", small_key)  # of a size that OpenSSL takes
    credentials = Bench().paired().credentials.load()
    opened = _Opened()
    opened.active = True
    try:
        tls.client_context(credentials.pair)
    finally:
        opened.active = False
    assert opened.paths == []
