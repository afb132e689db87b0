"""A page of the Director's list with unparsed applications.

The rest of the page is parsed, and the text of the applications is checked to be JSON. `readings` decides whether an
application has to be parsed.
"""

from typing import Any

import msgspec
import orjson
from msgspec import UNSET, Raw, UnsetType

from controller.compass.errors import InvalidAnswer
from controller.compass.parsing import Object
from controller.compass.values import objects, wrong

#: An application of a page: as text, or parsed already.
Item = Raw | Object


class _List(msgspec.Struct):
    """The fields have any type: `parsing` checks them and names the invalid one."""

    data: list[Raw] | None = None
    totalCount: Any = None  # noqa: N815 - names of the Director's API
    pageInfo: Any = None  # noqa: N815


class _Data(msgspec.Struct):
    applicationsForRuntime: _List | None = None  # noqa: N815
    runtime: Any = UNSET


class _Answer(msgspec.Struct):
    data: _Data | UnsetType | None = UNSET
    errors: Any = UNSET


_decoder = msgspec.json.Decoder(_Answer)


def document(body: bytes) -> Object:
    """The parsed answer, with the applications as Raw. They refer to the body, which stays in memory as long as they
    do.

    Raises ValueError if the answer does not have this form.
    """
    try:
        answer = _decoder.decode(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return {name: value for name, value in (("data", _data(answer)), ("errors", answer.errors)) if value is not UNSET}


def _data(answer: _Answer) -> Any:
    data = answer.data
    if not isinstance(data, _Data):
        return data
    listed = data.applicationsForRuntime
    found = {"applicationsForRuntime": None if listed is None else msgspec.structs.asdict(listed)}
    return found if data.runtime is UNSET else found | {"runtime": data.runtime}


def items(holder: Object, field: str) -> list[Item]:
    """The unparsed applications of a page; null is an empty list."""
    found = holder.get(field)
    if isinstance(found, list) and all(isinstance(item, Raw) for item in found):
        return found
    return [*objects(holder, field)]


def parsed(item: Item) -> Object:
    """The application of a page. Raises InvalidAnswer."""
    if isinstance(item, dict):
        return item
    try:
        value = orjson.loads(memoryview(item))
    except orjson.JSONDecodeError:
        raise InvalidAnswer("is not JSON") from None
    if not isinstance(value, dict):
        raise wrong("", "an object", value)
    return value
