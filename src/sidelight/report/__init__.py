"""The report: one self-contained HTML file made from what a run stored."""

from __future__ import annotations

import html
from pathlib import Path

from sidelight.results import load_results, sentence, table, write_atomic


def write_report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a run folder, finished or not, and return its path (`<run>/report.html` by default)."""
    run = Path(run)
    out = Path(out) if out is not None else run / "report.html"
    results = load_results(run, rebuild=False)
    body = f"<p>{html.escape(sentence(results))}</p>{table(results).to_html() if len(results) else ''}"
    write_atomic(out, f"<!doctype html><meta charset=utf-8><title>{html.escape(run.name)}</title>{body}")
    return out
