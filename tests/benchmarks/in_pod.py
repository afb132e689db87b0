"""The agent as in a Pod: `python -m tests.benchmarks.in_pod FOLDER`, where the folder is that of a service account."""

import sys
import warnings
from pathlib import Path

sys.modules["charset_normalizer"] = None  # type: ignore[assignment]  # the image has none: release/image/trim.py
warnings.filterwarnings("ignore", "Unable to find acceptable character detection")

from controller.__main__ import main  # noqa: E402
from informers.configuration import load  # noqa: E402

if __name__ == "__main__":
    assert load.__kwdefaults__
    load.__kwdefaults__["service_account"] = Path(sys.argv.pop(1))
    sys.exit(main())
