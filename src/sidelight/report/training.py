"""Figures of training: the score on the select rows and each loss term, as mean over jobs with a band."""

from __future__ import annotations

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes

from sidelight.report.stored import Stored
from sidelight.report.style import COLOUR, WIDTH, count_epochs, hide_frame, new_figure, role_colour, to_svg
from sidelight.report.words import row_label
from sidelight.results import Comparison
from sidelight.results.budget import BASELINE, TEACHER
from sidelight.results.units import metric_name, unit

NOT_TERMS = ("select", "seconds")


def plot_training(stored: Stored, c: Comparison) -> list[Markup]:
    """Plot the score on the select rows and each loss term of the best method, a panel each."""
    names = [BASELINE, *([f"{c.best}~placebo", c.best] if c.best is not None else []), TEACHER]
    jobs: dict[str, list[pd.DataFrame]] = {}
    for name in names:
        frames = stored.curves(name, c.label_fraction)
        if frames:
            jobs[name] = frames
    if not jobs:
        return []
    u = unit(c.metric)
    title = f"{metric_name(c.metric)} on the select rows{', %' if u.factor == 100 else ''}"
    panels = [_plot_panel(jobs, "select", title, c, u.factor * c.sign)]
    terms: list[str] = []
    for frames in jobs.values():
        for frame in frames:
            terms += [term for term in frame.columns if term not in NOT_TERMS and term not in terms]
    return panels + [_plot_panel(jobs, term, f"loss term {term}", c, 1.0) for term in terms]


def average_curves(frames: list[pd.DataFrame], column: str) -> pd.DataFrame:
    """Mean, lowest and highest over jobs for each epoch that at least half of the jobs reached."""
    wide = pd.concat([f[column] for f in frames if column in f], axis=1)
    wide = wide[wide.notna().sum(axis=1) >= wide.shape[1] / 2]
    return pd.DataFrame({"mean": wide.mean(axis=1), "low": wide.min(axis=1), "high": wide.max(axis=1)})


def _plot_panel(jobs: dict[str, list[pd.DataFrame]], column: str, title: str, c: Comparison, factor: float) -> Markup:
    with new_figure(WIDTH, 2.7) as fig:
        axes = fig.add_subplot()
        for name, frames in jobs.items():
            if any(column in f for f in frames):
                _line(axes, average_curves(frames, column) * factor, name, c.best)
        axes.set_title(title)
        axes.legend(loc="best")
        hide_frame(axes)
        count_epochs(axes)
        return to_svg(
            fig, f"curve-{column}-{c.label_fraction:g}", f"{title} over epochs: {', '.join(map(row_label, jobs))}"
        )


def _line(axes: Axes, curve: pd.DataFrame, name: str, best: str | None) -> None:
    colour, style = role_colour(name, best), "--" if "~" in name else "-"
    axes.fill_between(curve.index, curve["low"], curve["high"], color=colour, alpha=0.14, linewidth=0)
    axes.plot(curve.index, curve["mean"], style, color=colour, label=row_label(name))
    last = curve.iloc[-1:]  # by position: pandas 2 slices a float index by its values
    axes.plot(last.index, last["mean"], "o", color=colour, markersize=3.5, markeredgecolor=COLOUR["panel"])
