"""Figures of training: the score on the select rows and every loss term, mean over jobs with a band."""

from __future__ import annotations

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes

from sidelight.report.comparisons import label
from sidelight.report.stored import Stored
from sidelight.report.style import COLOUR, WIDTH, epochs, figure, finish, quiet, role_colour
from sidelight.results import Comparison
from sidelight.results.budget import BASELINE, TEACHER
from sidelight.results.units import metric_name, unit

NOT_TERMS = ("select", "seconds")


def curves(stored: Stored, c: Comparison) -> list[Markup]:
    """One panel for the score on select, and one per loss term of the best method."""
    named = [BASELINE, *([f"{c.best}~placebo", c.best] if c.best is not None else []), TEACHER]
    jobs = {name: stored.curves(name, c.label_fraction) for name in named}
    jobs = {name: frames for name, frames in jobs.items() if frames}
    if not jobs:
        return []
    u = unit(c.metric)
    title = f"{metric_name(c.metric)} on the select rows{', %' if u.factor == 100 else ''}"
    panels = [_panel(jobs, "select", title, c, u.factor * c.sign)]
    terms = dict.fromkeys(t for frames in jobs.values() for f in frames for t in f.columns if t not in NOT_TERMS)
    return panels + [_panel(jobs, term, f"loss term {term}", c, 1.0) for term in terms]


def average(frames: list[pd.DataFrame], column: str) -> pd.DataFrame:
    """Mean, lowest and highest over jobs per epoch, as far as at least half of the jobs were still training."""
    wide = pd.concat([f[column] for f in frames if column in f], axis=1)
    wide = wide[wide.notna().sum(axis=1) >= wide.shape[1] / 2]
    return pd.DataFrame({"mean": wide.mean(axis=1), "low": wide.min(axis=1), "high": wide.max(axis=1)})


def _panel(jobs: dict[str, list[pd.DataFrame]], column: str, title: str, c: Comparison, factor: float) -> Markup:
    with figure(WIDTH, 2.7) as fig:
        axes = fig.add_subplot()
        for name, frames in jobs.items():
            if any(column in f for f in frames):
                _line(axes, average(frames, column) * factor, name, c.best)
        axes.set_title(title)
        axes.legend(loc="best")
        quiet(axes)
        epochs(axes)
        return finish(
            fig, f"curve-{column}-{c.label_fraction:g}", f"{title} over epochs: {', '.join(map(label, jobs))}"
        )


def _line(axes: Axes, curve: pd.DataFrame, name: str, best: str | None) -> None:
    colour, style = role_colour(name, best), "--" if "~" in name else "-"
    axes.fill_between(curve.index, curve["low"], curve["high"], color=colour, alpha=0.14, linewidth=0)
    axes.plot(curve.index, curve["mean"], style, color=colour, label=label(name))
    last = curve.iloc[-1:]  # by position: in pandas 2 a slice of a float index goes by its labels
    axes.plot(last.index, last["mean"], "o", color=colour, markersize=3.5, markeredgecolor=COLOUR["panel"])
