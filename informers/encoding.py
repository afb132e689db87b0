"""JSON by orjson, or by the standard library in the file of the kubectl plugin, which has nothing that is compiled.

Both read about a thousand levels of nesting.
"""

import json
from collections.abc import Callable
from typing import Any


def decode(data: bytes) -> Any:
    """The value of a JSON text. Raises ValueError."""
    try:
        return _fast_decode(data)
    except RecursionError:
        raise ValueError("the JSON text is nested too deeply") from None


def encode(value: object) -> bytes:
    """The JSON text of a value. Raises TypeError for an unsupported type, ValueError for too many levels."""
    try:
        return _fast_encode(value)
    except TypeError:  # what orjson raises for depth too, after 254 levels
        return _encode(value)


def _encode(value: object) -> bytes:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except RecursionError:
        raise ValueError("the object is nested too deeply to be written as JSON") from None


_fast_decode: Callable[[bytes], Any]
_fast_encode: Callable[[object], bytes]
try:
    from orjson import dumps as _fast_encode
    from orjson import loads as _fast_decode
except ImportError:
    _fast_decode, _fast_encode = json.loads, _encode
