"""What the tab key gives after `kubectl compass`."""

import pytest

from kubectl_compass.completion import complete, main

NO_FILES, FILES = 4, 0


@pytest.mark.parametrize(
    ("words", "candidates"),
    [
        (["re"], ["resync", "renew", "reconnect", "revoke"]),
        (["pair", "--t"], ["--tenant", "--timeout", "--token-stdin"]),
        (["status", "-o", ""], ["json", "text", "yaml"]),
        (["status", "--output=y"], ["--output=yaml"]),
        (["--namespace", "x", "stat"], ["status"]),
        (["--namespace", "status"], []),
        (["status", "--timeout", ""], []),
        (["nonsense"], []),
    ],
)
def test_candidates(words: list[str], candidates: list[str]) -> None:
    assert complete(words[:-1], words[-1]) == (candidates, NO_FILES)


def test_a_kubeconfig_is_a_file() -> None:
    assert complete(["status", "--kubeconfig"], "") == ([], FILES)


def test_the_answer_ends_with_a_directive(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sta"]) == 0
    assert capsys.readouterr().out == "status\n:4\n"
