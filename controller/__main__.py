"""The start of the process: `compass-runtime-agent`, or `python -m controller`.

Only what handles signals is imported here. The imports of the agent take most of a second, and the kernel ignores
signals for which PID 1 of a container has no handler: a Pod deleted meanwhile would end only after its grace period.
"""

import os
import signal
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: see controller.commands.command_line."""
    # There is nothing to finish yet. stop_on_signals replaces these handlers.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: os._exit(128 + received))
    from controller.commands import command_line  # noqa: PLC0415 - after the handlers are set

    return command_line.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
