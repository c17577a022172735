"""The first screen: the answer in a sentence without terms of the trade, and every row's score on one axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup
from matplotlib.axes import Axes

from sidelight.report.style import COLOUR, WIDTH, hide_frame, new_figure, role_colour, to_svg
from sidelight.report.words import COUNTS, describe_row, row_label
from sidelight.results import Comparison, headline
from sidelight.results.budget import ALL_LABELS, BASELINE, LINEAR, TEACHER, WARM_START
from sidelight.results.remarks import brief_remarks
from sidelight.results.statistics import Interval
from sidelight.results.units import labels_phrase, metric_name, percent, unit
from sidelight.results.verdict import span

ANSWERS = {"better": "yes", "equal": "no difference", "worse": "no", "unclear": "not shown", "unknown": "not known yet"}
MOST = 9
"""The most methods in the figure; the table has all."""
LITTLE = 0.1
"""The share of a gain below which "almost nothing" of it is left."""


class Headline(NamedTuple):
    """The answer over all label fractions.

    Args:
        kind: the verdict at the smallest label fraction, as `sidelight.results.headline` names it.
        answer: "Yes: …"; with several label fractions "With … yes, with … not shown."
        findings: with several label fractions, a sentence for each.
    """

    kind: str
    answer: str
    findings: list[str]


def build_headline(found: Sequence[Comparison], unfinished: bool = False) -> Headline:
    """Answer whether distillation helps, in a sentence for readers who know none of the words.

    Args:
        found: a comparison for each label fraction.
        unfinished: whether jobs are still missing.
    """
    if not found:
        return Headline("unknown", "No job has finished yet, so nothing can be compared.", [])
    kinds = [headline(c) for c in found]
    so_far = "So far: " if unfinished else ""
    if len(found) == 1:
        c, answer = found[0], ANSWERS[kinds[0]]
        where = "" if c.label_fraction >= 1 else f", with {labels_phrase(c.label_fraction)}"
        return Headline(kinds[0], f"{so_far}{_capital(answer, not so_far)}{where}: {describe_finding(c)}", [])
    parts: list[str] = []
    for kind in dict.fromkeys(kinds):
        shares = [labels_phrase(c.label_fraction) for c, k in zip(found, kinds) if k == kind]
        parts.append(f"with {' and '.join(shares)} {ANSWERS[kind]}")
    findings = [f"{_capital(labels_phrase(c.label_fraction))}: {describe_finding(c)}" for c in found]
    return Headline(kinds[0], f"{so_far}{_capital(', '.join(parts), not so_far)}.", findings)


def _capital(text: str, do: bool = True) -> str:
    return text[0].upper() + text[1:] if do else text


def describe_finding(c: Comparison) -> str:
    """What was found at one label fraction: "kl lifts accuracy by 12.1 points, from the baseline's 66.8 %; …"."""
    if c.best is None or BASELINE not in c.rows:
        return f"no {'baseline' if c.best is not None else 'distillation method'} has finished yet."
    u, name, kind = unit(c.metric), metric_name(c.metric), headline(c)
    d = c.rows[c.best].difference if c.winner is None else c.winner.difference
    methods = sum(row.role == "method" for row in c.rows.values())
    who = c.best if c.winner is None or c.winner.unanimous else f"the method chosen among {methods}"
    base = f"{u.score(c.rows[BASELINE].mean)}{' %' if u.factor == 100 else ''}"
    size = u.amount(abs(d.mean))
    if kind == "unknown":
        return f"{who} has been compared {['not at all', 'only once'][min(d.n, 1)]}, which may be chance."
    if kind == "better":
        verb = "lifts" if c.sign > 0 else "lowers"
        text = f"{who} {verb} {name} by {size}, from the baseline’s {base}{_say_left(c, d.mean)}"
    elif kind == "worse":
        text = f"{who} is {size} worse in {name} than the baseline ({base})"
    elif kind == "equal":
        p = c.rows[c.best].p if c.winner is None else c.winner.p
        text = f"{who} and the baseline ({name} {base}) are within {u.threshold(c.rope)} of each other"
        text += f" with a probability of {percent(p.equal)}"
    else:
        way = "better" if d.mean >= 0 else "worse"
        even = u.score(abs(d.mean)) == u.score(0.0)
        text = f"{who} is {size} {way} in {name} than the baseline ({base}), but "
        text = f"{who} is level with the baseline in {name} ({base}), but " if even else text
        text += _say_why_unclear(c, d)
    doubts = brief_remarks(c.remarks)
    return f"{text}. But {doubts}." if doubts else f"{text}."


def _say_left(c: Comparison, gained: float) -> str:
    """How much of a gain is left where privileged rows are shuffled."""
    placebo, effect = c.rows.get(f"{c.best}~placebo"), c.rows[str(c.best)].effect
    if placebo is None or placebo.difference.n == 0 or effect.n == 0:
        return "; no placebo was run, so the reason may be distillation itself and not the privileged modalities"
    u, gain = unit(c.metric), placebo.difference.mean
    share = gain / gained
    left = "nothing" if share < 0.005 else "almost nothing" if share < LITTLE else f"{percent(min(share, 1))} of that"
    name = "the placebo" if c.winner is None or c.winner.unanimous else f"placebo of {c.best}"
    text = f"; with the privileged rows shuffled ({name}), {left} is left ({u.difference(gain)})"
    if effect.low > 0:
        return text
    sure = (
        "although the placebo may have been unlucky"
        if share < 0.5
        else "so privileged modalities may not be the reason"
    )
    return f"{text}, {sure}: {c.best} minus its placebo is {u.difference(effect.mean)}{_ends(c, effect)}"


def _ends(c: Comparison, interval: Interval) -> str:
    return f" ({span(unit(c.metric), interval)})" if math.isfinite(interval.half) else f" ({interval.note})"


def _say_why_unclear(c: Comparison, d: Interval) -> str:
    if not math.isfinite(d.half):
        return f"there is no interval to judge by ({d.note})"
    n = f"{d.n} {'comparisons (folds × seeds)' if c.counted == 'pairs' else COUNTS[c.counted]}"
    if d.low <= 0 <= d.high:
        return f"{n} scatter so much that the true difference may be anything from {span(unit(c.metric), d)}"
    return f"among {sum(row.role == 'method' for row in c.rows.values())} methods one may look so good by luck"


def choose_rows(c: Comparison) -> list[str]:
    """The rows of the figure: references below, the chosen method first, and at most `MOST` methods."""
    methods = [name for name, row in c.rows.items() if row.role == "method"]
    if len(methods) > MOST:
        methods = sorted(methods, key=lambda name: (name != c.best, -c.rows[name].select))[:MOST]
    names = [BASELINE, LINEAR, WARM_START]
    for name in methods:
        controls = [f"{name}~{control}" for control in ("placebo", "self")]
        names += [name, *(controls if len(methods) <= 3 or name == c.best else [])]
    return [name for name in [*names, ALL_LABELS, TEACHER] if name in c.rows]


def plot_ladder(c: Comparison, narrow: bool) -> Markup:
    """Plot chance, baseline, methods with their placebos, and teacher on the axis of the metric.

    A bar is the interval of the difference to the baseline, so that a row whose bar leaves the baseline's line out
    differs from it.

    Args:
        c: the comparison.
        narrow: for phones: names above their rows instead of to the left of them.
    """
    names = choose_rows(c)
    if BASELINE not in names or len(names) < 2:
        return Markup()
    u = unit(c.metric)
    base, step = c.rows[BASELINE].mean * u.factor, 0.56 if narrow else 0.38
    with new_figure(WIDTH if narrow else 8.6, 0.85 + step * len(names)) as fig:
        axes = fig.add_subplot()
        axes.axvline(base, color=COLOUR["baseline"], linewidth=1, zorder=1)
        drawn = [_draw_row(axes, c, name, y, narrow) for y, name in enumerate(names)]
        texts, ends = [text for text, _ in drawn], [end for _, end in drawn]
        if math.isfinite(c.chance):
            at = c.chance * u.factor
            axes.axvline(at, color=COLOUR["muted"], linewidth=1, linestyle=(0, (2, 3)), zorder=1)
            axes.text(at, -0.62, f" chance {u.score(c.chance)}", fontsize=8.5, color=COLOUR["muted"], va="bottom")
            texts.insert(0, f"chance {u.score(c.chance)}")
        axes.set_ylim(len(names) - 0.4, -0.65)
        axes.set_yticks([])
        axes.margins(x=0.03)
        if u.factor == 100 and max(ends) > 100:
            axes.set_xlim(right=100.6)  # an interval may reach beyond what a share can be
        axes.set_xlabel(f"{metric_name(c.metric)} on test rows{', %' if u.factor == 100 else ''}")
        hide_frame(axes, "x")
        description = f"{_capital(metric_name(c.metric))} on test rows, on one axis: {'; '.join(texts)}"
        return to_svg(fig, f"ladder-{c.label_fraction:g}-{'narrow' if narrow else 'wide'}", description)


def _draw_row(axes: Axes, c: Comparison, name: str, y: float, narrow: bool) -> tuple[str, float]:
    """Draw a row at the baseline's mean plus its difference; returns it in words, and the right end of its bar."""
    u, row, colour = unit(c.metric), c.rows[name], role_colour(name, c.best)
    base, d = c.rows[BASELINE].mean, row.difference
    compared = name != BASELINE and d.n > 0
    x = (base + c.sign * d.mean if compared else row.mean) * u.factor
    text, ends = u.score(row.mean), [x]
    if compared:
        text += f" ({u.difference(d.mean)})"
        if math.isfinite(d.half):
            ends = [(base + c.sign * end) * u.factor for end in (d.low, d.high)]
            axes.plot(ends, [y, y], color=colour, linewidth=3, zorder=3)
    hollow = "none" if "~" in name else colour
    axes.plot([x], [y], "o", color=colour, markersize=8, markerfacecolor=COLOUR["panel"] if "~" in name else hollow,
              markeredgewidth=1.6, zorder=4)  # fmt: skip
    where, weight = axes.get_yaxis_transform(), "bold" if row.bold else "normal"
    label, meaning = row_label(name), describe_row(name, row)
    if narrow:
        axes.text(0, y - 0.28, label, transform=where, va="center", fontsize=9, weight=weight)
        axes.text(1, y - 0.28, text, transform=where, va="center", ha="right", fontsize=9, weight=weight)
    else:
        axes.text(-0.02, y - 0.18, label, transform=where, va="center", ha="right", fontsize=9.5, weight=weight)
        axes.text(-0.02, y + 0.22, meaning, transform=where, va="center", ha="right", fontsize=8, color=COLOUR["muted"])
        axes.text(1.02, y, text, transform=where, va="center", fontsize=9.5, weight=weight)
    said = f"{label}, {meaning}, {u.score(row.mean)}"
    if compared:
        said += f", {u.difference(d.mean)} to the baseline"
        said += _ends(c, d)
    return said, max(ends)
