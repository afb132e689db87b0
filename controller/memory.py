"""How much memory the process may take: the limit of its control group, as Kubernetes sets it for a container."""

from pathlib import Path

#: More than any machine has: what version 1 of control groups says when there is no limit.
_NO_LIMIT = 2**60

_V2 = "memory.max"
_V1 = "memory.limit_in_bytes"


def memory_limit(*, groups: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")) -> int | None:
    """The limit in bytes, of this group or of one around it; None when there is none, or none can be read.

    `groups` is where control groups are mounted, `process` names the group of the process, a line for each hierarchy.
    """
    try:
        lines = process.read_text().splitlines()
    except OSError:
        lines = []
    limits = [limit for line in lines for limit in _limits_along(groups, line)]
    return min(limits, default=None)


def _limits_along(groups: Path, line: str) -> list[int]:
    """Limits of a group and of those around it. In a container its own group is often mounted as the outermost."""
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
