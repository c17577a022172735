"""The details of the report at one label fraction: groups, predictions, similarities and training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from sidelight.report import outcomes, series, structure, training
from sidelight.report.calibration import measure_reliability, plot_calibration
from sidelight.report.cost import CostLine, build_costs
from sidelight.report.coverage import Coverage, build_coverage
from sidelight.report.maps import build_maps
from sidelight.report.question import group_name
from sidelight.report.stored import Stored
from sidelight.report.subsets import Subsets, build_subsets
from sidelight.results import Comparison
from sidelight.results.budget import BASELINE, TEACHER
from sidelight.results.units import labels_phrase, metric_name, unit


@dataclass
class Evidence:
    """The details at one label fraction: scores of groups, predictions, the student's similarities, training."""

    heading: str
    metric: str
    best: str | None
    groups: dict[str, Any] | None
    subsets: Subsets | None
    outcome: list[Markup]
    plane: list[Markup]
    calibration: Markup | None
    coverage: Coverage | None
    costs: list[CostLine]
    maps: Markup | None
    structure: structure.Structure | None
    training: list[Markup]


def build_evidence(stored: Stored, c: Comparison) -> Evidence:
    """Build the figures and tables behind a comparison."""
    return Evidence(
        heading=labels_phrase(c.label_fraction),
        metric=f"{metric_name(c.metric)}{', %' if unit(c.metric).factor == 100 else ''}",
        best=c.best,
        groups=_groups(stored, c),
        subsets=build_subsets(stored, c),
        outcome=_outcome(stored, c),
        plane=_plane(stored, c),
        calibration=_calibration(stored, c),
        coverage=build_coverage(stored, c),
        costs=build_costs(stored, c),
        maps=build_maps(stored, c),
        structure=structure.build_structure(stored, c),
        training=training.plot_training(stored, c),
    )


def _outcome(stored: Stored, c: Comparison) -> list[Markup]:
    """Confusion matrices, or a scatter plot per target, of the baseline and the best student."""
    predictions = _read(stored, c, (BASELINE, c.best))
    figures = []
    if stored.task != "regression":
        for name, frame in predictions.items():
            if "target" in frame or stored.task == "segmentation":
                figures.append(outcomes.plot_confusion(frame, stored.class_names, name, c.label_fraction))
        return figures
    for target in stored.class_names:
        if all(f"target.{target}" in frame for frame in predictions.values()):
            for name, frame in predictions.items():
                figures.append(outcomes.plot_scatter(frame, target, name, c.best, c.label_fraction))
    return figures


def _read(stored: Stored, c: Comparison, names: Sequence[str | None]) -> dict[str, pd.DataFrame]:
    """The predictions of those rows of the table that have some."""
    shown = [name for name in names if name is not None and name in c.rows]
    frames = {name: stored.predictions(name, c.label_fraction) for name in shown}
    return {name: frame for name, frame in frames.items() if len(frame)}


def _plane(stored: Stored, c: Comparison) -> list[Markup]:
    """Of a regression: the first two targets against each other, and the values along the rows of one group."""
    if stored.task != "regression":
        return []
    targets = stored.class_names
    read = _read(stored, c, (BASELINE, c.best, TEACHER))
    if not targets or not read or any(f"target.{t}" not in frame for frame in read.values() for t in targets):
        return []
    figures = [series.plot_plane(read, targets[:2], c.best, c.label_fraction)] if len(targets) > 1 else []
    for target in targets[:2]:
        figure = series.plot_series(read, target, c.best, group_name(stored) or "group", c.label_fraction)
        figures += [figure] if figure is not None else []
    return figures


def _calibration(stored: Stored, c: Comparison) -> Markup | None:
    """How often baseline, best student and teacher are right by how sure they are; None without probabilities."""
    if stored.task != "classification":
        return None
    found = {}
    for name, frame in _read(stored, c, (BASELINE, c.best, TEACHER)).items():
        reliability = measure_reliability(frame, stored.class_names)
        if reliability is not None:
            found[name] = reliability
    return plot_calibration(found, c.best, c.label_fraction) if found else None


def _groups(stored: Stored, c: Comparison) -> dict[str, Any] | None:
    """Scores of groups with the baseline and the best student; None with fewer than two groups."""
    if c.best is None or BASELINE not in c.rows:
        return None
    baseline, student = (
        outcomes.score_groups(stored.predictions(name, c.label_fraction), stored.task, stored.class_names)
        for name in (BASELINE, c.best)
    )
    facts = outcomes.summarize_groups(baseline, student)
    if facts is None or facts.groups < 2:
        return None
    metric = {"regression": "ccc", "segmentation": "miou"}.get(stored.task, "accuracy")
    u = unit(metric)
    noun = metric_name(metric) + (", %" if u.factor == 100 else "")
    figure = outcomes.plot_groups(baseline, student, c.best, u.factor, noun, c.label_fraction)
    return {"figure": figure, "facts": facts, "unit": u, "noun": group_name(stored) or "group"}
