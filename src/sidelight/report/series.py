"""Figures of values: valence against arousal, and predictions along the rows of one group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup

from sidelight.report.style import COLOUR, WIDTH, hide_frame, new_figure, role_colour, to_svg
from sidelight.report.words import row_label

POINTS, STEPS = 300, 240
"""The most points of a panel, and the most rows of a series."""


def plot_plane(
    predictions: Mapping[str, pd.DataFrame], targets: Sequence[str], best: str | None, label_fraction: float
) -> Markup:
    """Plot one target against another, as they are and as networks say, a panel for each.

    Args:
        predictions: row of the table -> predictions of test rows, as in predictions.csv.
        targets: the names of the two targets, e.g. valence and arousal.
        best: the name of the best method, which has its own colour.
        label_fraction: keeps the figures of several label fractions apart.
    """
    first = next(iter(predictions.values()))
    panels = [("true", first[[f"target.{t}" for t in targets]], COLOUR["ink"])]
    for name, frame in predictions.items():
        said = frame[[f"prediction.{t}" for t in targets]]
        panels.append((row_label(name), said, role_colour(name, best)))
    with new_figure(2.5 * len(panels), 2.75) as fig:
        row = fig.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (title, frame, colour) in zip(row, panels):
            shown = frame.dropna()
            x, y = shown.sample(min(POINTS, len(shown)), random_state=0).to_numpy(dtype=np.float64).T
            axes.plot(x, y, "o", color=colour, markersize=3, alpha=0.4, markeredgewidth=0)
            axes.set_title(title)
            axes.set_xlabel(targets[0])
            axes.locator_params(nbins=4)
            hide_frame(axes, "both")
        row[0].set_ylabel(targets[1])
        names = ", ".join(title for title, _, _ in panels)
        return to_svg(fig, f"plane-{label_fraction:g}", f"{targets[1]} against {targets[0]} of test rows: {names}")


def choose_series(frame: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """The rows of the group with the most rows in the first fold and seed, at most `STEPS`, in the order of the data.

    Args:
        frame: predictions of test rows, as in predictions.csv, with `fold` and `seed`.

    Returns:
        The name of the group ("" without groups) and its rows, of which there may be none.
    """
    first = frame[(frame["seed"] == frame["seed"].iloc[0]) & (frame["fold"] == frame["fold"].iloc[0])]
    if "group" not in first:
        return "", first.head(STEPS)
    name = str(first["group"].value_counts(sort=True).idxmax())
    return name, first[first["group"].astype(str) == name].head(STEPS)


def plot_series(
    predictions: Mapping[str, pd.DataFrame], target: str, best: str | None, noun: str, label_fraction: float
) -> Markup | None:
    """Plot true and predicted values along the rows of one group; None without two rows.

    Args:
        predictions: row of the table -> predictions of test rows, as in predictions.csv, with `fold` and `seed`.
        target: the name of the target.
        best: the name of the best method, which has its own colour.
        noun: the name of the groups.
        label_fraction: keeps the figures of several label fractions apart.
    """
    group, rows = choose_series(next(iter(predictions.values())))
    if len(rows) < 2:
        return None
    with new_figure(WIDTH * 1.9, 2.5) as fig:
        axes = fig.add_subplot()
        x = np.arange(len(rows))
        axes.plot(x, rows[f"target.{target}"], color=COLOUR["ink"], linewidth=1.8, label="true")
        for name, frame in predictions.items():
            own = choose_series(frame)[1].drop_duplicates("id").set_index("id").reindex(rows["id"])
            style = (0, (4, 2)) if name != best else "-"
            axes.plot(x, own[f"prediction.{target}"], color=role_colour(name, best), linewidth=1.3, linestyle=style,
                      label=row_label(name))  # fmt: skip
        axes.set_title(f"{target} of {f'{noun} {group}' if group else 'the first test rows'}")
        axes.set_xlabel("row, in the order of the data")
        axes.margins(x=0.01)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=len(predictions) + 1)
        hide_frame(axes)
        names = ", ".join(map(row_label, predictions))
        return to_svg(fig, f"series-{target}-{label_fraction:g}", f"True {target} along rows, and as {names} say")
