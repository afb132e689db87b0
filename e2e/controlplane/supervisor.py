"""Runs one command for as long as the parent lives.

Started as a script of its own: `python supervisor.py DIRECTORY COMMAND...`. Standard input is a pipe of which only the
parent holds the other end. It takes the orders below; its end means that the parent is gone, even by SIGKILL: the
command is killed and DIRECTORY, the parent's working directory, is removed. A pipe rather than PR_SET_PDEATHSIG,
because the latter fires when the *thread* that started the child ends, and needs code between fork and exec.

The supervisor ends, with the exit code of the command, when the command has ended and its sockets are closed.
"""

import os
import shutil
import subprocess
import sys
import threading

TERMINATE = b"T"
KILL = b"K"


def main(directory: str, command: list[str]) -> int:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    orphaned = threading.Event()

    def obey() -> None:
        while order := os.read(0, 1):
            if order == TERMINATE:
                process.terminate()
            else:
                process.kill()
        orphaned.set()
        process.kill()

    threading.Thread(target=obey, daemon=True).start()
    code = process.wait()
    if orphaned.is_set():
        shutil.rmtree(directory, ignore_errors=True)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
