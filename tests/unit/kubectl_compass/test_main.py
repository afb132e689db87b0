"""The command line: what cannot be used ends with 2 before anything is asked."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kubectl_compass.__main__ import main
from kubectl_compass.pairing import Unusable, token_of
from tests.fake_api_server.server import FakeAPIServer
from tests.support.kept_logging import kept_logging


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["pair"],
        ["resync", "--timeout", "0s"],
        ["renew", "--timeout", "2"],
        ["logs", "--tail", "all"],
        ["status", "--as", ""],
        ["status", "--request-timeout", "soon"],
        ["status", "--request-timeout", "-1s"],
        ["status", "-n", ".."],
        ["-n", "a/b", "logs"],
        ["doctor", "--namespace=--x"],
    ],
)
def test_what_argparse_refuses(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A token has no place on the command line either: `pair` demands that it comes from standard input."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("command", [["pair"], ["reconnect"], []], ids=" ".join)
@pytest.mark.parametrize(
    "given",
    [
        ["--token=SECRET"],
        ["--token", "SECRET"],
        ["--token-stdin=SECRET"],
        ["--token-stdin", "SECRET (choose from SECRET)"],
        ["SECRET"],
        ["-o", "SECRET"],
        ["--timeout=SECRET"],
        ["--to=SECRET"],
        ["-nSECRET"],
    ],
    ids=" ".join,
)
def test_no_error_repeats_a_token(command: list[str], given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([*command, *given], [*command, "--token-stdin", *given]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        shown = capsys.readouterr()
        assert "SECRET" not in shown.out + shown.err
        assert "error: " in shown.err


def test_a_reader_that_ends_early_is_no_error(tmp_path: Path) -> None:
    """As in `| head`: nothing on standard error, and no second failure at the end of the process."""
    with FakeAPIServer() as server:
        kubeconfig = tmp_path / "kubeconfig"
        cluster, context = {"name": "c", "cluster": {"server": server.url}}, {"name": "x", "context": {"cluster": "c"}}
        kubeconfig.write_text(json.dumps({"clusters": [cluster], "contexts": [context], "current-context": "x"}))
        line = f"{sys.executable} -m kubectl_compass status --kubeconfig={kubeconfig}; echo $? >&2"
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(["/bin/sh", "-c", line], check=False, stdout=write, stderr=subprocess.PIPE, timeout=60)
        os.close(write)
    assert done.stderr == b"1\n"


def test_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: kubectl compass" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", " \n", "two words", "line\nline", "ä" * 40, "x" * 4097])
def test_what_is_no_token_is_not_quoted(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Unusable) as refused:
        token_of(text)
    assert not text.strip() or text not in str(refused.value)
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    with kept_logging():
        assert main(["pair", "--token-stdin", "--kubeconfig", "/nowhere"]) == 2
    assert "standard input" in capsys.readouterr().err
