"""The docs site: pages of files outside docs/, links that leave it, the API reference. A hook of mkdocs (mkdocs.yml).

The same Markdown is read in the repository and on the site. So links are written for the repository, and changed here.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
MERMAID = Path("build/docs/mermaid.min.js")

#: Files of the repository that are pages of the site.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "report.md",
    "examples/README.md": "api/examples.md",
    "informers/README.md": "api/informers.md",
    "workqueue/README.md": "api/workqueue.md",
}

#: Pages with the reference of a package, and what else is on them.
REFERENCES = {
    "api/informers.md": ("informers", (ROOT / "informers/README.md").read_text()),
    "api/workqueue.md": ("workqueue", (ROOT / "workqueue/README.md").read_text()),
    "api/runtime.md": ("controller.runtime", "# controller.runtime"),
}

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)((?:#[^)\s]*)?)(?=\))")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages of files outside docs/, and the script that draws diagrams."""
    for source, uri in PAGES.items():
        files.append(File.generated(config, uri, content=(ROOT / source).read_text()))
    for uri, (package, text) in REFERENCES.items():
        if (there := files.get_file_from_path(uri)) is not None:
            files.remove(there)
        files.append(File.generated(config, uri, content=f"{text}\n## Reference\n\n::: {package}\n"))
    files.append(File.generated(config, "assets/mermaid.min.js", abs_src_path=str(ROOT / MERMAID)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to what is on the site lead there, others into the repository."""
    sources = {uri: source for source, uri in PAGES.items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def target(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        if not (ROOT / path).exists():
            return link[0]  # mkdocs says that it is broken
        uri = PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if uri is not None and files.get_file_from_path(uri) is not None:
            return posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".") + link[2]
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{config.repo_url.rstrip('/')}/{kind}/main/{path}{link[2]}"

    return _LINK.sub(target, markdown)
