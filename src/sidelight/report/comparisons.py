"""Figures that compare methods: paired differences, and scores over label fractions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from sidelight.report.style import COLOUR, WIDTH, hide_frame, new_figure, role_colour, to_svg
from sidelight.report.words import row_label
from sidelight.results import Comparison
from sidelight.results.budget import BASELINE, MAJORITY, TEACHER
from sidelight.results.printing import plus_minus
from sidelight.results.units import metric_name, unit


def plot_forest(c: Comparison, narrow: bool) -> Markup:
    """Plot paired differences to the baseline, one dot per fold and seed, with mean and interval; a row per method.

    Args:
        c: the comparison.
        narrow: put names above their rows, for phones, instead of to the left of them.
    """
    u = unit(c.metric)
    # The most common answer lies so far below that it would shrink every other difference.
    names = [n for n, row in c.rows.items() if n not in (BASELINE, MAJORITY) and row.difference.n]
    if not names:
        return Markup()
    step = 0.5 if narrow else 0.4
    with new_figure(WIDTH if narrow else 8.6, 0.75 + step * len(names)) as fig:
        axes = fig.add_subplot()
        axes.axvspan(-c.rope * u.factor, c.rope * u.factor, color=COLOUR["wash"], zorder=0, linewidth=0)
        axes.axvline(0, color=COLOUR["baseline"], linewidth=1, zorder=1)
        for y, name in enumerate(names):
            _plot_row(axes, c, name, y, narrow)
        axes.set_ylim(len(names) - 0.45, -0.7 if narrow else -0.45)
        axes.set_yticks([] if narrow else range(len(names)), [] if narrow else [row_label(n) for n in names])
        for tick, name in zip(axes.get_yticklabels(), names):
            tick.set_color(COLOUR["ink"] if c.rows[name].role == "method" else COLOUR["muted"])
            tick.set_fontweight("bold" if c.rows[name].bold else "normal")
        axes.set_xlabel(f"difference to the baseline{', ' + u.noun if u.noun else ' in ' + metric_name(c.metric)}")
        hide_frame(axes, "x")
        texts = [f"{n} {plus_minus(u, c.rows[n].difference)}" for n in names]
        description = "Paired differences to the baseline: " + "; ".join(texts)
        return to_svg(fig, f"forest-{c.label_fraction:g}-{'narrow' if narrow else 'wide'}", description)


def _plot_row(axes: Axes, c: Comparison, name: str, y: float, narrow: bool) -> None:
    u, row, colour = unit(c.metric), c.rows[name], role_colour(name, c.best)
    pairs = c.budget.pairs(name, BASELINE)
    d = (pairs[name] - pairs[BASELINE]).dropna().to_numpy(dtype=np.float64) * u.factor
    jitter = np.random.default_rng(len(d)).uniform(0.2, 0.34, len(d))
    axes.scatter(d, y + jitter, s=14, color=colour, alpha=0.5, linewidths=0, zorder=3)
    mean, low, high = (v * u.factor for v in row.difference[:3])
    if math.isfinite(low) and math.isfinite(high):
        axes.plot([low, high], [y, y], color=colour, linewidth=2.2, zorder=4)
    axes.plot([mean], [y], "D", color=colour, markersize=6, markeredgecolor=COLOUR["panel"], zorder=5)
    weight = "bold" if row.bold else "normal"
    where, text = axes.get_yaxis_transform(), plus_minus(u, row.difference)
    if narrow:
        axes.text(0, y - 0.28, row_label(name), transform=where, va="center", fontsize=8.5, weight=weight)
        axes.text(1, y - 0.28, text, transform=where, va="center", ha="right", fontsize=8.5)
    else:
        axes.text(1.015, y, text, transform=where, va="center", fontsize=9, weight=weight)


def plot_label_fractions(found: Sequence[Comparison]) -> Markup:
    """Plot mean scores over the share of labelled groups, with the interval of the best method's difference as bars."""
    comparisons = {c.label_fraction: c for c in found}
    shares = [*comparisons]
    metric, best = comparisons[shares[0]].metric, comparisons[shares[0]].best
    u = unit(metric)
    # Controls are drawn for the best method only.
    names: list[str] = []
    for c in comparisons.values():
        for name, row in c.rows.items():
            shown = row.role != "reference" and ("~" not in name or name.split("~")[0] == best)
            if shown and name not in names:
                names.append(name)
    with new_figure(WIDTH * 1.2, 4.0) as fig:
        axes = fig.add_subplot()
        for i, name in enumerate(names):
            rows = {s: comparisons[s].rows[name] for s in shares if name in comparisons[s].rows}
            x = np.array(list(rows)) * 100 + (i - len(names) / 2) * 0.25  # shifted, so that bars do not overlap
            mean = np.array([row.mean for row in rows.values()]) * u.factor
            half = np.array([row.difference.half for row in rows.values()]) * u.factor
            colour, strong = role_colour(name, best), name in (BASELINE, TEACHER, best)
            line, *_ = axes.plot(
                x, mean, "--o" if "~" in name else "-o", color=colour, label=row_label(name), markersize=4.5
            )
            line.set(linewidth=2.0 if strong else 1.1, alpha=1.0 if strong or "~" in name else 0.55)
            if name == best:
                finite = np.isfinite(half)
                axes.errorbar(x[finite], mean[finite], half[finite], fmt="none", color=colour, alpha=0.6)
        axes.set_xticks([100 * s for s in shares], [f"{100 * s:g} %" for s in shares])
        axes.set_xlabel("training groups whose labels are kept")
        axes.set_ylabel(metric_name(metric) + (", %" if u.factor == 100 else ""))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3)
        hide_frame(axes)
        return to_svg(fig, "budgets", f"Mean {metric_name(metric)} of every method over the share of labelled groups")
