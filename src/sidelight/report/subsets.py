"""Scores with one modality alone, for students that work with any subset of their modalities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from sidelight.report.stored import Stored
from sidelight.results import Comparison
from sidelight.results.budget import BASELINE
from sidelight.results.chance import Pair
from sidelight.results.units import metric_name, unit
from sidelight.results.verdict import span


class Subsets(NamedTuple):
    """A table: the metric, the names of the networks, and for each subset its name and what it says of each network."""

    metric: str
    names: list[str]
    lines: list[tuple[str, list[str]]]


def build_subsets(stored: Stored, c: Comparison) -> Subsets | None:
    """Build the table of baseline and best student with all modalities and with each alone.

    It holds means over jobs, and the paired difference of the student to the baseline with its interval.

    Returns:
        The table; None if the jobs have no subsets (student.drop=0).
    """
    shown = [name for name in (BASELINE, c.best) if name is not None and name in c.rows]
    records = {name: _read_records(stored, name, c.label_fraction) for name in shown}
    given: list[str] = []
    for of_row in records.values():
        for record in of_row.values():
            given += [m for m in record.get("subsets", {}) if m not in given]
    if not given:
        return None
    lines = [("all", _write(c, {name: {p: r["metrics"] for p, r in records[name].items()} for name in shown}))]
    for m in given:
        alone = {name: {p: r.get("subsets", {}).get(m, {}) for p, r in records[name].items()} for name in shown}
        lines.append((f"{m} alone", _write(c, alone)))
    return Subsets(metric_name(c.metric), [*shown, "difference"] if len(shown) > 1 else shown, lines)


def _read_records(stored: Stored, name: str, label_fraction: float) -> dict[Pair, dict[str, Any]]:
    return {pair: stored.record(folder) for pair, folder in stored.folders(name, label_fraction).items()}


def _write(c: Comparison, metrics: Mapping[str, Mapping[Pair, Mapping[str, float]]]) -> list[str]:
    """The mean of each row, and the difference of the second to the first with its interval."""
    u, rows = unit(c.metric), {}
    for name, by_pair in metrics.items():
        scores = {pair: found[c.metric] for pair, found in by_pair.items() if found.get(c.metric) is not None}
        frame = c.budget.rows[name]
        rows[name] = frame.assign(**{c.metric: [scores.get(pair, math.nan) for pair in frame.index]})
    cells = [u.score(frame[c.metric].mean()) if frame[c.metric].notna().any() else "" for frame in rows.values()]
    if len(rows) < 2:
        return cells
    # Test groups have scores of whole rows only, so an official split leaves no interval.
    d = replace(c.budget, rows=rows, groups={}).difference(str(c.best), BASELINE, c.level)
    ends = f" ({span(u, d)})" if math.isfinite(d.half) else ""
    return [*cells, f"{u.difference(d.mean)}{ends}" if math.isfinite(d.mean) else ""]
