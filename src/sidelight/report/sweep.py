"""What the settings of a sweep do: scores on the select rows by setting, with intervals over folds and seeds."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from sidelight.report.stored import Stored
from sidelight.report.style import HEAT, WIDTH, hide_frame, new_figure, role_colour, text_on_heat, to_svg
from sidelight.report.words import row_label
from sidelight.results import Comparison, Interval
from sidelight.results.budget import BASELINE, TEACHER
from sidelight.results.draws import half_width, list_choices, score_settings
from sidelight.results.units import metric_name, number, unit

MOST_METHODS = 6
"""The most methods whose figures are drawn."""
MANY_CELLS = 8
"""The most columns of a heat map whose cells hold their interval."""


class SweepLine(NamedTuple):
    """A row of the table: how many draws it had, and what it chose."""

    name: str
    draws: str
    chosen: str


class SweepSection(NamedTuple):
    """The sweep at one label fraction, as the template shows it."""

    heading: str
    sampler: str
    swept: str
    lines: list[SweepLine]
    figures: list[tuple[str, Markup]]
    caption: str


def build_sweep(stored: Stored, c: Comparison) -> SweepSection | None:
    """Build the section on a sweep at one label fraction; None for a run without a sweep."""
    draws = stored.draws
    draws = draws[np.isclose(draws["labels"].astype(float), c.label_fraction)] if len(draws) else draws
    if not len(draws):
        return None
    sampler = _sampler(stored)
    draws = draws.assign(row=draws["method"] + draws["control"].map(lambda control: f"~{control}" if control else ""))
    shown = [name for name in c.rows if "~" not in name and name != TEACHER and (draws["row"] == name).any()]
    figures: list[tuple[str, Markup]] = []
    methods = [name for name in shown if name != BASELINE][:MOST_METHODS]
    for name in methods:
        figures += plot_method(draws, name, c, sampler)
    return SweepSection(
        heading=f"{c.label_fraction:.0%} of the labels" if c.label_fraction < 1 else "all labels",
        sampler=sampler,
        swept=", ".join(_settings(draws)),
        lines=[_describe_row(draws[draws["row"] == name], name) for name in c.rows if (draws["row"] == name).any()],
        figures=figures,
        caption=_caption(sampler, len(methods) < len([n for n in shown if n != BASELINE])),
    )


def _sampler(stored: Stored) -> str:
    """The sampler that sweep.json names; "grid" if it cannot be read."""
    try:
        read = json.loads((stored.run / "sweep.json").read_text("utf-8"))
        return str(read["sampler"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        stored.notes.append("sweep.json cannot be read.")
        return "grid"


def _settings(draws: pd.DataFrame) -> list[str]:
    """The swept settings that at least one of the draws has."""
    return [str(name) for name in draws.columns if "." in str(name) and draws[name].notna().any()]


def _varied(draws: pd.DataFrame) -> list[str]:
    """The settings of which the draws of a row have more than one value."""
    return [name for name in _settings(draws) if len(dict.fromkeys(draws[name])) > 1]


def _describe_row(draws: pd.DataFrame, name: str) -> SweepLine:
    per_job = draws.groupby(["fold", "seed"]).size()
    different = draws[draws["replica"] == 0].groupby(["fold", "seed"]).size().max()
    count = f"{per_job.max()}"
    if different < per_job.max():
        count += f" ({different} setting{'s' if different > 1 else ''}, the others with other initial weights)"
    names, pairs = _settings(draws), len(per_job)
    if not names:
        return SweepLine(row_label(name), count, "no swept setting concerns it")
    choices = list_choices(draws, names)
    listed = [f"{_format_point(names, point)} in {times} of {pairs}" for point, times in choices[:3]]
    return SweepLine(row_label(name), count, "; ".join(listed) + ("; …" if len(choices) > 3 else ""))


def plot_method(draws: pd.DataFrame, name: str, c: Comparison, sampler: str) -> list[tuple[str, Markup]]:
    """Plot the select scores of a method by setting: a heat map of two settings, else a panel for each setting.

    Args:
        draws: the draws of all rows, with the column `row`.
        name: the method.
        c: the comparison.
        sampler: how the draws were sampled.

    Returns:
        Titles and figures; [] if no setting concerns the method.
    """
    own = draws[draws["row"] == name]
    axes = _varied(own)
    if len(axes) == 2 and sampler == "grid":
        return [(f"{name}: {axes[1]} by {axes[0]}", plot_heat(own, axes[1], axes[0], name, c))]
    figures = []
    for setting in axes:
        beside = draws[draws["row"] == BASELINE]
        if sampler == "one-at-a-time":
            own_line, beside = _vary_alone(own, setting), _vary_alone(beside, setting)
        else:
            own_line = own
        figures.append((f"{name}: {setting}", plot_line(own_line, beside, setting, name, c, sampler)))
    return figures


def _vary_alone(draws: pd.DataFrame, setting: str) -> pd.DataFrame:
    """The draws in which every other setting is as in the first draw, the experiment's own."""
    if not len(draws):
        return draws
    first, kept = draws[draws["draw"] == 0].iloc[0], np.ones(len(draws), bool)
    for other in _settings(draws):
        if other != setting:
            kept &= np.array([value == first[other] for value in draws[other]])
    return draws[kept]


def plot_line(
    own: pd.DataFrame, baseline: pd.DataFrame, setting: str, name: str, c: Comparison, sampler: str
) -> Markup:
    """Plot mean select scores by one setting, with intervals; the baseline beside them.

    Args:
        own: the draws of the method.
        baseline: the draws of the baseline.
        setting: the setting.
        name: the method.
        c: the comparison.
        sampler: lines join the points of a "grid" or of "one-at-a-time"; other draws are single points.
    """
    u, joined = unit(c.metric), sampler in ("grid", "one-at-a-time")
    values = _ordered(own[setting])
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    positions = dict(zip(values, map(float, values) if numeric and not joined else range(len(values))))
    texts = []
    with new_figure(WIDTH, 3.0) as fig:
        axes = fig.add_subplot()
        concerned = baseline[setting].notna().any() if setting in baseline else False
        for row, draws in ((BASELINE, baseline), (name, own)):
            if not len(draws):
                continue
            colour = role_colour(row, c.best)
            if row == BASELINE and not concerned:
                mean = score_settings(draws.assign(all=0), ["all"])[0][1].mean * c.sign * u.factor
                axes.axhline(mean, color=colour, linewidth=1.2, linestyle=(0, (4, 3)), label=BASELINE, zorder=2)
                continue
            scored = [(key[0], interval) for key, interval in score_settings(draws, [setting]) if key[0] in positions]
            scored.sort(key=lambda one: positions[one[0]])
            x = np.array([positions[value] for value, _ in scored])
            y = np.array([interval.mean for _, interval in scored]) * c.sign * u.factor
            half = np.array([half_width(interval) for _, interval in scored]) * u.factor
            low, high = (np.clip(y + side * half, *_limits(c)) for side in (-1, 1))
            axes.vlines(x, low, high, color=colour, alpha=0.45, linewidth=1.6, zorder=3)
            fill = "none" if row == BASELINE else "full"  # both may lie at the same place
            axes.plot(x, y, "-o" if joined else "o", color=colour, label=row, markersize=5, fillstyle=fill, zorder=4)
            texts += [f"{row} {_format(value)} {_score(interval, c)}" for value, interval in scored]
        if joined or not numeric:
            _label_ticks(axes, values)
        elif min(map(float, values)) > 0 and max(map(float, values)) / min(map(float, values)) > 20:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.minorticks_off()
        axes.set_xlabel(setting)
        axes.set_ylabel(f"{metric_name(c.metric)} on select rows{', %' if u.factor == 100 else ''}")
        axes.legend(loc="best")
        hide_frame(axes)
        title = f"sweep-{name}-{setting}-{c.label_fraction:g}"
        return to_svg(fig, title, f"Scores on the select rows by {setting}: {'; '.join(texts[:60])}")


def _limits(c: Comparison) -> tuple[float, float]:
    """Where intervals are cut: a share cannot be below 0 or above 100 %."""
    return (0.0, 100.0) if unit(c.metric).factor == 100 else (-math.inf, math.inf)


def plot_heat(own: pd.DataFrame, across: str, down: str, name: str, c: Comparison) -> Markup:
    """Plot mean select scores by two settings, a cell for each pair of values, with half the width of its interval.

    Args:
        own: the draws of the method.
        across, down: the settings of columns and rows.
        name: the method.
        c: the comparison.
    """
    u = unit(c.metric)
    columns, rows = _ordered(own[across]), _ordered(own[down])
    scored = dict(score_settings(own, [down, across]))
    grid = np.full((len(rows), len(columns)), math.nan)
    for (r, q), interval in scored.items():
        grid[rows.index(r), columns.index(q)] = interval.mean * c.sign * u.factor
    with new_figure(max(WIDTH, 1.6 + 0.85 * len(columns)), 1.2 + 0.55 * len(rows)) as fig:
        axes = fig.add_subplot()
        image = axes.imshow(grid, cmap=HEAT if c.sign > 0 else HEAT.reversed(), aspect="auto")
        low, high = np.nanmin(grid), np.nanmax(grid)
        for (r, q), interval in scored.items():
            i, j = rows.index(r), columns.index(q)
            share = (grid[i, j] - low) / (high - low) if high > low else 0.0
            colour = text_on_heat(share if c.sign > 0 else 1 - share)
            half = half_width(interval)
            text = number(grid[i, j], f".{u.digits}f")
            if math.isfinite(half) and len(columns) <= MANY_CELLS:
                text += f"\n± {u.score(half)}"
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=8.5)
        axes.set_xticks(range(len(columns)), [_format(v) for v in columns])
        axes.set_yticks(range(len(rows)), [_format(v) for v in rows])
        axes.set_xlabel(across)
        axes.set_ylabel(down)
        hide_frame(axes, "")
        fig.colorbar(image, ax=axes, label=f"{metric_name(c.metric)}{', %' if u.factor == 100 else ''}", pad=0.02)
        texts = [f"{_format_point([down, across], key)}: {_score(interval, c)}" for key, interval in scored.items()]
        return to_svg(
            fig, f"sweep-{name}-{c.label_fraction:g}", f"Scores of {name} on the select rows: {'; '.join(texts)}"
        )


def _ordered(values: pd.Series) -> list[Any]:
    """The values of a setting: numbers in rising order, words in the order of the draws."""
    found = [v for v in dict.fromkeys(values) if v is not None]
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in found)
    return sorted(found) if numeric else found


def _label_ticks(axes: Axes, values: list[Any]) -> None:
    labels = [_format(value) for value in values]
    turned = sum(map(len, labels)) > 45
    axes.set_xticks(range(len(values)), labels, rotation=30 if turned else 0, ha="right" if turned else "center")


def _format(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _format_point(names: list[str], point: tuple[Any, ...]) -> str:
    return ", ".join(f"{name}={_format(value)}" for name, value in zip(names, point) if value is not None)


def _score(interval: Interval, c: Comparison) -> str:
    u, half = unit(c.metric), half_width(interval)
    return u.score(interval.mean * c.sign) + (f" ± {u.score(half)}" if math.isfinite(half) else "")


def _caption(sampler: str, left_out: bool) -> str:
    """What the figures show."""
    text = (
        "Mean scores on the select rows, which choose. Bars and ± are 95 % intervals over folds and seeds "
        "(Nadeau–Bengio) of the difference to the mean over all draws of the same fold and seed, so that hard folds do "
        "not widen them."
    )
    text += {
        "grid": " A panel of one setting averages over the others.",
        "one-at-a-time": " In each panel the other settings are those of the experiment.",
        "tpe": " TPE draws other settings in every fold, and more of them where scores are high: most points are "
        "single draws.",
    }.get(sampler, " Every point is one draw; the other settings differ from point to point.")
    return text + (f" Figures of the first {MOST_METHODS} methods." if left_out else "")
