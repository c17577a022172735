"""Writes generated pages, and removes those that nothing generates any more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write_pages(folder: Path, pages: Mapping[str, str]) -> None:
    """Make the files of a folder these and no others; one that says the same keeps its time, and is not read again."""
    folder.mkdir(exist_ok=True)
    for stale in {file.name for file in folder.iterdir()} - set(pages):
        (folder / stale).unlink()
    for name, text in pages.items():
        page = folder / name
        if not page.exists() or page.read_text("utf-8") != text:
            page.write_text(text, "utf-8")
