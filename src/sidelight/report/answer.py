"""The answer of the report: verdict, sentence and table at one label fraction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from sidelight.report import comparisons
from sidelight.report.headline import choose_rows, plot_ladder
from sidelight.report.style import PALETTE, role_colour
from sidelight.report.terms import plot_terms
from sidelight.report.words import COUNTS, STANDINGS, VERDICTS, describe_row, row_label
from sidelight.results import Comparison, Interval, Row, headline, metric_columns
from sidelight.results.between import MANY, list_differences
from sidelight.results.budget import BASELINE
from sidelight.results.chance import DESCRIBED
from sidelight.results.other_metrics import compare_metrics
from sidelight.results.units import Unit, labels_phrase, metric_name, number, percent, sign, unit
from sidelight.results.verdict import list_sentences, list_terms, span, verdict, write_sentence


@dataclass
class Line:
    """One line of the table as text."""

    name: str
    row: Row
    swatch: str
    mean: str
    sd: str
    difference: str
    interval: str
    odds: list[tuple[str, str, float]]
    gap: str
    gap_range: str
    effect: str
    effect_interval: str
    seconds: str
    pairs: str
    meaning: str
    verdict: str
    sort: dict[str, float]


@dataclass
class Section:
    """The answer at one label fraction."""

    heading: str
    sentence: str
    kind: str
    metric: str
    lines: list[Line]
    has_gap: bool
    has_effect: bool
    notes: list[str]
    remarks: list[str]
    counted: str
    ladder: Markup
    ladder_narrow: Markup
    left_out: int
    level: str
    threshold: str
    undecided: str
    term_figure: Markup | None
    dots: str
    wide: Markup
    narrow: Markup
    others: list[str]
    scores: list[tuple[str, list[tuple[str, str, str]]]]
    sentences: list[str]
    terms: list[str]
    differences: list[str]
    many: bool


def build_section(results: pd.DataFrame, c: Comparison, alone: bool) -> Section:
    """Build the answer at one label fraction.

    Args:
        results: one row per job, as `load_results` returns them.
        c: the comparison at this label fraction.
        alone: whether the run has no other label fraction.
    """
    u = unit(c.metric)
    others = [m for m in metric_columns(results) if m != c.metric]
    return Section(
        heading=labels_phrase(c.label_fraction),
        sentence=write_sentence(c, alone),
        kind=headline(c),
        metric=f"{metric_name(c.metric)}{', %' if u.factor == 100 else ''}",
        lines=[build_line(name, row, c, u) for name, row in c.rows.items()],
        has_gap=any(r.gap.n for r in c.rows.values()),
        has_effect=any(math.isfinite(r.effect.mean) for r in c.rows.values()),
        notes=_notes(c),
        remarks=[remark.text for remark in c.remarks],
        counted=COUNTS[c.counted],
        ladder=plot_ladder(c, narrow=False),
        ladder_narrow=plot_ladder(c, narrow=True),
        left_out=sum(r.role == "method" for r in c.rows.values())
        - sum(c.rows[name].role == "method" for name in choose_rows(c)),
        level=f"{100 * c.level:g}",
        threshold=u.threshold(c.rope),
        term_figure=plot_terms(c) if c.terms else None,
        undecided=_explain_undecided(c, u),
        dots={"pairs": "fold and seed", "folds": "fold, averaged over seeds"}.get(c.counted, "seed"),
        wide=comparisons.plot_forest(c, narrow=False),
        narrow=comparisons.plot_forest(c, narrow=True),
        others=[_name_metric(m, results) for m in others],
        scores=_write_scores(results, c, others),
        sentences=list_sentences(c),
        terms=list_terms(c),
        differences=[f"{d.describe(u)}." for d in list_differences(c.budget, c.rope, c.level)],
        many=len(c.budget.methods) > MANY,
    )


def _explain_undecided(c: Comparison, u: Unit) -> str:
    """Why a row with a large difference may still be "not shown": the first such row as an example; "" without one."""
    for name, row in c.rows.items():
        d = row.difference
        if row.role == "method" and verdict(row) == "unclear" and d.mean > c.rope and math.isfinite(d.half):
            why = f"zero lies inside its interval, {span(u, d)}"
            why = (
                why if d.low <= 0 else f"of {sum(r.role == 'method' for r in c.rows.values())} methods one may be lucky"
            )
            return f"{name} is {u.amount(d.mean, signed=True)} and still “not shown”: {why}."
    return ""


def _name_metric(metric: str, results: pd.DataFrame) -> str:
    """The metric's name, and whether lower is better."""
    lower = sign(metric, results.attrs.get("higher_is_better", {})) < 0
    return f"{metric_name(metric)}{' (positive: lower)' if lower else ''}"


def _write_scores(
    results: pd.DataFrame, c: Comparison, metrics: Sequence[str]
) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """For each row its mean of every metric, the difference to the baseline, and its interval, as text."""
    found = compare_metrics(results, c.budget, metrics, c.level)

    def write(metric: str, name: str) -> tuple[str, str, str]:
        u, (mean, d) = unit(metric), found[metric][name]
        return u.score(mean), u.difference(d.mean) if math.isfinite(d.mean) else "", _bounds(d, u)

    return [(name, [write(metric, name) for metric in metrics]) for name in c.rows]


def _notes(c: Comparison) -> list[str]:
    """What the protocol limits, the chance level, and what limits single rows, each note once."""
    notes = [f"{c.note[:1].upper()}{c.note[1:]}."] if c.note else []
    if math.isfinite(c.chance):
        answer = DESCRIBED.get(c.task, "no input is read")
        notes.append(f"Chance on the same test rows is {unit(c.metric).score(c.chance)}: {answer}.")
    of_rows: dict[str, list[str]] = {}
    for name, row in c.rows.items():
        if row.note:
            of_rows.setdefault(row.note, []).append(row_label(name))
    return notes + [f"{', '.join(names)}: {note}." for note, names in of_rows.items()]


def build_line(name: str, row: Row, c: Comparison, u: Unit) -> Line:
    """Write a row of the table as text.

    Args:
        name: the row's name.
        row: its numbers.
        c: the comparison.
        u: the unit of the metric.
    """
    compared = name != BASELINE and row.difference.n > 0
    p = {"better": row.p.better, "equal": row.p.equal, "worse": row.p.worse}
    odds = [(key, number(100 * value, ".0f"), value) for key, value in p.items()]
    gap = row.gap
    return Line(
        name=row.control if row.role == "control" else name,
        row=row,
        swatch=next(key for key, (light, _) in PALETTE.items() if light == role_colour(name, c.best)),
        mean=u.score(row.mean),
        sd=u.score(row.sd),
        difference=u.difference(row.difference.mean) if compared else "",
        interval=_bounds(row.difference, u) if compared else "",
        odds=odds if compared and math.isfinite(row.p.equal) else [],
        gap=percent(gap.mean) if gap.n else "",
        gap_range=_say_range(gap) if math.isfinite(gap.low + gap.high) else "",
        effect=u.difference(row.effect.mean) if math.isfinite(row.effect.mean) else "",
        effect_interval=_bounds(row.effect, u),
        seconds=number(row.seconds, ".1f" if row.seconds < 100 else ".0f"),
        pairs=f"{row.n}",
        meaning=describe_row(name, row),
        verdict=_say_verdict(row) if compared else "",
        sort={
            "mean": row.mean,
            "difference": row.difference.mean if compared else math.nan,
            "odds": row.p.better if compared else math.nan,
            "gap": gap.mean,
            "effect": row.effect.mean,
            "seconds": row.seconds,
            "pairs": row.n,
        },
    )


def _say_verdict(row: Row) -> str:
    """The verdict on a row in a word; of rows that are no remedies, only where they stand."""
    return (VERDICTS if row.role in ("method", "control") else STANDINGS)[verdict(row)]


def _say_range(gap: Interval) -> str:
    """A share of the teacher's lead with its interval, which may reach beyond none or all of it."""
    low = "none" if gap.low <= 0 else percent(gap.low)
    high = "all" if gap.high >= 1 else percent(gap.high)
    return "none to all: unknown" if (low, high) == ("none", "all") else f"{low} to {high}"


def _bounds(interval: Interval, u: Unit) -> str:
    """The ends of an interval; "" if it is infinite or undefined."""
    return span(u, interval) if math.isfinite(interval.low) and math.isfinite(interval.high) else ""
