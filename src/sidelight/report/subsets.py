"""Scores with one modality alone, for students that work with any subset of their modalities."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sidelight.report.stored import Stored
from sidelight.results import Comparison
from sidelight.results.budget import BASELINE
from sidelight.results.job import read_record
from sidelight.results.units import metric_name, unit


class Subsets(NamedTuple):
    """A table: the metric, the names of the networks, and for each subset its name and each network's mean."""

    metric: str
    names: list[str]
    lines: list[tuple[str, list[str]]]


def build_subsets(stored: Stored, c: Comparison) -> Subsets | None:
    """Build the table of baseline and best student with all modalities and with each alone, means over jobs.

    Returns:
        The table; None if the jobs have no subsets (student.drop=0).
    """
    shown = [name for name in (BASELINE, c.best) if name is not None and name in c.rows]
    records = {name: _read_records(stored, name, c.label_fraction) for name in shown}
    given: list[str] = []
    for stored_records in records.values():
        for record in stored_records:
            given += [m for m in record.get("subsets", {}) if m not in given]
    if not given:
        return None
    lines = [("all", [_mean([r["metrics"] for r in records[name]], c.metric) for name in shown])]
    for m in given:
        alone = {name: [r.get("subsets", {}).get(m, {}) for r in records[name]] for name in shown}
        lines.append((f"{m} alone", [_mean(alone[name], c.metric) for name in shown]))
    return Subsets(metric_name(c.metric), shown, lines)


def _read_records(stored: Stored, name: str, label_fraction: float) -> list[dict[str, Any]]:
    return [read_record(folder) for folder in stored.folders(name, label_fraction).values()]


def _mean(metrics: list[dict[str, float]], metric: str) -> str:
    values = [m[metric] for m in metrics if m.get(metric) is not None]
    return unit(metric).score(float(np.mean(values))) if values else ""
