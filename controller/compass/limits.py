"""Limits that keep the agent within its memory and its time for any answer of Compass.

The bytes of an answer are limited while it is read, the values in it before it is decoded. The memory for all
Applications together is estimated from the bytes and the parts of each. Measured in tests/benchmarks/bench_memory.py,
and tested.
"""

from dataclasses import dataclass

from controller.compass.types import Application, items

MIB = 2**20

#: Memory of the process before the first fetch.
_OWN = 64 * MIB

#: Maximum bytes of one answer, and so of one application. No API server accepts a larger object.
_ANSWER = 6 * MIB

#: What decoding takes at most for a byte of an answer, in bytes.
_DECODING = 8

#: Shares of the memory that the limit leaves after `_OWN`: for one answer while it is decoded, for all Applications.
_ANSWER_SHARE, _APPLICATIONS_SHARE = 1 / 9, 3 / 4

#: An answer has at least so many bytes for each value in it. JSON of Compass has twenty.
_BYTES_PER_VALUE = 6

#: Memory for each of APP_MAX_APPLICATIONS Applications, in bytes: more than twice what a usual one needs.
_PER_ALLOWED_APPLICATION = 16 * 1024

#: All memory for a part of an application (an API, an event, a client id, a header), in bytes: as a value, as the
#: desired object and as the cached object. The application itself and a bundle count as several parts.
_PER_PART = 1200
_APPLICATION_PARTS, _BUNDLE_PARTS = 3, 4

#: The same for a byte of its JSON. One wide character makes a whole text in memory four times as large.
MEMORY_PER_BYTE = 3
_PER_BYTE_OF_WIDE_TEXT = 12


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one fetch. `applications` and `pages` are numbers; `seconds` is the time for the whole fetch.

    `memory_limit`: the memory limit of the container in bytes, None without a limit.
    """

    applications: int = 20_000
    pages: int = 5_000
    seconds: float = 300.0
    memory_limit: int | None = None

    @property
    def answer_bytes(self) -> int:
        """Maximum size of one answer, decompressed, in bytes."""
        return _ANSWER if self.memory_limit is None else min(_ANSWER, int(self._left * _ANSWER_SHARE) // _DECODING)

    @property
    def applications_memory(self) -> int:
        """Maximum memory for all Applications together."""
        allowed = self.applications * _PER_ALLOWED_APPLICATION
        return allowed if self.memory_limit is None else min(allowed, int(self._left * _APPLICATIONS_SHARE))

    @property
    def _left(self) -> int:
        return max((self.memory_limit or 0) - _OWN, _OWN // 4)

    def answer_advice(self) -> str:
        """How to allow larger answers; "" if there is no way."""
        if self.answer_bytes == _ANSWER or self.memory_limit is None:
            return ""
        return f"; raise the container's memory limit of {size(self.memory_limit)}"

    def applications_advice(self) -> str:
        """How to allow more Applications."""
        if self.applications_memory < self.applications * _PER_ALLOWED_APPLICATION and self.memory_limit is not None:
            return f"raise the container's memory limit of {size(self.memory_limit)}"
        return "raise APP_MAX_APPLICATIONS and the container's memory limit"


def size(count: int) -> str:
    """A number of bytes for messages."""
    return f"{count / MIB:.3g} MiB"


def has_too_many_values(body: bytes) -> bool:
    """Whether decoding this JSON takes much more memory than its bytes."""
    values = body.count(b",") + body.count(b"{") + body.count(b"[")
    return values > 1000 and values * _BYTES_PER_VALUE > len(body)


def text_memory(text: bytes | memoryview) -> int:
    """All memory for the texts in this JSON, in bytes: as values, as desired and as cached objects."""
    raw = bytes(text)
    return len(raw) * (MEMORY_PER_BYTE if raw.isascii() and b"\\u" not in raw else _PER_BYTE_OF_WIDE_TEXT)


def parts_memory(application: Application) -> int:
    """All memory for an application without its characters, in bytes."""
    parts = _APPLICATION_PARTS + len(application.auths or ())
    for bundle in items(application.bundles):
        parts += _BUNDLE_PARTS + len(items(bundle.apiDefinitions)) + len(items(bundle.eventDefinitions))
        auth = bundle.defaultInstanceAuth
        for parameters in (auth.additionalHeaders, auth.additionalQueryParams) if auth is not None else ():
            parts += sum(1 + len(values or ()) for values in parameters.values()) if parameters else 0
    return parts * _PER_PART
