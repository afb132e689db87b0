"""Keeps secrets of requests and answers out of logs and messages.

Only the fields that are listed here are shown. The values below all other fields are masked in the log, and in every
text that repeats them. So new kinds of credentials are masked without a change here.
"""

import base64
import json
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, repeat
from typing import Any

from controller.compass.foreign_text import message_without_data, one_line
from controller.text import printable

_MASK = "[redacted]"

#: Fields and variables whose values are shown.
SHOWN_FIELDS = frozenset(
    {
        "__typename",
        "accessStrategy",
        "after",
        "application",
        "bundle",
        "certificateSecuredConnectorURL",
        "directorURL",
        "endCursor",
        "error",
        "error_code",
        "first",
        "hasNextPage",
        "id",
        "key",
        "keyAlgorithm",
        "name",
        "nested",
        "revokeCertificate",
        "runtime",
        "subject",
        "totalCount",
        "type",
    }
)

#: Fields whose values are not shown, being long or somebody's text, but are no secrets: other texts may repeat them.
UNSHOWN_FIELDS = frozenset(
    {
        "caCertificate",
        "certificateChain",
        "clientCertificate",
        "csr",
        "description",
        "instanceAuthRequestInputSchema",
        "labels",
        "targetURL",
        "tokenEndpointURL",
        "url",
        "value",
    }
)

#: Objects and lists of them, whose own fields decide. Below any other field everything is a secret.
_STRUCTURE = frozenset(
    {
        "",  # the document itself
        "apiDefinitions",
        "application",
        "applicationsForRuntime",
        "auths",
        "bundle",
        "bundles",
        "certificateSigningRequestInfo",
        "configuration",
        "credential",
        "csrf",
        "data",
        "defaultInstanceAuth",
        "errors",
        "eventDefinitions",
        "extensions",
        "managementPlaneInfo",
        "pageInfo",
        "requestAuth",
        "runtime",
        "setRuntimeLabel",
        "signCertificateSigningRequest",
        "token",
        "viewer",
    }
)

_NAMES = SHOWN_FIELDS | UNSHOWN_FIELDS | _STRUCTURE | {"message", "path"}

_SHOWN_HEADERS = frozenset({"Tenant"})

#: Deeper than any answer of Compass goes; a JSON parser lets a thousand levels through.
_MAX_DEPTH = 50

#: Longer than any value that is shown.
_MAX_VALUE = 200

#: Parts of an answer that the log shows. An answer of a thousand applications would bury it.
_MAX_PARTS = 1000


class Redactor:
    """Masks a set of secret values in texts. A text is masked before it is shortened, so that no part of a secret
    remains.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Longest first, or a secret that contains another one would stay readable around the mask. One pass for all,
        # as a short secret may well occur in the mask itself.
        known = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, known))) if known else None

    def clean(self, text: str) -> str:
        """One short line of printable characters, without secrets."""
        whole = "".join(filter(str.isprintable, text))
        if self.mask(whole) != whole and self.mask(text) == text:
            text = whole  # what is not printable was hiding a secret
        return one_line(self.mask(printable(self.mask(text))))

    def mask(self, text: str) -> str:
        """The whole text with masked secrets."""
        return text if self._pattern is None else self._pattern.sub(_MASK, text)


def _forms(secret: str) -> tuple[str, ...]:
    """The secret as plain text and in the encodings of JSON, URLs and headers. Nothing for an empty secret."""
    if not secret:
        return ()
    encoded = base64.b64encode(secret.encode(errors="replace")).decode()
    return secret, json.dumps(secret)[1:-1], urllib.parse.quote(secret, safe="", errors="replace"), encoded


def sent_secrets(headers: Mapping[str, str]) -> frozenset[str]:
    """The secret values of headers."""
    return frozenset(value for name, value in headers.items() if name not in _SHOWN_HEADERS)


def secrets_repeated(document: Any, text: str) -> set[str]:
    """The secrets of an answer that the texts to be shown contain."""
    return {secret for secret in _secret_texts(document) if any(form in text for form in _forms(secret))}


def _secret_texts(document: Any) -> Iterator[str]:
    """All texts in fields that are not listed as harmless, at any depth."""
    pending: list[Iterator[tuple[str | None, Any]]] = [iter([("", document)])]
    while pending:
        for name, item in pending[-1]:
            if isinstance(item, dict):
                pending.append(iter(item.items()) if name in _STRUCTURE else zip(repeat(None), item.values()))
                break
            if isinstance(item, list):
                pending.append(zip(repeat(name), item))
                break
            if isinstance(item, str) and (name not in _NAMES or name in _STRUCTURE):
                yield item
        else:
            pending.pop()


def masked(value: Any) -> str:
    """An answer or the variables of a call as JSON for the log, with masked secrets."""
    return json.dumps(_Masking().mask("", value, 0))


def _is_name(step: Any) -> bool:
    return isinstance(step, str) and step in _NAMES


def masked_headers(headers: Mapping[str, str]) -> str:
    """The headers of a request as JSON for the log, with masked secrets."""
    return json.dumps({name: value if name in _SHOWN_HEADERS else _MASK for name, value in headers.items()})


class _Masking:
    """One text for the log. The number of values in it is limited."""

    def __init__(self) -> None:
        self._left = _MAX_PARTS

    def mask(self, name: str, item: Any, depth: int) -> Any:
        self._left -= 1
        if self._left <= 0 or depth > _MAX_DEPTH:
            return "..."
        if isinstance(item, (dict, list)):
            return self._structure(name, item, depth + 1)
        if item is None or (name in SHOWN_FIELDS and not isinstance(item, str)):
            return item
        if isinstance(item, str) and name in SHOWN_FIELDS:
            return one_line(item, _MAX_VALUE)
        return printable(message_without_data(item)) if name == "message" and isinstance(item, str) else _MASK

    def _structure(self, name: str, item: dict[str, Any] | list[Any], depth: int) -> Any:
        if name == "path" and isinstance(item, list):
            return [step if type(step) is int or _is_name(step) else "?" for step in item[:_MAX_DEPTH]]
        if name not in _STRUCTURE:
            return _MASK
        if isinstance(item, list):
            return [self.mask(name, inner, depth) for inner in islice(item, max(0, self._left))]
        return {
            key if key in _NAMES else "?": self.mask(key, inner, depth)
            for key, inner in islice(item.items(), max(0, self._left))
        }
