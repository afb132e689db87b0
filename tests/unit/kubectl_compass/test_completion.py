"""What the tab key gives after `kubectl compass`."""

from pathlib import Path

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


def test_contexts_are_those_of_the_kubeconfigs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all of them; one that cannot be read has none."""
    (tmp_path / "a").write_text("contexts: [{name: one}, {name: two}]")
    (tmp_path / "b").write_text("contexts: [{name: three}]")
    (tmp_path / "c").write_text("contexts: 3")
    monkeypatch.setenv("KUBECONFIG", ":".join(str(tmp_path / name) for name in "abcd"))
    assert complete(["status", "--context"], "t") == (["three", "two"], NO_FILES)


def test_the_answer_ends_with_a_directive(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sta"]) == 0
    assert capsys.readouterr().out == "status\n:4\n"
