"""The pages of the documentation: their code blocks, links and headings."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = ("methods", "api")
FENCE = re.compile(r"^```([\w{}-]*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """Every page that is written by hand, and those of the repository's root."""
    docs = [page for page in (ROOT / "docs").rglob("*.md") if page.parent.name not in GENERATED]
    return sorted([*docs, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"])


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: its page, relative to the root.
        line: the line of its first line in the page.
        language: what follows the fence.
        text: what it holds.
    """

    page: Path
    line: int
    language: str
    text: str

    @property
    def file(self) -> str:
        """The file that the block is to be saved as: its first line, `# my_method.py`; "" if it is none."""
        found = re.match(r"# ([\w./-]+\.(?:py|yaml))(?::.*)?\n", self.text)
        return found[1] if found else ""

    @property
    def where(self) -> str:
        """The place, for messages."""
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[list[str]]:
        """The command lines without comments and redirections; of a block without a language, those of `sidelight`."""
        for line in self.text.replace("\\\n", " ").splitlines():
            if not self.language and not line.startswith("sidelight "):
                continue
            words = shlex.split(line, comments=True)
            yield words[: next((n for n, word in enumerate(words) if word in (">", ">>")), None)]


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page in some languages, or in all."""
    text = page.read_text("utf-8")
    found = [
        Block(page.relative_to(ROOT), text.count("\n", 0, match.start()) + 2, match[1], match[2])
        for match in FENCE.finditer(text)
    ]
    return [block for block in found if not languages or block.language in languages]


def documents() -> dict[Path, str]:
    """Every text with links: path -> Markdown, of pages, of notes beside the code, and of notebooks."""
    also = [ROOT / "CHANGELOG.md", *(ROOT / "examples").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")]
    found = {page: page.read_text("utf-8") for page in [*pages(), *also]}
    for notebook in (ROOT / "examples").rglob("*.ipynb"):
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        found[notebook] = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return found


def links(text: str) -> list[str]:
    """What the links and pictures of a text lead to, where it is no address: Markdown's, references' and HTML's."""
    prose = re.sub(r"`[^`\n]+`", "code", FENCE.sub("", text))
    inline, reference = r"\]\(<?([^)\s>]+)>?(?:\s[^)]*)?\)", r"^ {0,3}\[[^\]^]+\]: +(\S+)$"
    forms = (inline, reference, r"""\b(?:href|src)=["']([^"']+)["']""")
    found = [target for form in forms for target in re.findall(form, prose, re.MULTILINE)]
    return [target for target in found if "://" not in target and not target.startswith("mailto:")]


def anchors(text: str) -> set[str]:
    """What `#…` may lead to in a text: its headings, as GitHub and MyST name them, and labels."""
    text = FENCE.sub("", text)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", title).lower()).replace(" ", "-") for title in headings]
    return {*plain, *re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE)}
