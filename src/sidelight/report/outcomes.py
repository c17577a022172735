"""Figures of predictions on test rows: confusion matrices, scatter plots, class maps, and scores of groups."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from sidelight.report.style import (
    COLOUR,
    HEAT,
    WIDTH,
    hide_frame,
    new_figure,
    role_colour,
    short_names,
    text_on_heat,
    to_svg,
)

MANY_CLASSES, MANY_GROUPS, POINTS = 14, 60, 700


def plot_confusion(predictions: pd.DataFrame, classes: list[str], name: str, label_fraction: float) -> Markup:
    """Plot the confusion matrix over all folds and seeds: true class by predicted class, in percent of the true class.

    Args:
        predictions: predictions of test rows, as in predictions.csv; for segmentation their pixels are counted.
        classes: class names.
        name: name of the row of the table.
        label_fraction: keeps the figures of several label fractions apart.
    """
    counts = count_confusions(predictions, classes)
    share = counts.astype(np.float64)
    share = share / np.maximum(share.sum(axis=1, keepdims=True), 1)
    with new_figure(WIDTH, 1.1 + min(0.42 * len(classes), 3.6)) as fig:
        axes = fig.add_subplot()
        axes.imshow(share, cmap=HEAT, vmin=0, vmax=1, aspect="auto")
        if len(classes) <= MANY_CLASSES:
            for i, j in np.ndindex(*share.shape):
                text = f"{100 * share[i, j]:.0f}" if counts[i, j] else "·"
                axes.text(j, i, text, ha="center", va="center", color=text_on_heat(share[i, j]), fontsize=8.5)
            shown = short_names(classes)
            turned = max(map(len, shown)) * len(classes) > 40
            axes.set_xticks(
                range(len(classes)), shown, rotation=30 if turned else 0, ha="right" if turned else "center"
            )
            axes.set_yticks(range(len(classes)), shown)
        else:
            axes.set_xticks([])
            axes.set_yticks([])
        axes.set_title(name)
        axes.set_xlabel("predicted, % of the true class")
        hide_frame(axes, "")
        recall = ", ".join(f"{c} {100 * share[i, i]:.0f} %" for i, c in enumerate(classes))
        return to_svg(fig, f"confusion-{name}-{label_fraction:g}", f"Confusion matrix of {name}; recall: {recall}")


def count_confusions(predictions: pd.DataFrame, classes: list[str]) -> NDArray:
    """(C, C) number of rows, or pixels, by true class and predicted class."""
    columns = [f"pixels.{t}.{p}" for t in classes for p in classes]
    if columns[0] in predictions:
        return np.asarray(predictions[columns].sum().to_numpy().reshape(len(classes), len(classes)))
    table = pd.crosstab(predictions["target"], predictions["prediction"])
    return np.asarray(table.reindex(index=classes, columns=classes, fill_value=0))


def plot_scatter(predictions: pd.DataFrame, target: str, name: str, best: str | None, label_fraction: float) -> Markup:
    """Plot predicted against true values of one target, at most 700 points that are drawn with a fixed seed.

    Args:
        predictions: predictions of test rows, as in predictions.csv.
        target: name of the target.
        name: name of the row of the table.
        best: name of the best method, which has its own colour.
        label_fraction: keeps the figures of several label fractions apart.
    """
    pair = predictions[[f"target.{target}", f"prediction.{target}"]].dropna()
    pair = pair.sample(min(POINTS, len(pair)), random_state=0) if len(pair) else pair
    t, p = pair.to_numpy(dtype=np.float64).T if len(pair) else (np.zeros(0), np.zeros(0))
    with new_figure(WIDTH, WIDTH * 0.85) as fig:
        axes = fig.add_subplot()
        axes.scatter(t, p, s=8, alpha=0.3, color=role_colour(name, best), linewidths=0, zorder=3)
        if len(t):
            ends = np.array([min(t.min(), p.min()), max(t.max(), p.max())])
            axes.plot(ends, ends, color=COLOUR["muted"], linewidth=0.9, linestyle=(0, (4, 3)), zorder=2)
        axes.set_title(f"{target}: {name} (CCC {_ccc(p, t):.2f})" if len(t) else f"{target}: {name}")
        axes.set_xlabel("true")
        axes.set_ylabel("predicted")
        axes.locator_params(nbins=5)
        hide_frame(axes, "both")
        return to_svg(fig, f"scatter-{target}-{name}-{label_fraction:g}", f"Predicted against true {target} of {name}")


def _ccc(prediction: NDArray, target: NDArray) -> float:
    from sidelight.metrics import ccc  # needs torch; a report on classes does not

    return ccc(prediction, target) if len(target) else float("nan")


def score_groups(predictions: pd.DataFrame, task: str, targets: list[str]) -> pd.Series:
    """Score each group, averaged over seeds: accuracy, mIoU, or CCC averaged over the targets.

    Args:
        predictions: predictions of test rows, as in predictions.csv, with `group` and `seed`.
        task: the kind of target: "classification", "segmentation" or "regression".
        targets: names of the classes, or of the targets of a regression.

    Returns:
        Score by group; empty if there are no groups.
    """
    if "group" not in predictions or predictions.empty:
        return pd.Series(dtype=np.float64)
    if task == "classification":
        labelled = predictions[predictions["target"] != ""]
        right = (labelled["target"] == labelled["prediction"]).astype(np.float64)
        per = right.groupby([labelled["group"], labelled["seed"]]).mean()
    elif task == "segmentation":
        from sidelight.metrics import mean_iou

        pairs = predictions.groupby(["group", "seed"])
        per = pd.Series({key: mean_iou(count_confusions(rows, targets)) for key, rows in pairs}, dtype=np.float64)
    else:
        per = pd.concat([_group_ccc(predictions, t) for t in targets], axis=1).mean(axis=1)
    return per.groupby(level=0).mean()


def _group_ccc(predictions: pd.DataFrame, target: str) -> pd.Series:
    columns = ["group", "seed", f"target.{target}", f"prediction.{target}"]
    values = {}
    for key, rows in predictions[columns].dropna().groupby(["group", "seed"]):
        if len(rows) > 2:
            values[key] = _ccc(rows[columns[3]].to_numpy(), rows[columns[2]].to_numpy())
    return pd.Series(values, dtype=np.float64)


def plot_groups(
    baseline: pd.Series, student: pd.Series, best: str, factor: float, noun: str, label_fraction: float
) -> Markup:
    """Plot each group's score with the baseline and with the student, ordered by the baseline.

    Args:
        baseline, student: scores by group.
        best: name of the student's method.
        factor: factor with which scores are shown, e.g. 100 for percent.
        noun: name of the score, for the axis.
        label_fraction: keeps the figures of several label fractions apart.
    """
    both = pd.DataFrame({"baseline": baseline, "student": student}).dropna().sort_values("baseline") * factor
    x = np.arange(len(both))
    with new_figure(WIDTH * 1.2, 3.0) as fig:
        axes = fig.add_subplot()
        up = both["student"] >= both["baseline"]
        for rising, colour in ((True, COLOUR["good"]), (False, COLOUR["bad"])):
            where = (up == rising).to_numpy()
            axes.vlines(
                x[where], both["baseline"][where], both["student"][where], color=colour, alpha=0.55, linewidth=2
            )
        axes.scatter(x, both["baseline"], s=22, color=COLOUR["baseline"], label="baseline", zorder=3)
        axes.scatter(x, both["student"], s=26, color=COLOUR["student"], label=best, zorder=4)
        shown = len(both) <= MANY_GROUPS
        axes.set_xticks(x if shown else [], list(both.index) if shown else [], rotation=90, fontsize=7.5)
        axes.set_ylabel(noun)
        axes.legend(loc="lower right", ncols=2)
        axes.margins(x=0.02)
        hide_frame(axes)
        return to_svg(fig, f"groups-{label_fraction:g}", f"{noun} of every group with the baseline and with {best}")


class GroupSummary(NamedTuple):
    """Number of groups that gain and lose with the student, median and extreme changes, and the weakest group."""

    groups: int
    up: int
    down: int
    median: float
    most: tuple[str, float]
    least: tuple[str, float]
    weakest: tuple[str, float, float]


def summarize_groups(baseline: pd.Series, student: pd.Series) -> GroupSummary | None:
    """Summarise the changes of each group's score from baseline to student; None without groups."""
    both = pd.DataFrame({"baseline": baseline, "student": student}).dropna()
    change = both["student"] - both["baseline"]
    if change.empty:
        return None
    most, least, weak = (str(s.idxmax()) for s in (change, -change, -both["baseline"]))
    return GroupSummary(
        groups=len(change),
        up=int((change > 0).sum()),
        down=int((change < 0).sum()),
        median=float(change.median()),
        most=(most, float(change[most])),
        least=(least, float(change[least])),
        weakest=(weak, float(both["baseline"][weak]), float(both["student"][weak])),
    )
