"""The documents name what exists: files, commands, modules."""

import re
from pathlib import Path

import pytest

from e2e.scenarios import messages
from e2e.scenarios.documents import commands

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", "node_modules", "artifacts", "build"} & set(path.relative_to(ROOT).parts)
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
ANCHOR = re.compile(r"[^\w\- ]")
MAKE_COMMAND = re.compile(r"(?:^ {4}|`)make ([a-z][a-z0-9-]*)", re.MULTILINE)
PATH = re.compile(
    r"`((?:config|controller|docs|e2e|examples|informers|kubectl_compass|release|requirements|tests|workqueue)/[\w./-]+)"
)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def _anchors(document: Path) -> set[str]:
    """The anchors that readers on the web get for the headings."""
    text = FENCE.sub("", document.read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {ANCHOR.sub("", heading.lower().replace("`", "")).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    """A link inside the project names a file that is there, and a heading that is in it."""
    broken = []
    for link in LINK.findall(FENCE.sub("", document.read_text())):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in _anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_command_exists(document: Path) -> None:
    """Each `make NAME` of a document is a target."""
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(MAKE_COMMAND.findall(document.read_text()))
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_exists(document: Path) -> None:
    """NAME stands for what the reader chooses."""
    named = {path for path in PATH.findall(document.read_text()) if "NAME" not in path}
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_modules_in_the_table_of_the_architecture_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text[text.index("## What each module does") : text.index("## Decisions")]
    gone = []
    for row in table.splitlines():
        if row.startswith("| `"):
            first, *others = re.findall(r"`([^`]+)`", row.split("|")[1])
            folder = first.rpartition("/")[0]
            named = [first, *(name if "/" in name else f"{folder}/{name}" for name in others)]
            gone += [name for name in named if not (ROOT / name).exists()]
    assert gone == []


def test_manifests_with_a_token_are_applied_by_the_server() -> None:
    """A client-side apply keeps a copy in an annotation; standard input and the samples may hold a token."""
    client_side = re.compile(r"kubectl apply (?!.*--server-side).*-f (?:-|\S*samples/)")
    assert [page.name for page in DOCUMENTS if client_side.search(page.read_text())] == []


@pytest.mark.parametrize("scenario", sorted((ROOT / "e2e/scenarios").glob("test_*.py")), ids=lambda path: path.stem)
def test_each_section_that_a_scenario_follows_has_commands(scenario: Path) -> None:
    """The scenarios run in a cluster only; this finds a renamed heading of docs/upgrade.md earlier."""
    headings = re.findall(r'\b(?:upgrade\.follow\(|commands\("upgrade\.md", )"([^"]+)"\)', scenario.read_text())
    assert all(commands("upgrade.md", heading) for heading in headings)


def test_each_message_of_the_scenarios_is_one_of_the_agent() -> None:
    """The scenarios run in a cluster only; this finds a message with other words earlier."""
    source = "".join(path.read_text() for path in (ROOT / "controller").rglob("*.py"))
    assert [text for name, text in vars(messages).items() if name.isupper() and text not in source] == []
