"""Every method against the baseline, with its controls beneath it, paired over fold and seed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pandas as pd

from sidelight.results.between import ROPE as ROPE
from sidelight.results.between import Difference, ablate
from sidelight.results.budget import (
    ALL_LABELS,
    BASELINE,
    BLOCKS,
    FORWARD,
    LEAVE_ONE_OUT,
    LEVEL,
    NO_PROBABILITIES,
    OFFICIAL,
    REFERENCES,
    TEACHER,
    WARM_START,
    Budget,
)
from sidelight.results.chance import chance_levels
from sidelight.results.coverage import find_coverage_remarks, keep_seen
from sidelight.results.draws import describe_draws
from sidelight.results.failure_remarks import find_failure_remarks
from sidelight.results.reference_remarks import find_reference_remarks
from sidelight.results.remarks import Remark, find_remarks
from sidelight.results.selection import get_budget, primary_metric
from sidelight.results.statistics import UNDEFINED, Interval, Probabilities, holm
from sidelight.results.training_remarks import describe_choices, describe_ways, find_training_remarks
from sidelight.results.winner import Winner, find_winner
from sidelight.utils.keywords import renamed_keywords

SAME_TEST = "a fold has the same test rows with every seed: seeds are averaged before the interval, n counts folds"
NOTES = {
    "groups": "one official test set: n counts its groups, and intervals cover other test groups and other seeds",
    "blocks": "one official test set without groups: n counts blocks of neighbouring test rows, and intervals cover "
    "other blocks and other seeds; rows of one person or recording that lie far apart would make them too narrow",
    "seeds": "one official test set: seeds cannot tell how other test rows would come out, so there is no verdict "
    "without its groups",
    LEAVE_ONE_OUT: SAME_TEST,
    BLOCKS: SAME_TEST,
    FORWARD: SAME_TEST,
}
"""Protocol, or what an official split counts -> what limits the intervals under it."""


NO_GAPS = tuple(name for name in REFERENCES if name != WARM_START)
"""Rows that are no networks: they close no gap between networks."""


@dataclass(frozen=True)
class Row:
    """One line of the comparison.

    Args:
        role: "baseline", "method", "control", "reference" or "teacher".
        method, control: the method's name, and "", "placebo" or "self".
        best: whether it is the method with the highest mean `select` score.
        n: number of differences to the baseline.
        missing: number of pairs of fold and seed in which the row or the baseline is missing.
        mean, sd: mean and standard deviation of the metric, as stored (not signed).
        difference: difference to the baseline; positive is better.
        p: probabilities of being worse than, equal to and better than the baseline.
        gap: share of the teacher's lead over the baseline that the row closes, over the test rows that have a
            privileged modality.
        effect: the method minus its placebo: what it gains more than that.
        select: mean score on the select rows.
        seconds: median training time in seconds.
        note: what limits the row's numbers.
        p_value: two-sided p of no difference to the baseline.
        p_holm: `p_value` adjusted for the number of methods in the table (Holm); as it is for other rows.
        survives: whether the difference is not zero at the level of the intervals, by `p_holm`.
    """

    role: str
    method: str
    control: str
    best: bool
    n: int
    missing: int
    mean: float
    sd: float
    difference: Interval
    p: Probabilities
    gap: Interval
    effect: Interval
    select: float
    seconds: float
    note: str
    p_value: float = math.nan
    p_holm: float = math.nan
    survives: bool = False

    @property
    def bold(self) -> bool:
        """Whether the table prints a method in bold: it is better than the baseline, after Holm's adjustment."""
        return self.role == "method" and self.survives and self.difference.low > 0


@dataclass(frozen=True)
class Comparison:
    """The comparison at one label fraction.

    Args:
        metric: the metric that is compared.
        label_fraction: share of the training groups that keep their labels.
        rope: differences up to this size count as equal.
        level: confidence level of the intervals.
        best: the method with the highest mean `select` score; None if no method has finished.
        budget: the jobs that were compared.
        rows: name -> row, in the order of the table.
        protocol: how the folds were made.
        note: what limits the intervals under this protocol, and how epochs were chosen where labels were hidden.
        sign: +1, or −1 if a lower metric is better.
        task: the task's name.
        chance: mean of the metric for answers that read no input, on the same test rows; NaN if unknown.
        remarks: doubts about the comparison, e.g. a baseline at chance.
        winner: what choosing among the methods gains; None if there is nothing to choose from.
        terms: what each term of a sum adds, for sums whose rest was run too.
    """

    metric: str
    label_fraction: float
    rope: float
    level: float
    best: str | None
    budget: Budget = field(repr=False)
    rows: dict[str, Row] = field(default_factory=dict)
    protocol: str = ""
    note: str = ""
    sign: int = 1
    task: str = "classification"
    chance: float = math.nan
    remarks: tuple[Remark, ...] = ()
    winner: Winner | None = None
    terms: tuple[Difference, ...] = ()

    @property
    def counted(self) -> str:
        """What a row's `n` counts: "pairs" (of fold and seed), "folds", "groups", "blocks" or "seeds"."""
        return self.budget.counted


@renamed_keywords(labels="label_fraction")
def compare(
    results: pd.DataFrame,
    label_fraction: float | None = None,
    metric: str | None = None,
    rope: float = ROPE,
    level: float = LEVEL,
) -> Comparison:
    """Compare every method with the baseline; `table`, `sentence`, `summary` and the report are made from this.

    Args:
        results: one row per job, as `load_results` returns them.
        label_fraction: share of the training groups that keep their labels; None: the smallest that was compared.
        metric: the metric to compare; None: the task's first one.
        rope: differences up to this size count as equal, in units of the metric.
        level: confidence level of the intervals, in (0, 1).

    Raises:
        RunError: no job has finished, or none has this label fraction or metric.
    """
    jobs = get_budget(results, label_fraction, metric)
    best = jobs.best
    rows = _adjust({name: _compare_row(jobs, name, name == best, rope, level) for name in jobs.order}, level)
    lead = rows[TEACHER].difference if TEACHER in rows else UNDEFINED
    why = str(results.attrs.get("metric_note", "")) if jobs.metric == primary_metric(results) else ""
    notes = (_note(jobs), describe_draws(jobs), describe_ways(jobs), describe_choices(jobs), why)
    return Comparison(
        metric=jobs.metric,
        label_fraction=jobs.label_fraction,
        rope=rope,
        level=level,
        best=best,
        budget=jobs,
        rows=rows,
        protocol=jobs.protocol,
        note="; ".join(text for text in notes if text),
        sign=jobs.sign,
        task=jobs.task,
        chance=float(chance_levels(jobs.tests, jobs.metric).mean()),
        remarks=(
            *find_remarks(jobs, lead, level, jobs.metric == primary_metric(results)),
            *find_training_remarks(jobs, results.attrs.get("epochs")),
            *find_coverage_remarks(jobs),
            *find_reference_remarks(jobs, level),
            *find_failure_remarks(jobs, results.attrs.get("failures", ())),
        ),
        winner=find_winner(jobs, rope, level),
        terms=ablate(jobs, rope, level),
    )


@renamed_keywords(labels="label_fraction")
def table(
    results: pd.DataFrame,
    label_fraction: float | None = None,
    metric: str | None = None,
    rope: float = ROPE,
    level: float = LEVEL,
) -> pd.DataFrame:
    """The comparison as a table, one row per method and control.

    Rows: the baseline; each method with its controls beneath it; `all labels` (the baseline with every label) if labels
    were hidden; the teacher.

    Args:
        results, label_fraction, metric, rope, level: as in `compare`.

    Returns:
        Columns:
        role, method, control, best (highest mean `select` among the methods);
        n, missing: number of differences to the baseline (one per fold and seed; one per fold with leave-one-group-out
        and blocks, whose seeds share test rows and are averaged), and pairs of fold and seed that lack one side;
        mean, sd: of the metric as stored;
        difference, low, high: paired difference to the baseline, positive = better, with its corrected interval;
        p_worse, p_equal, p_better: equal = the difference is at most `rope` (0.01: one point of accuracy);
        gap, gap_low, gap_high: share of the teacher's lead over the baseline that is closed; NaN unless that lead is
        larger than its interval;
        effect, effect_low, effect_high: method − its placebo, what it gains more than that;
        select: mean; seconds: median; note: what limits the row;
        p_value, p_holm, survives: two-sided p of no difference, adjusted for the number of methods, and whether the
        adjusted one is below 1 − `level`.
        `attrs` holds the other fields of `Comparison`: `note`, `chance`, `remarks` and so on.
    """
    c = compare(results, label_fraction, metric, rope, level)
    frame = pd.DataFrame.from_dict({name: flatten_row(row) for name, row in c.rows.items()}, orient="index")
    frame.attrs = {f.name: getattr(c, f.name) for f in fields(c) if f.name not in ("rows", "budget")}
    return frame


def flatten_row(row: Row) -> dict[str, Any]:
    """A row as plain columns, with a column for each number of its intervals and probabilities."""
    names = ("role", "method", "control", "best", "n", "missing", "mean", "sd")
    columns: dict[str, Any] = {name: getattr(row, name) for name in names}
    d, g, e = row.difference, row.gap, row.effect
    columns |= {"difference": d.mean, "low": d.low, "high": d.high}
    columns |= {"p_worse": row.p.worse, "p_equal": row.p.equal, "p_better": row.p.better}
    columns |= {"gap": g.mean, "gap_low": g.low, "gap_high": g.high}
    columns |= {"effect": e.mean, "effect_low": e.low, "effect_high": e.high}
    columns |= {"select": row.select, "seconds": row.seconds, "note": row.note}
    return columns | {"p_value": row.p_value, "p_holm": row.p_holm, "survives": row.survives}


def _adjust(rows: dict[str, Row], level: float) -> dict[str, Row]:
    """Adjust the p-values of the methods for their number; controls and references are no candidates."""
    methods = [name for name, row in rows.items() if row.role == "method"]
    adjusted = dict(zip(methods, holm([rows[name].p_value for name in methods]).tolist()))
    out = {}
    for name, row in rows.items():
        p = adjusted.get(name, row.p_value)
        out[name] = replace(row, p_holm=p, survives=bool(p < 1 - level))
    return out


def _note(jobs: Budget) -> str:
    return NOTES.get(jobs.counted if jobs.protocol == OFFICIAL else jobs.protocol, "")


def _compare_row(jobs: Budget, name: str, best: bool, rope: float, level: float) -> Row:
    """Compare one row of the table with the baseline, the teacher and its placebo."""
    method, _, control = name.partition("~")
    frame = jobs.rows[name]
    values = frame[jobs.metric].dropna()
    difference = gap = effect = UNDEFINED
    p = NO_PROBABILITIES
    if name != BASELINE and BASELINE in jobs.rows:
        difference = jobs.difference(name, BASELINE, level)
        p = jobs.probabilities(name, BASELINE, rope)
        if method not in (TEACHER, *NO_GAPS) and TEACHER in jobs.rows:
            gap = keep_seen(jobs).gap(name, level)
    if not control and f"{name}~placebo" in jobs.rows:
        effect = jobs.difference(name, f"{name}~placebo", level)
    roles = {BASELINE: "baseline", TEACHER: "teacher"} | dict.fromkeys((ALL_LABELS, *REFERENCES), "reference")
    return Row(
        role=roles.get(name, "control" if control else "method"),
        method=BASELINE if name == ALL_LABELS else method,
        control=control,
        best=best,
        n=jobs.count(name) if difference is UNDEFINED else difference.n,
        missing=difference.dropped,
        mean=jobs.mean(name, jobs.metric),
        sd=float(values.std(ddof=1)) if len(values) > 1 else math.nan,
        difference=difference,
        p=p,
        gap=gap,
        effect=effect,
        select=float(frame["select"].mean()),
        seconds=float(frame["seconds"].median()),
        note="; ".join(dict.fromkeys(i.note for i in (difference, gap, effect) if i.note)),
        p_value=jobs.p_value(name, BASELINE) if difference is not UNDEFINED else math.nan,
    )
