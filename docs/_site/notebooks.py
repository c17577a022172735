"""The notebooks of examples/, with the outputs that they keep, as pages of the site."""

from __future__ import annotations

from pathlib import Path

from _site.pages import write_pages

NOTEBOOKS = Path(__file__).parents[2] / "examples" / "notebooks"


def write(folder: Path) -> None:
    """Copy every notebook; none is run."""
    write_pages(folder, {path.name: path.read_text("utf-8") for path in NOTEBOOKS.glob("*.ipynb")})
