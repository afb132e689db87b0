"""JSON as Go's encoding/json writes a map[string][]string, because stored values are compared byte for byte."""

import json
import re
from collections.abc import Mapping, Sequence

#: Go escapes these for HTML and JavaScript; JSON does not require it.
_ESCAPED = re.compile("[<>&\u2028\u2029]")


def dumps(parameters: Mapping[str, Sequence[str] | None]) -> str:
    """Compact, with sorted keys and without ASCII escapes. A nil slice is null."""
    text = json.dumps(parameters, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    # Only inside strings: none of the five occurs in the syntax of JSON.
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
