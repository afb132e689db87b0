"""What a fetch has read, kept for the next one: nearly always the Director sends what it sent a period ago.

An application's JSON text is looked up before it is parsed. What was read from a text depends on the text alone, so
nothing else has to be checked: not which Runtime it was for, nor what has happened since. The Director sends nested
lists in a new order with each answer, so an application of several APIs seldom has the text that it had; it is parsed
and checked again, and replaced by what was read before when that is equal.
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from controller.compass.limits import application_takes
from controller.compass.types import Application

_NOTHING: Mapping[bytes, "Read"] = MappingProxyType({})


class Read(NamedTuple):
    """A complete application, and the bytes of memory that it takes in all."""

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
        """Let these take the place of those before."""
        self._by_text, self._by_id = reading.by_text, reading.by_id


class Reading:
    """One reading of all applications, beside what was read before."""

    def __init__(self, before_by_text: Mapping[bytes, Read], before_by_id: Mapping[str, Read]) -> None:
        self._before_by_text = before_by_text
        self._before_by_id = before_by_id
        self.by_text: dict[bytes, Read] = {}
        self.by_id: dict[str, Read] = {}

    def known(self, digest: bytes) -> Read | None:
        """What the text of that digest has said before."""
        read = self._before_by_text.get(digest)
        if read is not None:
            self.by_text[digest] = self.by_id[read.application.id] = read
        return read

    def add(self, application: Application, digest: bytes | None) -> Read:
        """Take an application in; with the digest of its text when all of it was in there."""
        before = self._before_by_id.get(application.id)
        if before is not None and before.application == application:
            read = before
        else:
            read = Read(application, application_takes(application))
        self.by_id[application.id] = read
        if digest is not None:
            self.by_text[digest] = read
        return read


def digest_of(text: msgspec.Raw) -> bytes:
    """By which a text is known again."""
    return hashlib.sha256(text).digest()
