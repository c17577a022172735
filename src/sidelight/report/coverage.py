"""How many rows have each privileged modality, and how networks score where they do."""

from __future__ import annotations

from typing import NamedTuple

from sidelight.report.stored import Stored
from sidelight.report.words import row_label
from sidelight.results import Comparison
from sidelight.results.budget import BASELINE, TEACHER
from sidelight.results.coverage import keep_seen
from sidelight.results.units import unit

PARTS = ("train", "select", "test")


class Coverage(NamedTuple):
    """Tables of coverage.

    Args:
        parts: the parts of a fold that have rows.
        lines: modality -> for each part the share of its rows that have it, averaged over folds and seeds.
        scores: row of the table -> its mean over all test rows, and over those that have a privileged modality.
    """

    parts: list[str]
    lines: list[tuple[str, list[float]]]
    scores: list[tuple[str, str, str]]


def build_coverage(stored: Stored, c: Comparison) -> Coverage | None:
    """Build the tables from the records of one row's jobs; None if every row has every modality."""
    name = TEACHER if TEACHER in c.rows else BASELINE
    lacks = [stored.record(folder).get("lacks") for folder in stored.folders(name, c.label_fraction).values()]
    of_jobs = [found for found in lacks if isinstance(found, dict)]
    parts = [part for part in PARTS if any(found.get(part) for found in of_jobs)]
    shares: dict[str, list[list[float]]] = {}
    for k, part in enumerate(parts):
        for found in of_jobs:
            for modality, share in (found.get(part) or {}).items():
                shares.setdefault(modality, [[] for _ in parts])[k].append(1 - float(share))
    if not any(value < 1 for columns in shares.values() for column in columns for value in column):
        return None
    words = {"any": "every privileged modality", "all": "at least one of them"}
    order = sorted(shares, key=lambda m: m in words)
    lines = [(words.get(m, m), [sum(v) / len(v) if v else float("nan") for v in shares[m]]) for m in order]
    seen, u, scores = keep_seen(c.budget), unit(c.metric), []
    if seen is not c.budget:
        for row in dict.fromkeys(n for n in (BASELINE, c.best, TEACHER) if n in c.rows):
            whole, part_of = c.budget.mean(str(row), c.metric), seen.mean(str(row), seen.metric)
            scores.append((row_label(str(row)), u.score(whole), u.score(part_of)))
    return Coverage(parts, lines, scores)
