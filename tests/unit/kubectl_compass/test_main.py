"""The command line: what cannot be used ends with 2 before anything is asked."""

import io

import pytest

from kubectl_compass.__main__ import main
from kubectl_compass.pairing import Unusable, named_in_connection, token_of
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


@pytest.mark.parametrize(
    ("pairing", "words"),
    [
        (
            {"tokenSecretRef": {"namespace": "a", "name": "b"}},
            "has a tokenSecretRef in spec.pairing, which is not supported any more",
        ),
        ({"token": "x"}, "has a token"),
        ({"runtimeId": "x"}, ""),
        (None, ""),
    ],
)
def test_what_wins_over_the_secret(pairing: object, words: str) -> None:
    assert words in named_in_connection({"spec": {"pairing": pairing}})
    assert bool(words) == bool(named_in_connection({"spec": {"pairing": pairing}}))
