"""Figure of an ablation: what each term of a sum adds, in the method and in its placebo."""

from __future__ import annotations

import math

from markupsafe import Markup

from sidelight.report.style import COLOUR, hide_frame, new_figure, to_svg
from sidelight.results import Comparison, Interval
from sidelight.results.units import metric_name, unit
from sidelight.results.verdict import span


def plot_terms(c: Comparison) -> Markup:
    """Plot what each term adds, with its interval; below it what the term adds to the placebo, where that was run.

    Args:
        c: the comparison; it has terms.
    """
    u = unit(c.metric)
    bars: list[tuple[str, Interval, str]] = []
    for d in c.terms:
        bars.append((f"{d.term} in {d.first}", d.interval, "student"))
        if d.placebo is not None and math.isfinite(d.placebo.mean):
            bars.append(("in their placebos", d.placebo, "placebo"))
    with new_figure(6.6, 0.75 + 0.32 * len(bars)) as fig:
        axes = fig.add_subplot()
        axes.axvspan(-c.rope * u.factor, c.rope * u.factor, color=COLOUR["wash"], zorder=0, linewidth=0)
        axes.axvline(0, color=COLOUR["baseline"], linewidth=1, zorder=1)
        for y, (_, interval, name) in enumerate(bars):
            if math.isfinite(interval.half):
                ends = [interval.low * u.factor, interval.high * u.factor]
                axes.plot(ends, [y, y], color=COLOUR[name], linewidth=2.6, zorder=3)
            axes.plot([interval.mean * u.factor], [y], "D", color=COLOUR[name], markersize=6, zorder=4)
        axes.set_yticks(range(len(bars)), [label for label, _, _ in bars])
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.set_xlabel(f"added by the term{', ' + u.noun if u.noun else ' to ' + metric_name(c.metric)}")
        hide_frame(axes, "x")
        texts = [f"{label} {u.difference(i.mean)}{f' ({span(u, i)})' * math.isfinite(i.half)}" for label, i, _ in bars]
        return to_svg(fig, f"terms-{c.label_fraction:g}", f"What each term adds: {'; '.join(texts)}")
