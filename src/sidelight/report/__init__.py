"""The report: one self-contained HTML file, made from a run folder."""

from __future__ import annotations

import warnings
from pathlib import Path

from sidelight.errors import RunError, SidelightWarning
from sidelight.report.page import render_page
from sidelight.report.stored import Stored
from sidelight.results.store import store_results
from sidelight.utils.atomic import write_atomic


def write_report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a run folder, finished or not.

    The file contains its styles, figures and texts, and loads nothing. The run's `results.csv` is updated too; if the
    folder cannot be written, it is left as it is, with a warning.

    Args:
        run: the run folder.
        out: the HTML file; None: `<run>/report.html`.

    Returns:
        The path of the HTML file.
    """
    run = Path(run)
    out = Path(out) if out is not None else run / "report.html"
    stored = Stored(run)
    write_atomic(out, render_page(stored))
    try:
        store_results(run, stored.results)
    except RunError as error:
        warnings.warn(f"{out} is written, but {error}", SidelightWarning, stacklevel=2)
    return out
