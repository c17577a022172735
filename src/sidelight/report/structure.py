"""Similarity matrices of teacher and student over epochs, ordered by class (PKDOT, Fig. 5), and how far they agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from sidelight.report.comparisons import label
from sidelight.report.stored import Similarity, Stored
from sidelight.report.style import COLOUR, HEAT, WIDTH, figure, finish, quiet, role_colour
from sidelight.report.style import epochs as count_epochs
from sidelight.report.training import average
from sidelight.results import Comparison
from sidelight.results.budget import BASELINE, TEACHER

PANELS = 6


@dataclass
class Structure:
    """What the section shows: the teacher's matrix, the student's over epochs, and the agreement over all jobs."""

    fold: int
    seed: int
    teacher: Markup
    students: list[tuple[str, str, Markup]]  # title, agreement in words, matrix
    agreement: Markup | None
    ordered_by: str


def structure(stored: Stored, c: Comparison) -> Structure | None:
    """The first fold and seed of which both the teacher and the best student are stored."""
    if c.best is None:
        return None
    teachers, students = stored.folders(TEACHER, c.label_fraction), stored.folders(c.best, c.label_fraction)
    for fold, seed in (pair for pair in students if pair in teachers):
        teacher, student = stored.similarity(teachers[fold, seed]), stored.similarity(students[fold, seed])
        if teacher is None or student is None or not teacher.matrices or not student.matrices:
            continue
        epochs = _chosen(student)
        values = np.concatenate([teacher.last.ravel(), *(student.matrices[e].ravel() for e in epochs)])
        low = float(np.floor(np.nanquantile(values, 0.01) * 10) / 10) if np.isfinite(values).any() else 0.0
        classes = stored.labels if stored.task == "classification" else []
        panels = []
        for epoch in epochs:
            r = correlation(teacher, student.matrices[epoch], student.group)
            title = "before training" if epoch == 0 else f"epoch {epoch}"
            title += " (kept)" if epoch == student.final else ""
            said = f"r = {r:.2f}".replace("-", "−") if np.isfinite(r) else ""
            panels.append(
                (
                    title,
                    said,
                    _matrix(student.matrices[epoch], student.group, [], low, f"student-{epoch}", c.label_fraction),
                )
            )
        first = _matrix(teacher.last, teacher.group, classes, low, "teacher", c.label_fraction)
        by = "class" if classes else (stored.labels[0] if stored.labels else "target")
        by = "the share of pixels of the rarer classes" if stored.task == "segmentation" else by
        return Structure(fold, seed, first, panels, _agreement(stored, c), by)
    return None


def correlation(teacher: Similarity, matrix: NDArray, group: NDArray) -> float:
    """Pearson correlation of the off-diagonal similarities of two networks on the same probe rows; else NaN."""
    if matrix.shape != teacher.last.shape or not np.array_equal(group, teacher.group, equal_nan=True):
        return float("nan")
    where = np.triu_indices(len(matrix), 1)
    a, b = teacher.last[where].astype(np.float64), matrix[where].astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all() and a.std() > 0 and b.std() > 0):
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _chosen(student: Similarity) -> list[int]:
    """At most six epochs: the first, the kept one, and some between; none after the kept one where that suffices."""
    epochs = [e for e in student.matrices if e <= student.final]
    if len(epochs) <= PANELS:
        return epochs
    picked = np.unique(np.linspace(0, len(epochs) - 1, PANELS).round().astype(int))
    return [epochs[i] for i in picked]


def _matrix(matrix: NDArray, group: NDArray, classes: list[str], low: float, name: str, labels: float) -> Markup:
    """One matrix; with `classes`, larger, with the classes' names and the scale of colours."""
    large = name == "teacher"
    with figure(4.0 if large else 2.0, 3.75 if large else 2.0) as fig:
        axes = fig.add_subplot()
        image = axes.imshow(matrix, cmap=HEAT, vmin=low, vmax=1, interpolation="nearest")
        if group.dtype.kind in "iu":
            codes, starts = np.unique(group, return_index=True)
            for start in starts[1:]:
                axes.axhline(start - 0.5, color="#ffffff", linewidth=0.8 if large else 0.5)
                axes.axvline(start - 0.5, color="#ffffff", linewidth=0.8 if large else 0.5)
            if classes:
                middles = (starts + np.append(starts[1:], len(group)) - 1) / 2
                axes.set_yticks(middles, [classes[k] if 0 <= k < len(classes) else "?" for k in codes])
        if not classes:
            axes.set_yticks([])
        axes.set_xticks([])
        quiet(axes, "")
        if large:
            bar = fig.colorbar(image, ax=axes, orientation="horizontal", shrink=0.55, aspect=28, pad=0.03)
            bar.outline.set_visible(False)  # type: ignore[operator]
            bar.set_label("cosine similarity of fused embeddings")
        return finish(fig, f"similarity-{name}-{labels:g}", f"Similarity matrix, {name.replace('-', ' at epoch ')}")


def _agreement(stored: Stored, c: Comparison) -> Markup | None:
    """Correlation with the teacher's matrix over epochs, mean over folds × seeds."""
    teachers = {
        p: s for p, f in stored.folders(TEACHER, c.label_fraction).items() if (s := stored.similarity(f)) is not None
    }
    lines = {}
    for name in (BASELINE, f"{c.best}~placebo", c.best or ""):
        frames = []
        for pair, folder in stored.folders(name, c.label_fraction).items():
            own = stored.similarity(folder) if pair in teachers else None
            if own is not None:
                r = {e: correlation(teachers[pair], m, own.group) for e, m in own.matrices.items() if e <= own.final}
                frames.append(pd.DataFrame({"r": pd.Series(r, dtype=np.float64)}))
        if frames and any(f["r"].notna().any() for f in frames):
            lines[name] = average(frames, "r")
    if not lines:
        return None
    with figure(WIDTH, 2.7) as fig:
        axes = fig.add_subplot()
        for name, curve in lines.items():
            colour = role_colour(name, c.best)
            axes.fill_between(curve.index, curve["low"], curve["high"], color=colour, alpha=0.14, linewidth=0)
            style = "--o" if "~" in name else "-o"
            axes.plot(curve.index, curve["mean"], style, color=colour, markersize=3.5, label=label(name))
        axes.axhline(0, color=COLOUR["line"], linewidth=0.8)
        axes.set_title("agreement with the teacher's similarities, r")
        axes.legend(loc="best")
        quiet(axes)
        count_epochs(axes)
        return finish(
            fig, f"agreement-{c.label_fraction:g}", "Correlation with the teacher's similarity matrix over epochs"
        )
