"""Changes of an object in the cluster, as functions of its current state, so that no write is lost.

The change is applied to the cached object; after a conflict, to the object of the API server. So writes of others are
kept, and conditions of the change are checked again.
"""

from collections.abc import Callable
from typing import Any

from informers.errors import AlreadyExists, Conflict, NotFound

# Each retry starts with the object of the API server. After more conflicts, another client changes it all the time.
_MAX_CONFLICTS = 5

Object = dict[str, Any]

Change = Callable[[Object | None], Object | None]
"""Returns the wanted object for the current one (None if there is none). None, or an equal object: no write.

It may be called several times, and must not modify its argument.
"""


def apply(
    change: Change,
    *,
    what: str,
    read: Callable[[], Object | None],
    read_live: Callable[[], Object | None],
    write: Callable[[Object | None, Object], Object],
) -> Object | None:
    """Apply the change and return the resulting object. `write` gets the current and the wanted object.

    `what`: its name in messages. Raises the errors of `change`, and informers.ApiError, which is NotFound if its
    namespace or its CRD is missing.
    """
    base = read()
    for _ in range(_MAX_CONFLICTS):
        wanted = change(base)
        if wanted is None or wanted == base:
            return base
        try:
            return write(base, wanted)
        except (AlreadyExists, Conflict):
            base = read_live()
        except NotFound:
            if base is None:
                raise
            base = read_live()
    raise Conflict(f"{what} was changed by other clients at each attempt to write it", status=409, reason="Conflict")
