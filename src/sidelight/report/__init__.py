"""The report: one self-contained HTML file made from what a run stored."""

from __future__ import annotations

from pathlib import Path

from sidelight.report.page import render
from sidelight.report.stored import Stored
from sidelight.results import write_atomic


def write_report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a run folder, finished or not, and return its path (`<run>/report.html` by default).

    The file needs nothing else: styles, figures and texts are inside, and it asks no server for anything.
    """
    run = Path(run)
    out = Path(out) if out is not None else run / "report.html"
    write_atomic(out, render(Stored(run)))
    return out
