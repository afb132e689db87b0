"""The memory limit of a process, from files as both versions of control groups have them."""

from pathlib import Path

import pytest

from controller.runtime.memory import memory_limit

MIB = 2**20

CASES: list[tuple[str, str, dict[str, str], int | None]] = [
    ("version 2, a container", "0::/\n", {"memory.max": "536870912\n"}, 512 * MIB),
    ("version 2, no limit", "0::/\n", {"memory.max": "max\n"}, None),
    ("version 2, on the host", "0::/kubepods/pod1/c1\n", {"kubepods/pod1/c1/memory.max": "268435456"}, 256 * MIB),
    (
        "version 2, a lower limit around it",
        "0::/kubepods/pod1/c1\n",
        {"kubepods/pod1/memory.max": "100", "kubepods/pod1/c1/memory.max": "200", "kubepods/memory.max": "max"},
        100,
    ),
    ("version 2, its group is not mounted", "0::/kubepods/pod1/c1\n", {"memory.max": "1000"}, 1000),
    ("version 2, a group outside of what is mounted", "0::/../other\n", {"memory.max": "1000"}, 1000),
    ("version 1", "4:memory:/docker/1\n3:cpu:/\n", {"memory/docker/1/memory.limit_in_bytes": "1073741824\n"}, 2**30),
    ("version 1, a container", "4:memory:/docker/1\n", {"memory/memory.limit_in_bytes": "1000"}, 1000),
    ("version 1, no limit", "4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
    ("version 1 with version 2 beside", "1:memory:/\n0::/\n", {"memory/memory.limit_in_bytes": "7"}, 7),
    ("several controllers in one hierarchy", "4:cpu,memory:/a\n", {"memory/a/memory.limit_in_bytes": "9"}, 9),
    ("not a number", "0::/\n", {"memory.max": "\u0661\n"}, None),
    ("zero", "0::/\n", {"memory.max": "0\n"}, None),
    ("empty", "0::/\n", {"memory.max": ""}, None),
    ("no files", "0::/\n", {}, None),
    ("odd lines", "nonsense\n\n0::/\n", {"memory.max": "5"}, 5),
    ("nothing", "", {"memory.max": "5"}, None),
]


@pytest.mark.parametrize(("lines", "files", "limit"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_the_lowest_limit_of_a_group_and_its_parents_counts(
    tmp_path: Path, lines: str, files: dict[str, str], limit: int | None
) -> None:
    """None when there is none, or none can be read."""
    groups, process = tmp_path / "cgroup", tmp_path / "self"
    process.write_text(lines)
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text)
    assert memory_limit(groups=groups, process=process) == limit


def test_a_system_without_control_groups_has_no_limit(tmp_path: Path) -> None:
    assert memory_limit(groups=tmp_path / "none", process=tmp_path / "none") is None
