"""The details of the report at one label fraction: groups, predictions, similarities and training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sidelight.report import outcomes, structure, training
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
    best: str | None
    groups: dict[str, Any] | None
    subsets: Subsets | None
    outcome: list[Markup]
    maps: Markup | None
    structure: structure.Structure | None
    training: list[Markup]


def build_evidence(stored: Stored, c: Comparison) -> Evidence:
    """Build the figures and tables behind a comparison."""
    return Evidence(
        heading=labels_phrase(c.label_fraction),
        best=c.best,
        groups=_groups(stored, c),
        subsets=build_subsets(stored, c),
        outcome=_outcome(stored, c),
        maps=_maps(stored, c),
        structure=structure.build_structure(stored, c),
        training=training.plot_training(stored, c),
    )


def _outcome(stored: Stored, c: Comparison) -> list[Markup]:
    """Confusion matrices, or a scatter plot per target, of the baseline and the best student."""
    shown = [name for name in (BASELINE, c.best) if name is not None and name in c.rows]
    predictions = {}
    for name in shown:
        frame = stored.predictions(name, c.label_fraction)
        if len(frame):
            predictions[name] = frame
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


def _maps(stored: Stored, c: Comparison) -> Markup | None:
    """Class maps of a few test rows of the first fold and seed: target, baseline, best student and teacher."""
    if stored.task != "segmentation":
        return None
    shown = [name for name in (BASELINE, c.best, TEACHER) if name is not None and name in c.rows]
    for pair in stored.folders(shown[0], c.label_fraction) if shown else ():
        found = {}
        for name in shown:
            maps = stored.examples(name, c.label_fraction, pair)
            if maps:
                found[name] = maps
        if found:
            panels = [("truth", next(iter(found.values()))["target"])]
            return outcomes.plot_maps(
                panels + [(n, f["prediction"]) for n, f in found.items()], stored.class_names, c.label_fraction
            )
    return None


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
