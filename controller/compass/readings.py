"""The applications of the last fetch, for the next one: the Director usually sends the same ones again.

The JSON text of an application is looked up before it is parsed. The result depends only on the text, so nothing else
has to be compared. The Director sends nested lists in arbitrary order, so an application with several APIs rarely has
the same text. It is parsed and checked again, and replaced by the earlier value if both are equal.
"""

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from controller.compass.limits import parts_memory
from controller.compass.types import Application

_NOTHING: Mapping[bytes, "Read"] = MappingProxyType({})


class Read(NamedTuple):
    """A complete application, and all memory that it needs, in bytes."""

    application: Application
    memory: int


class Readings:
    """The complete applications of the last fetch that succeeded. One fetch at a time may add to them."""

    def __init__(self) -> None:
        self._by_text: Mapping[bytes, Read] = _NOTHING
        self._by_id: Mapping[str, Read] = MappingProxyType({})

    def begin(self) -> "Reading":
        return Reading(self._by_text, self._by_id)

    def keep(self, reading: "Reading") -> None:
        """Replace the stored applications."""
        self._by_text, self._by_id = reading.by_text, reading.by_id


class Reading:
    """The applications of a fetch in progress, and access to those of the last one."""

    def __init__(self, before_by_text: Mapping[bytes, Read], before_by_id: Mapping[str, Read]) -> None:
        self._before_by_text = before_by_text
        self._before_by_id = before_by_id
        self.by_text: dict[bytes, Read] = {}
        self.by_id: dict[str, Read] = {}

    def known(self, digest: bytes) -> Read | None:
        """The earlier result for the text with this digest; None if there is none."""
        read = self._before_by_text.get(digest)
        if read is not None:
            self.by_text[digest] = self.by_id[read.application.id] = read
        return read

    def add(self, application: Application, digest: bytes | None, *, text_memory: Callable[[], int]) -> Read:
        """Add an application. `digest` of its text only if the text contained all of it. `text_memory` returns the
        memory for its characters, in bytes.
        """
        before = self._before_by_id.get(application.id)
        if before is not None and before.application == application:
            read = before
        else:
            read = Read(application, text_memory() + parts_memory(application))
        self.by_id[application.id] = read
        if digest is not None:
            self.by_text[digest] = read
        return read


def digest_of(text: msgspec.Raw) -> bytes:
    """The key under which the result for a text is stored."""
    return hashlib.sha256(text).digest()
