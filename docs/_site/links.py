"""What pages have on the site alone: links to the pages at the root of the repository, and tables of contents."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from sidelight.methods import METHODS

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index",
    "SECURITY.md": "project/security",
    "CONTRIBUTING.md": "project/contributing",
    "CHANGELOG.md": "project/changelog",
    "NOTICE": "project/notice",
    "examples/README.md": "examples",
}
"""Page outside of docs -> the site's page of the same text."""
CONTENTS = {"methods": "methods/*", "datasets/README": "*", "examples": "notebooks/*"}
"""Page -> the pages below it."""
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
METHOD = re.compile(r"^\| `([\w-]+)` \| ", re.MULTILINE)


def complete(app: Any, page: str, source: list[str]) -> None:
    """Fill the pages of the root, lead links to them, and lead the methods of the catalogue to their own pages."""
    if page.startswith("notebooks/"):
        return
    root = next((name for name, filled in PAGES.items() if filled == page and filled != "index"), "")
    text = source[0]
    if root and root.endswith(".md"):
        text = (ROOT / root).read_text("utf-8")
        app.env.note_dependency(str(ROOT / root))
    place = (ROOT / "docs" / page).parent
    folder = (ROOT / root).parent if root else place
    text = LINK.sub(lambda link: _led(link, folder, place), text)
    if page == "methods":
        text = METHOD.sub(_linked, text)
    if page in CONTENTS:
        text += f"\n```{{toctree}}\n:hidden:\n:glob:\n\n{CONTENTS[page]}\n```\n"
    source[0] = text


def _linked(row: re.Match[str]) -> str:
    """A row of the catalogue whose method leads to its page."""
    return f"| [`{row[1]}`](methods/{row[1]}.md) | " if row[1] in METHODS else row[0]


def _led(link: re.Match[str], folder: Path, place: Path) -> str:
    """A link in the form of the site; the words alone, where it leads to a page or folder that the site lacks.

    Args:
        link: the link.
        folder: the folder of the page that is written; place: that of the site's page.
    """
    words, target = link.groups()
    name, mark, anchor = target.partition("#")
    file = (folder / name).resolve()
    if "://" in target or target.startswith(("/", "mailto:")) or not name or not file.is_relative_to(ROOT):
        return link[0]
    inside = file.relative_to(ROOT).as_posix()
    if inside in PAGES:
        return f"[{words}](/{PAGES[inside]}.md{mark}{anchor})"
    if file.is_relative_to(ROOT / "docs"):
        return f"[{words}](/{file.relative_to(ROOT / 'docs').as_posix()}{mark}{anchor})"
    if file.suffix == ".ipynb":
        return f"[{words}](/notebooks/{file.name})"
    if file.is_dir() or file.suffix == ".md" or folder == ROOT:
        return words
    return f"[{words}]({os.path.relpath(file, place)})"
