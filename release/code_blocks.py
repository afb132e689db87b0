"""Compares a page of the site with its Markdown: each code block and each numbered list has to arrive whole.

Python-Markdown makes the site, and its rules for indents are not those of CommonMark, of the repository.
Where they disagree, a command becomes prose, and mkdocs says nothing.
"""

from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser

from markdown_it import MarkdownIt


@dataclass
class Parts:
    """Texts of code blocks, and lengths of numbered lists, each with the number of times that it occurs."""

    blocks: Counter[str] = field(default_factory=Counter)
    lists: Counter[int] = field(default_factory=Counter)


def differences(markdown: str, html: str) -> list[str]:
    """What CommonMark reads in `markdown` and `html` does not have; empty if nothing is lost."""
    source, page = _parts(MarkdownIt("commonmark").render(markdown)), _parts(html)
    lost = [f"no code block of its own: {text.strip().splitlines()[0]!r}" for text in source.blocks - page.blocks]
    return lost + [f"no numbered list with {count} steps" for count in source.lists - page.lists]


def _parts(html: str) -> Parts:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.parts


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts = Parts()
        self._block: list[str] | None = None
        self._lists: list[tuple[str, int]] = []

    def handle_starttag(self, tag: str, _: object) -> None:
        if tag == "pre":
            self._block = []
        elif tag in ("ol", "ul"):
            self._lists.append((tag, 0))
        elif tag == "li" and self._lists:
            kind, count = self._lists[-1]
            self._lists[-1] = (kind, count + 1)

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre" and self._block is not None:
            self.parts.blocks["".join(self._block).strip("\n")] += 1
            self._block = None
        elif tag in ("ol", "ul"):
            kind, count = self._lists.pop()
            if kind == "ol":
                self.parts.lists[count] += 1

    def handle_data(self, data: str) -> None:
        if self._block is not None:
            self._block.append(data)
