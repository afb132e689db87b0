"""Log output: one line for each record, as text or as JSON, with the context of the work.

- Messages are constants. Values are in `extra=` and are printed as key=value (members in JSON).
- A record is always one line: values are quoted, tracebacks are a key, control characters are escaped.
- Libraries log at INFO or above: the official Kubernetes client logs whole answers, Secrets included, at DEBUG.
"""

import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType, TracebackType
from typing import Literal, TextIO

from controller.text import printable

Format = Literal["text", "json"]

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# The packages whose debug records contain no secrets.
OWN_PACKAGES = ("controller", "informers", "workqueue")

_NOT_EXTRA = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {"message", "asctime", "taskName"}
# Text without quotes must not contain these, white space, or control characters.
_QUOTED = frozenset("\"'=\\")
# Exceptions that end the program on purpose. In another thread than the main one, they end that thread silently.
_MAIN_THREAD_TYPES = (KeyboardInterrupt, SystemExit)

_NOTHING: Mapping[str, object] = MappingProxyType({})
_context: ContextVar[Mapping[str, object]] = ContextVar("log_context", default=_NOTHING)


@contextmanager
def bind(**keys: object) -> Iterator[None]:
    """Add keys to every record of this thread inside the block. An inner bind of a key takes precedence."""
    token = _context.set({**_context.get(), **keys})
    try:
        yield
    finally:
        _context.reset(token)


class _Formatter(logging.Formatter):
    def _fields(self, record: logging.LogRecord) -> dict[str, object]:
        """All values of the record except time, level, logger and message, in the order of the output, without None."""
        fields = dict(_context.get())
        fields.update((key, value) for key, value in record.__dict__.items() if key not in _NOT_EXTRA)
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            fields["error"] = f"{type(error).__name__}: {error}"
            fields["traceback"] = "".join(traceback.format_exception(error))
        if record.stack_info:
            fields["stack"] = record.stack_info
        return {key: value for key, value in fields.items() if value is not None}


def _timestamp(record: logging.LogRecord) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextFormatter(_Formatter):
    """`2026-11-21T11:35:57.123Z INFO controller.runtime.manager Message key=value other="two words"`."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{_timestamp(record)} {record.levelname} {record.name} {printable(record.getMessage())}"
        fields = "".join(f" {key}={_text_value(value)}" for key, value in self._fields(record).items())
        return head + fields


class JsonFormatter(_Formatter):
    """One JSON object: timestamp, level (lower case), logger, message, then the keys of the record.

    Kyma's components use these names; the constructor accepts others for time and message. A key of the record with one
    of these four names gets an underscore at its end.
    """

    def __init__(self, *, timestamp: str = "timestamp", message: str = "message") -> None:
        super().__init__()
        self._names = timestamp, message

    def format(self, record: logging.LogRecord) -> str:
        timestamp, message = self._names
        line: dict[str, object] = {
            timestamp: _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            message: record.getMessage(),
        }
        for key, value in self._fields(record).items():
            line[f"{key}_" if key in line else key] = value
        return printable(json.dumps(line, default=str, ensure_ascii=False, separators=(",", ":")))


def _text_value(value: object) -> str:
    if isinstance(value, str):
        text = value
    elif isinstance(value, (Mapping, list, tuple)):
        text = json.dumps(value, default=str, ensure_ascii=False, separators=(",", ":"))
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, float) and value.is_integer():
        text = str(int(value))
    else:
        text = str(value)
    if text and text.isprintable() and " " not in text and not _QUOTED.intersection(text):
        return text
    return printable(json.dumps(text, ensure_ascii=False))


def setup(*, level: str = "info", output: Format = "text", stream: TextIO | None = None) -> None:
    """Write all records of the process to one stream (stderr by default), including uncaught errors and warnings.

    level: one of LEVELS. A second call replaces the configuration.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if output == "json" else TextFormatter())
    number = LEVELS[level]
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.INFO))
    for package in OWN_PACKAGES:
        logging.getLogger(package).setLevel(number)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, _MAIN_THREAD_TYPES):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger(__name__).critical("Uncaught exception", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None:
        return
    logging.getLogger(__name__).critical(
        "Uncaught exception in a thread",
        exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
        extra={"failedThread": args.thread.name if args.thread else "?"},
    )
