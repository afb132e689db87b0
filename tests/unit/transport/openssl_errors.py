"""Emulates Python 3.13 with OpenSSL 3.5: a failed operation leaves a system error in OpenSSL's queue of the thread."""

import _ssl
import ctypes
import errno
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_ERR_LIB_SYS = 2


def leave_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the end of the test."""
    loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libcrypto" in line}
    crypto = ctypes.CDLL(loaded.pop() if loaded else _ssl.__file__)

    def leaving_errors(name: str) -> Callable[..., Any]:
        original = getattr(ssl.SSLSocket, name)

        def operation(*arguments: Any) -> Any:
            failed = True
            try:
                result = original(*arguments)
                failed = result in (b"", 0)
            finally:
                if failed:
                    crypto.ERR_new()
                    crypto.ERR_set_error(_ERR_LIB_SYS, errno.EPIPE, None)
            return result

        return operation

    for name in ("read", "send", "do_handshake"):
        monkeypatch.setattr(ssl.SSLSocket, name, leaving_errors(name))
