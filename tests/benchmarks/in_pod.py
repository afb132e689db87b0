"""The agent as in a Pod: `python -m tests.benchmarks.in_pod FOLDER`, where the folder is that of a service account."""

import sys
from pathlib import Path

from controller.__main__ import main
from informers.configuration import load

if __name__ == "__main__":
    assert load.__kwdefaults__
    load.__kwdefaults__["service_account"] = Path(sys.argv.pop(1))
    sys.exit(main())
