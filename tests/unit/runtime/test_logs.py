"""The log formats: one line a record, values quoted, context added, libraries quiet."""

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from controller.runtime import logs

log = logging.getLogger("controller.test")


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    """Give the process its logging back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    hooks = sys.excepthook, threading.excepthook
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for package in logs.OWN_PACKAGES:
        logging.getLogger(package).setLevel(logging.NOTSET)
    logging.captureWarnings(False)
    sys.excepthook, threading.excepthook = hooks


def lines(output: logs.Format, *records: dict[str, Any], level: str = "debug") -> list[str]:
    stream = io.StringIO()
    logs.setup(level=level, output=output, stream=stream)
    for record in records:
        log.info(record.pop("msg", "Message"), extra=record)
    return stream.getvalue().splitlines()


class TestText:
    @pytest.mark.parametrize(
        ("value", "printed"),
        [
            ("plain", "plain"),
            ("https://host:443/path?q", "https://host:443/path?q"),
            ("two words", '"two words"'),
            ('a "quote"', r'"a \"quote\""'),
            ("key=value", '"key=value"'),
            ("", '""'),
            ("line\nfeed", r'"line\nfeed"'),
            ("\x1b[31mred", r'"\u001b[31mred"'),
            ("naïve", "naïve"),
            (7, "7"),
            (0.5, "0.5"),
            (True, "true"),
            (180.0, "180"),
            (["a", 1], r'"[\"a\",1]"'),
            ({"a": 1}, r'"{\"a\":1}"'),
        ],
        ids=repr,
    )
    def test_values(self, value: Any, printed: Any) -> None:
        """Quoted where it is needed, never more than a line."""
        (line,) = lines("text", {"key": value})
        assert line.endswith(f" INFO controller.test Message key={printed}")

    def test_keys_come_in_order(self) -> None:
        """Context first, then the record's own keys as they were given."""
        with logs.bind(controller="apps", key="ns/a"):
            (line,) = lines("text", {"zebra": 1, "ape": 2})
        assert line.endswith("Message controller=apps key=ns/a zebra=1 ape=2")

    def test_time_is_utc_with_milliseconds(self) -> None:
        """As Kubernetes writes it."""
        (line,) = lines("text", {})
        assert len(line.split()[0]) == len("2026-11-21T11:35:57.123Z")
        assert line.split()[0].endswith("Z")

    def test_a_message_is_one_line(self) -> None:
        """A forged record cannot be injected by a message."""
        (line,) = lines("text", {"msg": "one\n2026-11-21T00:00:00.000Z ERROR forged"})
        assert r"one\n2026" in line


class TestJson:
    def test_members(self) -> None:
        """timestamp, level in lower case, logger, message, then the keys with their types."""
        with logs.bind(reconcileID="1"):
            (line,) = lines("json", {"number": 7, "flag": True, "list": [1], "text": 'a "b"\n', "other": object})
        record = json.loads(line)
        assert list(record)[:4] == ["timestamp", "level", "logger", "message"]
        assert record["level"] == "info"
        assert record["logger"] == "controller.test"
        assert record["message"] == "Message"
        assert record["reconcileID"] == "1"
        assert (record["number"], record["flag"], record["list"], record["text"]) == (7, True, [1], 'a "b"\n')
        assert record["other"] == str(object)

    def test_a_key_never_hides_time_or_level(self) -> None:
        """Clashing keys get an underscore."""
        (line,) = lines("json", {"level": "mine", "timestamp": "mine"})
        record = json.loads(line)
        assert record["level"] == "info"
        assert (record["level_"], record["timestamp_"]) == ("mine", "mine")


@pytest.mark.parametrize("output", ["text", "json"])
def test_absent_values_are_not_printed(output: Any) -> None:
    """Neither None nor null."""
    (line,) = lines(output, {"retry_after": None, "number": 7})
    assert "retry_after" not in line
    assert "number" in line


HOSTILE = "\x1b[2J\x9b31m\u202eabc\u2028\nFORGED\x00\ud800"


@pytest.mark.parametrize("output", ["text", "json"])
@pytest.mark.parametrize("value", [HOSTILE, [HOSTILE], {HOSTILE: HOSTILE}, ValueError(HOSTILE)], ids=type)
def test_no_text_of_others_controls_the_terminal(output: Any, value: Any) -> None:
    """Escape sequences, also those of one byte, line ends and marks of direction are printed as escapes."""
    (line,) = lines(output, {"key": value, "msg": HOSTILE})
    assert line.isprintable()
    if output == "json":
        assert json.loads(line)["message"].startswith("\x1b[2J\x9b31m")


@pytest.mark.parametrize("output", ["text", "json"])
def test_an_exception_is_part_of_its_record(output: Any) -> None:
    """One line with the error, its cause and the traceback."""
    stream = io.StringIO()
    logs.setup(output=output, stream=stream)
    try:
        try:
            raise KeyError("cause")
        except KeyError as cause:
            raise RuntimeError("effect") from cause
    except RuntimeError:
        log.exception("Failed")
    (line,) = stream.getvalue().splitlines()
    assert "RuntimeError: effect" in line
    assert "KeyError: 'cause'" in line.replace('\\"', '"')
    assert "Traceback (most recent call last)" in line


def context() -> dict[str, object]:
    """The keys that a record of this thread gets from its context."""
    line = json.loads(logs.JsonFormatter().format(logging.makeLogRecord({"msg": "Message"})))
    return {key: value for key, value in line.items() if key not in {"timestamp", "level", "logger", "message"}}


class TestContext:
    def test_inner_keys_win_and_end_with_their_block(self) -> None:
        """Blocks nest."""
        with logs.bind(a=1, b=1):
            with logs.bind(b=2):
                assert context() == {"a": 1, "b": 2}
            assert context() == {"a": 1, "b": 1}
        assert context() == {}

    def test_threads_have_their_own(self) -> None:
        """What one worker binds, another does not log."""
        seen: list[object] = []
        with logs.bind(a=1):
            thread = threading.Thread(target=lambda: seen.append(context()))
            thread.start()
            thread.join()
        assert seen == [{}]


class TestLevels:
    @pytest.mark.parametrize(
        ("level", "own", "foreign"),
        [
            ("debug", ["debug", "info", "warning", "error"], ["info", "warning", "error"]),
            ("info", ["info", "warning", "error"], ["info", "warning", "error"]),
            ("warning", ["warning", "error"], ["warning", "error"]),
            ("error", ["error"], ["error"]),
        ],
    )
    def test_the_level_decides_what_is_printed(self, level: Any, own: Any, foreign: Any) -> None:
        """The level holds for the own packages; libraries are never at DEBUG, where they print Secrets."""
        for name, expected in (("controller.x", own), ("informers.x", own), ("kubernetes.client.rest", foreign)):
            stream = io.StringIO()
            logs.setup(level=level, stream=stream)
            for each in logs.LEVELS:
                getattr(logging.getLogger(name), each)("Message")
            assert [line.split()[1].lower() for line in stream.getvalue().splitlines()] == expected


EVERYTHING = """
import sys, threading, warnings
from controller.runtime import logs
logs.setup(output='json')
warnings.warn('careful', DeprecationWarning, 1)
for fail in (lambda: 1 / 0, sys.exit):
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
"""


@pytest.mark.parametrize(("end", "logged", "status"), [("RuntimeError('main')", True, 1), ("SystemExit(3)", False, 3)])
def test_everything_reaches_the_log(end: str, logged: bool, status: int) -> None:
    """Uncaught errors of any thread and warnings are records of the same format. SystemExit ends the main thread."""
    command = [sys.executable, "-W", "default", "-c", f"{EVERYTHING}raise {end}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == status
    careful, division, exit_, *main = [json.loads(line) for line in result.stderr.splitlines()]
    assert "careful" in careful["message"]
    for record, error in ((division, "ZeroDivisionError"), (exit_, "SystemExit")):
        assert record["message"] == "Uncaught exception in a thread"
        assert record["error"].startswith(error)
    assert [record["message"] for record in main] == ["Uncaught exception"] * logged
