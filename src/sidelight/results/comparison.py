"""Every method against the baseline, with its controls beneath it, paired over fold and seed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import pandas as pd

from sidelight.results.budget import (
    ALL_LABELS,
    BASELINE,
    BLOCKS,
    COUNTED,
    LEAVE_ONE_OUT,
    LEVEL,
    OFFICIAL,
    TEACHER,
    Budget,
    get_budget,
    paired_difference,
    primary_metric,
    set_sizes,
)
from sidelight.results.chance import chance_levels
from sidelight.results.coverage import find_coverage_remarks, keep_seen
from sidelight.results.remarks import Remark, find_remarks
from sidelight.results.statistics import UNDEFINED, Interval, Probabilities, correlated_t, gap_closed
from sidelight.results.training_remarks import describe_ways, find_training_remarks
from sidelight.utils.keywords import renamed_keywords

ROPE = 0.01
"""Region of practical equivalence: differences up to this size count as equal."""
SAME_TEST = "a fold has the same test rows with every seed: seeds are averaged before the interval, n counts folds"
NOTES = {
    OFFICIAL: "one official test set: intervals cover what a seed draws (initial weights, order of batches; select "
    "rows and kept labels where they are drawn), not other test rows",
    LEAVE_ONE_OUT: SAME_TEST,
    BLOCKS: SAME_TEST,
}
"""Protocol -> what limits the intervals under it."""


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
        effect: privileged effect: the method minus its placebo.
        select: mean score on the select rows.
        seconds: median training time in seconds.
        note: what limits the row's numbers.
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

    @property
    def counted(self) -> str:
        """What a row's `n` counts: "pairs" (of fold and seed), "folds" or "seeds"."""
        return COUNTED.get(self.protocol, "pairs")


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
    rows = {name: _compare_row(jobs, name, name == best, rope, level) for name in jobs.order}
    lead = rows[TEACHER].difference if TEACHER in rows else UNDEFINED
    return Comparison(
        metric=jobs.metric,
        label_fraction=jobs.label_fraction,
        rope=rope,
        level=level,
        best=best,
        budget=jobs,
        rows=rows,
        protocol=jobs.protocol,
        note="; ".join(
            text
            for text in (
                NOTES.get(jobs.protocol, ""),
                describe_ways(jobs),
                str(results.attrs.get("metric_note", "")) if jobs.metric == primary_metric(results) else "",
            )
            if text
        ),
        sign=jobs.sign,
        task=jobs.task,
        chance=float(chance_levels(jobs.tests, jobs.metric).mean()),
        remarks=(
            *find_remarks(jobs, lead, level, jobs.metric == primary_metric(results)),
            *find_training_remarks(jobs, results.attrs.get("epochs")),
            *find_coverage_remarks(jobs),
        ),
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
        effect, effect_low, effect_high: the privileged effect, method − its placebo;
        select: mean; seconds: median; note: what limits the row.
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
    return columns | {"select": row.select, "seconds": row.seconds, "note": row.note}


def _compare_row(jobs: Budget, name: str, best: bool, rope: float, level: float) -> Row:
    """Compare one row of the table with the baseline, the teacher and its placebo."""
    method, _, control = name.partition("~")
    frame = jobs.rows[name]
    values = frame[jobs.metric].dropna()
    difference = gap = effect = UNDEFINED
    p = Probabilities(math.nan, math.nan, math.nan)
    if name != BASELINE and BASELINE in jobs.rows:
        pairs = jobs.pairs(name, BASELINE)
        difference = jobs.difference(name, BASELINE, level, pairs)
        p = correlated_t(paired_difference(pairs, name, BASELINE), *set_sizes(pairs), rope=rope)
        if method != TEACHER and TEACHER in jobs.rows:
            three = keep_seen(jobs).pairs(name, BASELINE, TEACHER)
            gap = gap_closed(three[name], three[BASELINE], three[TEACHER], *set_sizes(three), level=level)
    if not control and f"{name}~placebo" in jobs.rows:
        effect = jobs.difference(name, f"{name}~placebo", level)
    roles = {BASELINE: "baseline", TEACHER: "teacher", ALL_LABELS: "reference"}
    return Row(
        role=roles.get(name, "control" if control else "method"),
        method=BASELINE if name == ALL_LABELS else method,
        control=control,
        best=best,
        n=int(jobs.pairs(name)[name].count()) if difference is UNDEFINED else difference.n,
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
    )
