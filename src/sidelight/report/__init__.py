"""The report: one self-contained HTML file made from what a run stored."""

from __future__ import annotations

import warnings
from pathlib import Path

from sidelight.errors import RunError, SidelightWarning
from sidelight.report.page import render
from sidelight.report.stored import Stored
from sidelight.results.store import store_results
from sidelight.utils.atomic import write_atomic


def write_report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a run folder, finished or not, and return its path (`<run>/report.html` by default).

    The file needs nothing else: styles, figures and texts are inside, and it asks no server for anything. The run's
    `results.csv` is brought up to date too; in a folder that cannot be written it stays as it is, with a warning.
    """
    run = Path(run)
    out = Path(out) if out is not None else run / "report.html"
    stored = Stored(run)
    write_atomic(out, render(stored))
    try:
        store_results(run, stored.results)
    except RunError as error:
        warnings.warn(f"{out} is written, but {error}", SidelightWarning, stacklevel=2)
    return out
