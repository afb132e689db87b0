"""Limits that keep the agent within its memory and its time for any answer of Compass.

Parsed JSON needs a multiple of its bytes: a usual answer 6 bytes of memory for each byte, one of only brackets 50. So
the memory for parsing is computed before the parsing, and the memory of each Application in total: as a value, as the
desired object, and as the cached object. The figures are measured (tests/benchmarks/bench_memory.py) and tested.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from sys import getsizeof
from typing import assert_never

from controller.compass.types import (
    Application,
    BasicCredentials,
    Bundle,
    OAuthCredentials,
    Parameters,
    UnsupportedCredentials,
)

MIB = 2**20

#: Memory of the process before the first fetch.
_OWN = 64 * MIB

#: Maximum memory for parsing one answer: 3 MiB of usual JSON. No API server accepts a larger object.
_ANSWER = 48 * MIB

#: The parts of the remaining memory for one answer and for all Applications.
_ANSWER_PART = 9
_APPLICATIONS_PART = 3 / 4

#: Memory for each Application in the setting for their number: more than twice that of usual ones.
_PER_ALLOWED_APPLICATION = 16 * 1024

# Bytes of memory that parsing takes at most: for a byte, for an object or a list, for a comma.
_PER_BYTE, _PER_OPENING, _PER_COMMA = 8, 320, 128

# Bytes of memory that these take in all, beside their texts.
_PER_APPLICATION = 4200
_PER_CLIENT_ID = 240
_PER_BUNDLE = 1500
_PER_CREDENTIALS = 3000
_PER_PARAMETERS = 3000
_PER_PARAMETER = 550
_PER_API = 1500
_PER_EVENT = 1200
_PER_TEXT_BYTE = 4
_MAX_SEGMENT = 60  # of a name in an address
_EMPTY_TEXT = getsizeof("")


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
    def answer_memory(self) -> int:
        """Maximum memory for parsing one answer."""
        return _ANSWER if self.memory_limit is None else min(_ANSWER, self._left // _ANSWER_PART)

    @property
    def applications_memory(self) -> int:
        """Maximum memory for all Applications together."""
        allowed = self.applications * _PER_ALLOWED_APPLICATION
        return allowed if self.memory_limit is None else min(allowed, int(self._left * _APPLICATIONS_PART))

    @property
    def _left(self) -> int:
        return max((self.memory_limit or 0) - _OWN, _OWN // 4)

    def answer_advice(self) -> str:
        """How to allow larger answers; "" if there is no way."""
        if self.answer_memory == _ANSWER or self.memory_limit is None:
            return ""
        return f"; raise the container's memory limit of {size(self.memory_limit)}"

    def applications_advice(self) -> str:
        """How to allow more Applications."""
        if self.applications_memory < self.applications * _PER_ALLOWED_APPLICATION and self.memory_limit is not None:
            return f"raise the container's memory limit of {size(self.memory_limit)}"
        return "raise APP_MAX_APPLICATIONS and the container's memory limit"


def size(memory: int) -> str:
    """A number of bytes for messages."""
    return f"{memory / MIB:.3g} MiB"


def body_limit(answer_memory: int) -> int:
    """The largest body, in bytes, that can be parsed with this memory."""
    return answer_memory // _PER_BYTE


def parsing_takes(body: bytes) -> int:
    """The maximum memory for parsing this JSON, in bytes."""
    openings = body.count(b"{") + body.count(b"[")
    return _PER_BYTE * len(body) + _PER_OPENING * openings + _PER_COMMA * body.count(b",")


def application_takes(application: Application) -> int:
    """All memory for this application, in bytes."""
    return (
        _PER_APPLICATION
        + _PER_CLIENT_ID * len(application.auth_ids)
        + text_takes(application.id, application.name, application.description, *application.auth_ids)
        + sum(_bundle_takes(bundle, application) for bundle in application.bundles)
    )


def _bundle_takes(bundle: Bundle, application: Application) -> int:
    takes = _PER_BUNDLE + text_takes(bundle.id, bundle.name, bundle.description, bundle.auth_request_schema)
    match bundle.credentials:
        case BasicCredentials(user, password):
            takes += _PER_CREDENTIALS + text_takes(user, password)
        case OAuthCredentials(client_id, secret, url):
            takes += _PER_CREDENTIALS + text_takes(client_id, secret, url)
        case None | UnsupportedCredentials():
            pass
        case other:
            assert_never(other)
    for parameters in (bundle.headers, bundle.query_params):
        if parameters is not None:
            takes += _PER_PARAMETERS + _parameters_take(parameters)
    # Each entry of an API has the names of application and bundle in its address, and in those of its Secrets.
    names = (
        len(application.name) + len(bundle.id) + min(len(bundle.name), _MAX_SEGMENT) + len(bundle.csrf_token_url or "")
    )
    per_api = _PER_API + _PER_TEXT_BYTE * names
    takes += sum(per_api + text_takes(api.id, api.name, api.target_url) for api in bundle.apis)
    return takes + sum(_PER_EVENT + text_takes(event.id, event.name) for event in bundle.events)


def _parameters_take(parameters: Parameters) -> int:
    return sum(
        _PER_PARAMETER + text_takes(name, *(values or ())) + _PER_CLIENT_ID * len(values or ())
        for name, values in parameters.items()
    )


def labels_take(labels: Mapping[str, str]) -> int:
    """The memory for labels, in bytes."""
    return sum(_PER_CLIENT_ID + text_takes(key, value) for key, value in labels.items())


def text_takes(*texts: str | None) -> int:
    """The memory for the characters of texts, in bytes. A character outside of Latin-1 makes its whole text wider."""
    return _PER_TEXT_BYTE * sum(getsizeof(text) - _EMPTY_TEXT for text in texts if text)
