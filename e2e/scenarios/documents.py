"""The commands of a page, to be run as they are written."""

import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from markdown_it import MarkdownIt

from e2e.scenarios.target import CommandFailed, Target

_ROOT = Path(__file__).parents[2]
_IN_THE_POD = " exec deployment/compass-runtime-agent -- compass-runtime-agent "
_SECONDS = 300.0


def commands(page: str, heading: str) -> list[str]:
    """The code blocks below a heading, up to the next one; a command that goes on in the next line is one."""
    tokens = MarkdownIt("commonmark").parse((_ROOT / "docs" / page).read_text())
    (start,) = [
        number
        for number, token in enumerate(tokens)
        if token.type == "heading_open" and tokens[number + 1].content == heading
    ]
    below = itertools.takewhile(lambda token: token.type != "heading_open", tokens[start + 1 :])
    text = "".join(token.content for token in below if token.type in ("code_block", "fence"))
    return [line.strip() for line in re.sub(r"\\\n *", " ", text).splitlines() if line.strip()]


def block(page: str, beginning: str) -> str:
    """The code block, or the end of one, that begins so, whole, as one command for a shell."""
    tokens = MarkdownIt("commonmark").parse((_ROOT / "docs" / page).read_text())
    blocks = "".join(f"\n{token.content}" for token in tokens if token.type in ("code_block", "fence"))
    (found,) = re.findall(rf"^{re.escape(beginning)}.*(?:\n.+)*", blocks, re.MULTILINE)
    return str(found)


class Page:
    """Runs what a page of docs/ says, in a folder of its own."""

    def __init__(self, target: Target, name: str, directory: Path) -> None:
        self._target, self._name, self._directory = target, name, directory

    def follow(
        self, heading: str, *, files: Mapping[str, str] | None = None, fill_in: Mapping[str, str] | None = None
    ) -> str:
        """Every command below the heading; gives what they print.

        `files`: text by name, of files that the reader has made; `fill_in`: what the reader writes, by the example.
        """
        for name, text in (files or {}).items():
            (self._directory / name).write_text(text)
        printed = []
        for command in commands(self._name, heading):
            for example, own in (fill_in or {}).items():
                command = command.replace(example, own)
            print(f"$ {command}")
            printed.append(self._run(command))
            print(printed[-1])
        return "\n".join(printed)

    def _run(self, command: str) -> str:
        if not self._target.has_pods and _IN_THE_POD in command:
            return self._target.command(*command.partition(_IN_THE_POD)[2].split())
        return run(self._target, command, files={"ca.crt": self._target.compass.ca_pem}, directory=self._directory)


def run(target: Target, command: str, *, files: dict[str, str] | None = None, directory: Path) -> str:
    """What a command prints, run in a shell where the repository is, with `kubectl` and these files beside it.

    `directory`: an empty one, or that of the command before. Raises CommandFailed.
    """
    prepare_directory(directory, target.kubectl_binary, files or {})
    done = subprocess.run(
        ["bash", "-c", command],
        check=False,
        cwd=directory,
        env=environment(target, directory),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    if done.returncode:
        raise CommandFailed(done.returncode, shlex.split(command), done.stdout, done.stderr)
    return done.stdout


def environment(target: Target, directory: Path) -> dict[str, str]:
    """Of a shell in a folder that `prepare_directory` has prepared, for the cluster of the target."""
    path = f"{directory / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "KUBECONFIG": str(target.kubeconfig)}


def prepare_directory(directory: Path, kubectl: Path, files: dict[str, str]) -> None:
    """Put into the folder what commands of the pages use: parts of the repository, kubectl with the plugin, files."""
    (directory / "bin").mkdir(exist_ok=True)
    scripts = Path(sys.executable).parent
    links = {"config": _ROOT / "config", "e2e": _ROOT / "e2e", "bin/kubectl": kubectl}
    links |= {f"bin/{name}": scripts / name for name in ("kubectl-compass", "kubectl_complete-compass")}
    for link, source in links.items():
        if not (directory / link).is_symlink():
            (directory / link).symlink_to(source)
    for name, text in files.items():
        (directory / name).write_text(text)
