"""Changes of an object in the cluster, as functions of its current state, so that no write is lost.

The change is applied to the cached object; after a conflict, to the object of the API server. So writes of others are
kept, and conditions of the change are checked again.
"""

from collections.abc import Callable
from typing import Any

from informers.errors import AlreadyExists, Conflict, NotFound

_MAX_CONFLICTS = (
    5  # each retry starts from the object of the API server; after more of them another client changes it all the time
)

Object = dict[str, Any]

Change = Callable[[Object | None], Object | None]
"""From the object (None: there is none) to what it should be. None, or an equal object: leave it as it is.

It may be called several times, and must not modify what it is given.
"""


def apply(
    change: Change,
    *,
    what: str,
    read: Callable[[], Object | None],
    read_live: Callable[[], Object | None],
    write: Callable[[Object | None, Object], Object],
) -> Object | None:
    """Gives the object as it is afterwards. `write` gets what it was and what it should be; `what` names it.

    Raises what `change` raises, and informers.ApiError: NotFound when there is no place to create it in.
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
                raise  # its namespace or its CRD is missing
            base = read_live()
    raise Conflict(f"{what} was changed by other clients at each attempt to write it", status=409, reason="Conflict")
