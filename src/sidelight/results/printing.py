"""Print the comparison as a table of at most 100 characters a line; a narrower terminal gets fewer columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sidelight.results.budget import BASELINE, LEVEL, OFFICIAL, REFERENCES
from sidelight.results.chance import DESCRIBED
from sidelight.results.comparison import ROPE, Comparison, Row, compare
from sidelight.results.selection import budgets
from sidelight.results.statistics import SAME, Interval
from sidelight.results.units import Unit, labels_phrase, metric_name, percent, unit
from sidelight.results.verdict import list_terms, sentence, write_sentence
from sidelight.utils.keywords import renamed_keywords

SD, ODDS, GAP, EFFECT, SECONDS = "sd", "better/\nequal/worse", "of the\nlead", "more than\nits placebo", "s"
COLUMNS = ["mean", SD, "vs baseline\n", ODDS, GAP, EFFECT, SECONDS, "n"]
DROPPED = [SD, SECONDS, GAP, ODDS, EFFECT]
"""Columns to leave out, in this order, until the others fit the terminal."""
WIDTH = 100
OVER = {
    "pairs": "fold × seed (n pairs)",
    "folds": "folds (n), seeds averaged",
    "groups": "test groups (n) × seeds",
    "blocks": "blocks of test rows (n) × seeds",
    "seeds": "seeds (n)",
}


@renamed_keywords(labels="label_fraction")
def print_table(
    results: pd.DataFrame,
    label_fraction: float | None = None,
    console: Console | None = None,
    rope: float = ROPE,
    level: float = LEVEL,
    metric: str | None = None,
) -> None:
    """Print the table at one label fraction, its legend, the sentence and the remarks.

    The table writes intervals as ± and marks the method that is chosen (the best mean `select` score) with ●. If no
    job has finished, only the sentence is printed.

    Args:
        results: one row per job, as `load_results` returns them.
        label_fraction: share of the training groups that keep their labels; None: the smallest that was compared.
        console: where to print; None: the standard output.
        rope: differences up to this size count as equal, in units of the metric.
        level: confidence level of the intervals, in (0, 1).
        metric: the metric to compare; None: the task's first one.
    """
    console = console or _console()
    if not len(results):
        console.print(Text(sentence(results)))
        return
    c = compare(results, label_fraction, metric, rope, level)
    u = unit(c.metric)
    kept = list(COLUMNS)
    out = _build_table(c, u, kept)
    for column in DROPPED:
        if console.measure(out, options=console.options.update(max_width=1000)).maximum <= console.width:
            break
        kept.remove(column)
        out = _build_table(c, u, kept)
    heading = f"{metric_name(c.metric)}{' in %' if u.factor == 100 else ''}, {labels_phrase(c.label_fraction)}"
    heading = heading if heading[1:2].isupper() else heading[0].upper() + heading[1:]  # mIoU stays mIoU
    console.print(Text(heading, style="bold"))
    console.print(out)
    console.print(Text(legend(c, kept), style="dim"))
    console.print(Text(write_sentence(c, alone=len(budgets(results)) == 1)))
    for text in list_terms(c):
        console.print(Text(f"+ {text}"))
    for remark in c.remarks:
        console.print(Text(f"! {remark.text}"))


def _build_table(c: Comparison, u: Unit, kept: list[str]) -> Table:
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    out.add_column("", overflow="fold")
    for column in kept:
        out.add_column(Text(column.strip()), justify="right", no_wrap=True, vertical="bottom")
    for name, row in c.rows.items():
        style = "bold" if row.bold else "dim" if row.role in ("control", "reference") else ""
        label, *cells = _cells(name, row, u)
        shown = [cell for cell, column in zip(cells, COLUMNS) if column in kept]
        out.add_row(*(Text(cell, style=style) for cell in (label, *shown)))
    return out


def _console() -> Console:
    """A console of at most 100 columns; exactly 100 if the output is not a terminal."""
    console = Console()
    return Console(width=min(console.width, WIDTH) if console.is_terminal else WIDTH)


def _cells(name: str, row: Row, u: Unit) -> list[str]:
    label = f"  {row.control}" if row.role == "control" else name
    return [
        f"{label} ●" if row.best else label,
        u.score(row.mean),
        u.score(row.sd) if math.isfinite(row.sd) else "",
        "" if name == BASELINE else plus_minus(u, row.difference),
        format_odds(row),
        percent(row.gap.mean) if row.gap.n else "",
        plus_minus(u, row.effect),
        f"{row.seconds:.1f}" if row.seconds < 100 else f"{row.seconds:.0f}",
        f"{row.n}" + (f" (−{row.missing})" if row.missing else ""),
    ]


def format_odds(row: Row) -> str:
    """`87/11/2`: probabilities of better, practically equal and worse, in percent; empty if undefined."""
    values = (row.p.better, row.p.equal, row.p.worse)
    return "/".join(f"{100 * v:.0f}" for v in values) if math.isfinite(row.p.equal) else ""


def plus_minus(u: Unit, interval: Interval) -> str:
    """`+12.6 ± 4.6`; `+12.6 ± ∞` for one pair or equal differences; `+0.0 (same)` for equal scores; "" if undefined."""
    if interval.mean == 0 and math.isinf(interval.half) and (interval.n == 1 or interval.note == SAME):
        return f"{u.difference(0)} (same)"
    return f"{u.difference(interval.mean)} ± {u.score(interval.half)}" if math.isfinite(interval.mean) else ""


def legend(c: Comparison, kept: Sequence[str] = COLUMNS) -> str:
    """Explain the columns that are shown and have values.

    Args:
        c: the comparison.
        kept: the columns that are shown.
    """
    rows, u = list(c.rows.values()), unit(c.metric)
    over = OVER[c.counted]
    by = "crossed random effects" if c.protocol == OFFICIAL else "Nadeau–Bengio"
    text = f"vs baseline: paired over {over}, ± {100 * c.level:g} % interval ({by})."
    text += "" if c.sign > 0 else f" Lower is better; differences are positive where {metric_name(c.metric)} falls."
    if ODDS in kept:
        text += f" better/equal/worse: probability in %, equal means within {u.threshold(c.rope)}."
    if GAP in kept and any(r.gap.n for r in rows):
        text += " of the lead: the share of the teacher's lead over the baseline that is reached" + (
            "."
            if any(math.isfinite(r.gap.mean) for r in rows)
            else "; – where that lead is not larger than its interval."
        )
    if EFFECT in kept and any(math.isfinite(r.effect.mean) for r in rows):
        text += " more than its placebo: method − its placebo."
    if SECONDS in kept:
        text += " s: seconds of the network's own training; teachers and T-Nets are shared and not counted."
    if c.best is not None:
        text += " ●: chosen, without test rows."
    methods = sum(r.role == "method" for r in rows)
    if any(r.bold for r in rows):
        text += f" Bold: above the baseline{f' after Holm over {methods} methods' if methods > 1 else ''}."
    if shown := [name for name in REFERENCES if name in c.rows]:
        text += f" {', '.join(shown)}: for reference, neither chosen nor counted by Holm."
    if math.isfinite(c.chance):
        text += f" Chance: {u.score(c.chance)}, {DESCRIBED.get(c.task, 'an answer that reads no input')}."
    return text + (f" {c.note[0].upper()}{c.note[1:]}." if c.note else "")
