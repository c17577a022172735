"""Similarity matrices of teacher and student over epochs, ordered by class (PKDOT, Fig. 5), and their correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from sidelight.report.embeddings import build_embeddings
from sidelight.report.stored import Similarity, Stored
from sidelight.report.style import (
    COLOUR,
    HEAT,
    WIDTH,
    count_epochs,
    hide_frame,
    new_figure,
    role_colour,
    short_names,
    to_svg,
)
from sidelight.report.training import average_curves
from sidelight.report.words import row_label
from sidelight.results import Comparison
from sidelight.results.budget import BASELINE, TEACHER

PANELS = 10
"""The most matrices of the student that the page holds."""


@dataclass
class Structure:
    """The teacher's matrix, the student's matrices over epochs, and their agreement over all jobs."""

    fold: int
    seed: int
    teacher: Markup
    students: list[tuple[str, str, Markup, bool]]  # title, correlation in words, matrix, whether it was kept
    embeddings: Markup | None
    agreement: Markup | None
    ordered_by: str


def build_structure(stored: Stored, c: Comparison) -> Structure | None:
    """Build the section from the first fold and seed that have both teacher and best student; None if there is none."""
    if c.best is None:
        return None
    teachers, students = stored.folders(TEACHER, c.label_fraction), stored.folders(c.best, c.label_fraction)
    for fold, seed in (pair for pair in students if pair in teachers):
        teacher, student = stored.similarity(teachers[fold, seed]), stored.similarity(students[fold, seed])
        if teacher is None or student is None or not teacher.matrices or not student.matrices:
            continue
        epochs = _choose_epochs(student)
        values = np.concatenate([teacher.last.ravel(), *(student.matrices[e].ravel() for e in epochs)])
        low = float(np.floor(np.nanquantile(values, 0.01) * 10) / 10) if np.isfinite(values).any() else 0.0
        classes = stored.class_names if stored.task == "classification" else []
        panels = []
        for epoch in epochs:
            r = correlate(teacher, student.matrices[epoch], student.group)
            title = "before training" if epoch == 0 else f"epoch {epoch}"
            title += " (kept)" if epoch == student.final else ""
            text = f"r = {r:.2f}".replace("-", "−") if np.isfinite(r) else ""
            matrix = student.matrices[epoch]
            svg = _plot_matrix(matrix, student.group, [], low, f"student-{epoch}", c.label_fraction)
            panels.append((title, text, svg, epoch == student.final))
        first = _plot_matrix(teacher.last, teacher.group, classes, low, "teacher", c.label_fraction)
        by = "class" if classes else (stored.class_names[0] if stored.class_names else "target")
        by = "the share of pixels of the rarer classes" if stored.task == "segmentation" else by
        points = build_embeddings(stored, c, (fold, seed), teacher, classes, by)
        return Structure(fold, seed, first, panels, points, _plot_agreement(stored, c), by)
    return None


def correlate(teacher: Similarity, matrix: NDArray, group: NDArray) -> float:
    """Pearson correlation of the off-diagonal similarities of two networks; NaN if their probe rows differ.

    Args:
        teacher: the teacher's similarities.
        matrix: (n, n) similarities of the other network.
        group: (n,) classes or target values of its probe rows.
    """
    if matrix.shape != teacher.last.shape or not np.array_equal(group, teacher.group, equal_nan=True):
        return float("nan")
    where = np.triu_indices(len(matrix), 1)
    a, b = teacher.last[where].astype(np.float64), matrix[where].astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all() and a.std() > 0 and b.std() > 0):
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _choose_epochs(student: Similarity) -> list[int]:
    """At most ten epochs, from the first to the one that was kept."""
    epochs = [e for e in student.matrices if e <= student.final]
    if len(epochs) <= PANELS:
        return epochs
    picked = np.unique(np.linspace(0, len(epochs) - 1, PANELS).round().astype(int))
    return [epochs[i] for i in picked]


def _plot_matrix(
    matrix: NDArray, group: NDArray, classes: list[str], low: float, name: str, label_fraction: float
) -> Markup:
    """Plot one matrix; the teacher's is larger, with class names and a colour bar."""
    large = name == "teacher"
    with new_figure(4.0 if large else 2.0, 3.75 if large else 2.0) as fig:
        axes = fig.add_subplot()
        image = axes.imshow(matrix, cmap=HEAT, vmin=low, vmax=1, interpolation="nearest")
        if group.dtype.kind in "iu":
            codes, starts = np.unique(group, return_index=True)
            for start in starts[1:]:
                axes.axhline(start - 0.5, color="#ffffff", linewidth=0.8 if large else 0.5)
                axes.axvline(start - 0.5, color="#ffffff", linewidth=0.8 if large else 0.5)
            if classes:
                middles = (starts + np.append(starts[1:], len(group)) - 1) / 2
                short = short_names(classes)
                axes.set_yticks(middles, [short[k] if 0 <= k < len(classes) else "?" for k in codes])
        if not classes:
            axes.set_yticks([])
        axes.set_xticks([])
        hide_frame(axes, "")
        if large:
            bar = fig.colorbar(image, ax=axes, orientation="horizontal", shrink=0.55, aspect=28, pad=0.03)
            bar.outline.set_visible(False)  # type: ignore[operator]
            bar.set_label("cosine similarity of fused embeddings")
        return to_svg(
            fig, f"similarity-{name}-{label_fraction:g}", f"Similarity matrix, {name.replace('-', ' at epoch ')}"
        )


def _plot_agreement(stored: Stored, c: Comparison) -> Markup | None:
    """Plot the correlation with the teacher's matrix over epochs, mean over folds and seeds."""
    teachers = {}
    for pair, folder in stored.folders(TEACHER, c.label_fraction).items():
        similarity = stored.similarity(folder)
        if similarity is not None:
            teachers[pair] = similarity
    lines = {}
    for name in (BASELINE, f"{c.best}~placebo", c.best or ""):
        frames = []
        for pair, folder in stored.folders(name, c.label_fraction).items():
            own = stored.similarity(folder) if pair in teachers else None
            if own is not None:
                kept = {epoch: matrix for epoch, matrix in own.matrices.items() if epoch <= own.final}
                r = {epoch: correlate(teachers[pair], matrix, own.group) for epoch, matrix in kept.items()}
                frames.append(pd.DataFrame({"r": pd.Series(r, dtype=np.float64)}))
        if frames and any(f["r"].notna().any() for f in frames):
            lines[name] = average_curves(frames, "r")
    if not lines:
        return None
    with new_figure(WIDTH, 2.7) as fig:
        axes = fig.add_subplot()
        for name, curve in lines.items():
            colour = role_colour(name, c.best)
            axes.fill_between(curve.index, curve["low"], curve["high"], color=colour, alpha=0.14, linewidth=0)
            style = "--o" if "~" in name else "-o"
            axes.plot(curve.index, curve["mean"], style, color=colour, markersize=3.5, label=row_label(name))
        axes.axhline(0, color=COLOUR["line"], linewidth=0.8)
        axes.set_title("agreement with the teacher's similarities, r")
        axes.legend(loc="best")
        hide_frame(axes)
        count_epochs(axes)
        return to_svg(
            fig, f"agreement-{c.label_fraction:g}", "Correlation with the teacher's similarity matrix over epochs"
        )
