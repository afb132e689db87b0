"""JSON: fast for nearly all objects of an API server, and correct for the rest.

orjson rejects more than 1,024 nesting levels and lone surrogates. An API server accepts 10,000 levels, and one such
object in a list must not affect the others.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

_SPACE = re.compile(r"[ \t\n\r]*")


def decode(data: bytes) -> Any:
    """The value of a JSON text. Raises ValueError."""
    try:
        return _fast_decode(data)
    except (ValueError, RecursionError):
        return _Decoder(data.decode()).value()


def encode(value: object) -> bytes:
    """The JSON text of a value. Raises TypeError for an unsupported type, ValueError for too many levels."""
    try:
        return _fast_encode(value)
    except TypeError:  # what orjson raises for depth too
        return _encode(value)


def _encode(value: object) -> bytes:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except RecursionError:
        raise ValueError("the object is nested too deeply to be written as JSON") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"not JSON: {constant}")


_SCALARS = json.JSONDecoder(parse_constant=_refuse)
_fast_decode: Callable[[bytes], Any]
_fast_encode: Callable[[object], bytes]
try:
    from orjson import dumps as _fast_encode
    from orjson import loads as _fast_decode
except ImportError:  # the file of the kubectl plugin has nothing that is compiled

    def _fast_decode(data: bytes) -> Any:
        return json.loads(data, parse_constant=_refuse)

    _fast_encode = _encode


class _Decoder:
    """Reads a JSON text without recursion, so its depth is limited only by memory."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def value(self) -> Any:
        root: list[Any] = []
        # Each open container and its closing character. The root contains the one value.
        open_: list[tuple[Any, str]] = [(root, "")]
        is_first = True  # in its container
        while True:
            container, end = open_[-1]
            if not end and root:
                break
            if end and self._take(end):
                open_.pop()
                is_first = False
                continue
            if not is_first:
                self._expect(",")
            is_first = False
            key = self._key() if end == "}" else None
            child = self._begin()
            if isinstance(child, (dict, list)):
                open_.append((child, "}" if isinstance(child, dict) else "]"))
                is_first = True
            if key is None:
                container.append(child)
            else:
                container[key] = child
        self._skip_space()
        if self._at != len(self._text):
            raise self._error("nothing more")
        return root[0]

    def _key(self) -> str:
        key = self._begin()
        if not isinstance(key, str):
            raise self._error("a name before this")
        self._expect(":")
        return key

    def _begin(self) -> Any:
        """Read a string, number or word, or the beginning of a container."""
        for bracket, container in (("{", dict), ("[", list)):
            if self._take(bracket):
                return container()
        value, self._at = _SCALARS.raw_decode(self._text, self._at)
        return value

    def _take(self, token: str) -> bool:
        self._skip_space()
        found = self._text.startswith(token, self._at)
        self._at += len(token) if found else 0
        return found

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise self._error(repr(token))

    def _skip_space(self) -> None:
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at

    def _error(self, wanted: str) -> ValueError:
        # Without the text, which may contain secrets.
        return ValueError(f"not JSON: {wanted} was expected at character {self._at}")
