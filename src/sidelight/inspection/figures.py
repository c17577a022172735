"""Figures of an inspection: what each part of the data holds, lengths, targets, strengths."""

from __future__ import annotations

import math

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.data.sources.table_modalities import sort_naturally
from sidelight.inspection.coverage import Coverage
from sidelight.inspection.inspection import Inspection
from sidelight.report.style import COLOUR, HEAT, WIDTH, hide_frame, new_figure, to_svg
from sidelight.results.units import metric_name

MANY_PARTS, MANY_COLUMNS, MANY_CLASSES, MANY_TARGETS = 60, 12, 30, 6
"""Groups, columns with numbers in them, classes and targets that are drawn."""
PARTS = {"train": "student", "select": "method", "test": "teacher"}
"""Part of the official split -> its colour in the palette."""
DARK = 0.45
"""Cells of the heat map from this share on have light text."""


def plot_parts(found: Inspection) -> tuple[Markup, str]:
    """Plot the share of rows with each modality, and the share of each class, of all rows, splits and groups.

    Without a gap the classes alone are drawn.

    Returns:
        The figure, empty where there is nothing to see, and what it leaves out.
    """
    names, coverage, classes, shown, left_out = _collect_parts(found)
    panels = []
    if not is_whole(found.coverage["all"]):
        # The other way round, so that gaps are dark.
        panels.append(("rows with it, %", list(found.coverage["all"].present), coverage, HEAT.reversed()))
    if classes is not None and classes.shape[1] <= MANY_CLASSES:
        panels.append((f"labelled {_unit_of(found)}, %", list(found.classes), classes, HEAT))
    if not panels:
        return Markup(), ""
    widths = [max(values.shape[1], 3) for _, _, values, _ in panels]
    longest = max(len(label) for _, labels, _, _ in panels for label in labels)
    width = min(max(1.6 + 0.62 * sum(widths), WIDTH), 10.5)
    with new_figure(width, 1.0 + 0.06 * min(longest, 16) + 0.215 * len(names)) as fig:
        axes = fig.subplots(1, len(panels), sharey=True, width_ratios=widths, squeeze=False)[0]
        for a, panel in zip(axes, panels):
            _draw_shares(a, *panel)
        axes[0].set_yticks(range(len(names)), names)
        for tick, rows in zip(axes[0].get_yticklabels(), shown):
            tick.set_color(COLOUR["muted"] if rows else COLOUR["ink"])
        words = [
            f"{name}: " + ", ".join(f"{label} {v:.0%}" for label, v in zip(panels[0][1], row) if np.isfinite(v))
            for name, row in zip(names[:MANY_COLUMNS], panels[0][2])
        ]
        return to_svg(fig, "parts", f"{panels[0][0]}, by part of the data. {'; '.join(words)}"), left_out


def _unit_of(found: Inspection) -> str:
    return "pixels" if found.task == "segmentation" else "rows"


def _collect_parts(found: Inspection) -> tuple[list[str], NDArray, NDArray | None, list[bool], str]:
    """Names of the parts, (P, M) and (P, C) shares, whether each is a group, and what was left out."""
    names, groups, coverage, counts = [], [], [], []
    left_out = ""
    for of, c in found.coverage.items():
        order = list(range(len(c.parts)))
        if of == "group":
            least = np.argsort(c.shares.min(1), kind="stable")[:MANY_PARTS]
            order = list(map(c.parts.index, sort_naturally(c.parts[i] for i in least)))
        if len(order) < len(c.parts):
            left_out = f"Of {len(c.parts)} groups the {MANY_PARTS} with the least coverage are drawn."
        for i in order:
            names.append(f"{c.parts[i]} ({c.rows[i]})")
            groups.append(of == "group")
            coverage.append(c.shares[i])
            if found.classes:
                whole = tuple(found.classes.values())
                counts.append(whole if of == "all" else found.balance[of][c.parts[i]])
    if not found.classes:
        return names, np.array(coverage), None, groups, left_out
    known = np.array(counts, float)
    total = known.sum(1, keepdims=True)
    shares = np.divide(known, total, out=np.full_like(known, np.nan), where=total > 0)
    return names, np.array(coverage), shares, groups, left_out


def _draw_shares(axes: Axes, title: str, labels: list[str], values: NDArray, colours: Colormap) -> None:
    """A heat map of shares, with the percentages in its cells where these are few."""
    axes.imshow(values, cmap=colours, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    if len(labels) <= MANY_COLUMNS:
        for i, j in np.ndindex(*values.shape):
            dark = (values[i, j] > DARK) if colours is HEAT else (values[i, j] < 1 - DARK)
            colour = "#ffffff" if dark else "#1c2431"  # cells have the same colours in light and dark
            text = f"{100 * values[i, j]:.0f}" if np.isfinite(values[i, j]) else "·"
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=7.5)
    turned = max(map(len, labels)) > 7
    axes.set_xticks(
        range(len(labels)),
        [label if len(label) <= 18 else f"{label[:17]}…" for label in labels],
        rotation=35 if turned else 0,
        ha="right" if turned else "center",
    )
    axes.set_title(title, fontsize=8.5)
    hide_frame(axes, "")


def plot_lengths(dataset: Dataset, found: Inspection) -> list[tuple[str, Markup]]:
    """A histogram of the lengths of each modality whose rows differ in length, with a caption."""
    figures = []
    for m in found.modalities:
        if not m.lengths or m.lengths[0] == m.lengths[2]:
            continue
        per, what = (m.rate, "s") if m.rate else (1.0, "time steps")
        known = dataset.lengths[m.name][dataset.present[m.name]] / per
        shortest, median, longest = (n / per for n in m.lengths)
        with new_figure(WIDTH, 2.1) as fig:
            axes = fig.add_subplot()
            axes.hist(known, bins=min(40, len(np.unique(known)) + 1), color=COLOUR["method"])
            axes.axvline(median, color=COLOUR["ink"], linewidth=1)
            for length in (m.odd_rows or {}).values():
                axes.plot([length / per], [0], "v", color=COLOUR["bad"], markersize=6, clip_on=False, zorder=5)
            axes.set_title(m.name)
            axes.set_xlabel(what)
            axes.set_ylabel("rows")
            hide_frame(axes)
            text = f"{m.name}: {shortest:.4g} to {longest:.4g} {what}, median {median:.4g}"
            odd = f"; unusually long or short: {m.odd_lengths}" if m.odd_lengths else ""
            figures.append((text + odd, to_svg(fig, f"lengths-{m.name}", f"Lengths of {text}{odd}")))
    return figures


def plot_target(dataset: Dataset, found: Inspection) -> Markup:
    """Bars of the classes, by part of the official split; or histograms of the values of a regression."""
    return _plot_classes(found) if found.classes else _plot_values(dataset)


def _plot_classes(found: Inspection) -> Markup:
    names = sorted(found.classes, key=lambda c: -found.classes[c])[:MANY_CLASSES]
    at = [list(found.classes).index(name) for name in names]
    total = max(sum(found.classes.values()), 1)
    splits = found.balance.get("split", {})
    parts = {part: np.array(counts)[at] for part, counts in splits.items()}
    parts = parts or {"": np.array([found.classes[name] for name in names])}
    with new_figure(WIDTH * 1.25, 0.7 + 0.28 * len(names) + 0.3 * bool(splits)) as fig:
        axes = fig.add_subplot()
        left = np.zeros(len(names))
        for part, counts in parts.items():
            colour = COLOUR[PARTS.get(part, "method")]
            axes.barh(range(len(names)), counts, left=left, height=0.68, color=colour, label=part, zorder=3)
            left = left + counts
        for i, name in enumerate(names):
            share = f"{found.classes[name]:,} ({found.classes[name] / total:.1%})"
            axes.text(left[i] + 0.012 * left.max(), i, share, va="center", fontsize=8, color=COLOUR["muted"])
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, float(left.max()) * 1.32 or 1)
        axes.set_xlabel(_unit_of(found))
        axes.locator_params(axis="x", nbins=5)
        if splits:
            fig.legend(loc="outside upper right", ncols=3)
        hide_frame(axes, "x")
        text = ", ".join(f"{name} {found.classes[name]:,}" for name in names)
        return to_svg(fig, "classes", f"{_unit_of(found)} of each class: {text}")


def _plot_values(dataset: Dataset) -> Markup:
    names = dataset.class_names[:MANY_TARGETS]
    with new_figure(WIDTH * 1.25, 0.5 + 1.6 * len(names)) as fig:
        for axes, name, values in zip(fig.subplots(len(names), 1, squeeze=False)[:, 0], names, dataset.target.T):
            known = values[np.isfinite(values)]
            if len(known):
                axes.hist(known, bins=min(40, len(np.unique(known)) + 1), color=COLOUR["method"], zorder=3)
                axes.axvline(known.mean(), color=COLOUR["ink"], linewidth=1, zorder=4)
            axes.set_title(name)
            axes.set_ylabel("rows")
            hide_frame(axes)
        return to_svg(fig, "targets", f"Histograms of the target values: {', '.join(names)}")


def plot_strengths(found: Inspection) -> Markup:
    """Plot the mean score of each modality and of all, with the standard deviation over folds, and chance."""
    names = ["all" if len(s.modalities) > 1 else s.modalities[0] for s in found.strengths]
    with new_figure(WIDTH * 1.25, 0.8 + 0.3 * len(names)) as fig:
        axes = fig.add_subplot()
        axes.axvline(found.chance, color=COLOUR["muted"], linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        for y, s in enumerate(found.strengths):
            colour = COLOUR["teacher" if len(s.modalities) > 1 else "student"]
            axes.plot([s.mean - s.std, s.mean + s.std], [y, y], color=colour, linewidth=2, zorder=3)
            axes.plot([s.mean], [y], "D", color=colour, markersize=5.5, zorder=4)
            if s.with_all < s.rows and math.isfinite(s.there):
                axes.plot([s.there], [y], "D", color=colour, markersize=5.5, fillstyle="none", zorder=4)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel(f"{metric_name(found.metric)} (dashed: chance, {found.chance:.3f})")
        axes.locator_params(axis="x", nbins=6)
        hide_frame(axes, "x")
        text = ", ".join(f"{name} {s.mean:.3f}" for name, s in zip(names, found.strengths))
        return to_svg(fig, "strengths", f"{metric_name(found.metric)} of a linear model: {text}")


def is_whole(coverage: Coverage) -> bool:
    """Whether every row has every modality."""
    return bool((coverage.shares == 1).all())
