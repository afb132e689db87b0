"""Parse a file of JSON, and print by how many bytes the process grew at most meanwhile.

python -m tests.support.parse_process FILE
"""

import sys
from pathlib import Path

import orjson


def status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main(file: str) -> None:
    body = Path(file).read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status("VmRSS")
    document = orjson.loads(body)
    print(status("VmHWM") - before)
    del document


if __name__ == "__main__":
    main(*sys.argv[1:])
