"""One process at a time gets or builds what is kept in a cache."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from e2e.controlplane.progress import Report


@contextlib.contextmanager
def lock(cache: Path, report: Report, *, what: str) -> Iterator[None]:
    """One process at a time works in the cache. The kernel gives the lock back when its holder dies.

    `what` is being got, as people call it.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"another process is getting {what}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
