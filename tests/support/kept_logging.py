"""Running the agent's command line inside a test, without its set-up of the log staying behind for other tests."""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from controller.runtime.logs import OWN_PACKAGES


@contextmanager
def kept_logging() -> Iterator[None]:
    """Handlers, levels and hooks are afterwards what they were; inside nothing is printed to handlers of before."""
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, OWN_PACKAGES)]
    levels = [logger.level for logger in loggers]
    handlers, root.handlers = root.handlers, []
    hooks = sys.excepthook, threading.excepthook
    try:
        yield
    finally:
        root.handlers = handlers
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        sys.excepthook, threading.excepthook = hooks
        logging.captureWarnings(False)
