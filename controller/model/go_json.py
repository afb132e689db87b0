"""JSON the way Go's encoding/json writes a map[string][]string: what is stored is compared byte by byte."""

import json
import re
from collections.abc import Mapping, Sequence

#: Escaped by Go for the sake of HTML and JavaScript, though JSON needs it not.
_ESCAPED = re.compile("[<>&\u2028\u2029]")


def dumps(parameters: Mapping[str, Sequence[str] | None]) -> str:
    """Compact, keys sorted, non-ASCII text as it is. A nil slice is null."""
    text = json.dumps(parameters, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    # Inside strings only: none of the five occurs in JSON's own syntax.
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
