"""The memory limit of the process: that of its control group, which Kubernetes sets for a container."""

from pathlib import Path

#: More than any machine has: the value for no limit in version 1 of control groups.
_NO_LIMIT = 2**60

_V2 = "memory.max"
_V1 = "memory.limit_in_bytes"


def memory_limit(*, groups: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")) -> int | None:
    """The limit of this control group or one of its parents, in bytes; None if there is none, or none can be read.

    `groups`: where control groups are mounted. `process`: the file with the group of the process.
    """
    try:
        lines = process.read_text().splitlines()
    except OSError:
        lines = []
    limits = [limit for line in lines for limit in _limits_along(groups, line)]
    return min(limits, default=None)


def _limits_along(groups: Path, line: str) -> list[int]:
    """The limits of a group and its parents. In a container, its own group is often mounted as the root."""
    _, controllers, name = [*line.split(":", 2), "", ""][:3]
    if controllers and "memory" not in controllers.split(","):
        return []
    top, file = (groups / "memory", _V1) if controllers else (groups, _V2)
    group = top / name.lstrip("/")
    around = [folder for folder in (group, *group.parents) if folder == top or top in folder.parents]
    return [limit for folder in (*around, top) if (limit := _read(folder / file)) is not None]


def _read(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    limit = int(text) if text.isascii() and text.isdigit() else _NO_LIMIT
    return limit if 0 < limit < _NO_LIMIT else None
