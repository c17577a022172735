"""Figure of calibration: how often networks are right, by how sure they say they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from sidelight.report.style import COLOUR, WIDTH, hide_frame, new_figure, role_colour, to_svg
from sidelight.report.words import row_label
from sidelight.results.units import number

BINS = 10


class Reliability(NamedTuple):
    """Rows by their confidence, in ten equal parts of [0, 1]; parts without rows are left out.

    Args:
        confidence, right: (B,) mean confidence of each part, and the share of its rows that are right.
        rows: (B,) number of rows.
        error: expected calibration error, the mean of |confidence − right| over rows.
    """

    confidence: NDArray
    right: NDArray
    rows: NDArray
    error: float


def measure_reliability(predictions: pd.DataFrame, classes: list[str]) -> Reliability | None:
    """Compare confidence with accuracy over the labelled rows; None if the predictions hold no probabilities.

    ECE = Σ_b n_b/N · |mean confidence of part b − share of right answers in part b|.

    Args:
        predictions: predictions of test rows, as in predictions.csv.
        classes: names of the classes.
    """
    columns = [f"p.{name}" for name in classes]
    if "target" not in predictions or not set(columns) <= set(predictions.columns):
        return None
    labelled = predictions[predictions["target"].isin(classes)]
    p = labelled[columns].to_numpy(dtype=np.float64)
    known = np.isfinite(p).all(axis=1)
    if not known.any():
        return None
    p, target = p[known], labelled["target"].to_numpy()[known]
    sure, right = p.max(axis=1), np.asarray(classes, dtype=object)[p.argmax(axis=1)] == target
    part = np.minimum((sure * BINS).astype(int), BINS - 1)
    rows = np.bincount(part, minlength=BINS)
    kept = rows > 0
    means = [np.bincount(part, weights=x, minlength=BINS)[kept] / rows[kept] for x in (sure, right.astype(np.float64))]
    error = float((rows[kept] * np.abs(means[0] - means[1])).sum() / rows.sum())
    return Reliability(means[0], means[1], rows[kept], error)


def plot_calibration(found: Mapping[str, Reliability], best: str | None, label_fraction: float) -> Markup:
    """Plot the share of right answers by confidence; the diagonal is a network that is as often right as it says.

    Args:
        found: row of the table -> its reliability.
        best: the name of the best method, which has its own colour.
        label_fraction: keeps the figures of several label fractions apart.
    """
    with new_figure(WIDTH, WIDTH * 0.82) as fig:
        axes = fig.add_subplot()
        axes.plot([0, 100], [0, 100], color=COLOUR["muted"], linewidth=0.9, linestyle=(0, (4, 3)), zorder=2)
        for name, r in found.items():
            colour, label = role_colour(name, best), f"{row_label(name)}: error {number(100 * r.error, '.1f')}"
            axes.plot(100 * r.confidence, 100 * r.right, "-", color=colour, linewidth=1.4, zorder=3)
            sizes = 12 + 110 * r.rows / r.rows.sum()
            axes.scatter(100 * r.confidence, 100 * r.right, s=sizes, color=colour, label=label, linewidths=0, zorder=4)
        axes.set_xlim(min(100 * float(r.confidence.min()) for r in found.values()) - 4, 102)
        axes.set_xlabel("how sure the network says it is, %")
        axes.set_ylabel("how often it is right, %")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=len(found))
        hide_frame(axes, "both")
        texts = [
            f"{row_label(n)} has a calibration error of {number(100 * r.error, '.1f')} points" for n, r in found.items()
        ]
        return to_svg(
            fig, f"calibration-{label_fraction:g}", f"Share of right answers by confidence: {'; '.join(texts)}"
        )
