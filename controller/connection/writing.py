"""How an object in the cluster is changed: the change is a function of what the object is now, and no write is lost.

The change is applied to the object as the cache has it; after a conflict, to what the API server has. So whatever
somebody else wrote meanwhile survives, and a condition that the change depends on is looked at again.
"""

from collections.abc import Callable
from typing import Any

from informers.errors import AlreadyExists, Conflict, NotFound

_MAX_CONFLICTS = 5  # each retry starts from what the API server has, so more mean a fight that back-off should end

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
    """Gives the object as it is afterwards. ``write`` gets what it was and what it should be; ``what`` names it.

    Raises what ``change`` raises, and informers.ApiError: NotFound when there is no place to create it in.
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
