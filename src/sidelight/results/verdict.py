"""The verdict on a comparison, in a sentence and as a summary for programs."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from sidelight.results.budget import BASELINE, LEVEL, OFFICIAL, budgets, metric_columns, primary_metric
from sidelight.results.comparison import ROPE, Comparison, Row, compare, flatten_row
from sidelight.results.remarks import brief_remarks
from sidelight.results.statistics import Interval
from sidelight.results.units import Unit, labels_phrase, metric_name, percent, sign, unit
from sidelight.utils.keywords import renamed_keywords

SURE = 0.95
"""Probability from which something is stated without giving its probability."""


def verdict(row: Row) -> str:
    """Judge a row against the baseline.

    Returns:
        "equal" if P(|difference| ≤ rope) ≥ 95 %; else "better" or "worse" if the interval excludes zero; else
        "unclear", also if all differences are the same, which gives no interval. "unknown" with fewer than two pairs.
    """
    if row.difference.n < 2:
        return "unknown"
    if row.p.equal >= SURE:
        return "equal"
    if row.difference.low > 0:
        return "better"
    return "worse" if row.difference.high < 0 else "unclear"


@renamed_keywords(labels="label_fraction")
def sentence(
    results: pd.DataFrame,
    label_fraction: float | None = None,
    rope: float = ROPE,
    level: float = LEVEL,
    metric: str | None = None,
) -> str:
    """Say in one sentence whether the method with the best `select` score helps, and whether its placebo does as well.

    Args:
        results: one row per job, as `load_results` returns them.
        label_fraction: share of the training groups that keep their labels; None: the smallest that was compared.
        rope: differences up to this size count as equal, in units of the metric.
        level: confidence level of the intervals, in (0, 1).
        metric: the metric to compare; None: the task's first one.
    """
    if not len(results) or not metric_columns(results):
        return "No job has finished yet, so nothing can be compared."
    return write_sentence(compare(results, label_fraction, metric, rope, level), alone=len(budgets(results)) == 1)


def write_sentence(c: Comparison, alone: bool = False) -> str:
    """Write the sentence of a comparison.

    Args:
        c: the comparison.
        alone: whether the run has one label fraction only; "with all labels" is then left out.
    """
    text = _write_findings(c)
    return text if alone and c.label_fraction >= 1 else f"With {labels_phrase(c.label_fraction)}, {text}"


def _write_findings(c: Comparison) -> str:
    """The sentence without its opening words on the label fraction."""
    if c.best is None or BASELINE not in c.rows:
        lacking = "baseline" if c.best is not None else "distillation method"
        return f"no {lacking} has finished yet, so nothing can be compared."
    row, kind = c.rows[c.best], verdict(c.rows[c.best])
    if kind == "unknown":
        count = ["no pair", "only one pair"][min(row.n, 1)]
        return (
            f"{c.best} cannot be judged yet: {count} (the same fold and seed, with and without distillation) has "
            "finished, and a single difference may be chance."
        )
    doubts = brief_remarks(c.remarks)
    return f"{_write_difference(c, row, kind)}{_write_controls(c, row, kind)}.{f' But {doubts}.' if doubts else ''}"


def _write_difference(c: Comparison, row: Row, kind: str) -> str:
    """The main clause: the difference to the baseline."""
    u, name, d = unit(c.metric), metric_name(c.metric), row.difference
    seeds = len(c.budget.rows[BASELINE])
    where = "" if c.protocol != OFFICIAL else " of" if c.counted == "seeds" else f" × {seeds} seeds of"
    where += " one test set" if where else ""
    interval = f"{100 * c.level:g} % interval {span(u, d)}, " if math.isfinite(d.half) else "no interval: "
    evidence = f"{interval}{d.n} {c.counted}{where}" + ("" if math.isfinite(d.half) else f", {d.note}")
    signed = name if c.sign > 0 else f"{name} (positive: lower)"
    size, threshold = u.amount(abs(d.mean)), u.threshold(c.rope)
    if kind == "better":
        doubt = "" if row.p.better >= SURE else f"; more than {threshold} with probability {percent(row.p.better)}"
        verb = "improves" if c.sign > 0 else "lowers"
        return f"{c.best} {verb} {name} over the baseline by {size} ({evidence}{doubt})"
    if kind == "worse":
        return f"{c.best} does not help: its {name} is {size} worse than the baseline's ({evidence})"
    if kind == "equal":
        within = f"within {threshold} with probability {percent(row.p.equal)}"
        return (
            f"{c.best} is practically equal to the baseline: {u.difference(d.mean)} in {signed}, {within} ({evidence})"
        )
    chance = f"; better by more than {threshold} with probability {percent(row.p.better)}"
    return (
        f"{c.best} is not shown to help: its difference to the baseline in {signed} is "
        f"{u.amount(d.mean, signed=True)} ({evidence}{chance if math.isfinite(row.p.better) else ''})"
    )


def _write_controls(c: Comparison, row: Row, kind: str) -> str:
    """The clauses on what the method gains without privileged information."""
    u, effect = unit(c.metric), row.effect
    placebo, alone = c.rows.get(f"{c.best}~placebo"), c.rows.get(f"{c.best}~self")
    shown = f"{u.difference(effect.mean)} ({span(u, effect) if math.isfinite(effect.half) else effect.note})"
    text = ""
    if placebo is None or placebo.difference.n == 0 or effect.n == 0:
        if kind == "better":
            text += "; no placebo has been run, so whether the privileged modalities are the reason is not known"
    elif kind == "better":
        gain = placebo.difference.mean
        share = _write_share(gain / row.difference.mean)
        text += (
            f"; its placebo gains {u.difference(gain)}, so {share} of the gain is there without privileged information"
        )
        text += "" if effect.low > 0 else f", and a privileged effect is not shown: {shown}"
    else:
        text += f"; its difference to its placebo is {shown}"
        text += ", a privileged effect" if effect.low > 0 else ", so a privileged effect is not shown either"
    if alone is not None and alone.difference.n > 0:
        text += f"; taught by a baseline instead it gains {u.difference(alone.difference.mean)}"
    return text


def _write_share(share: float) -> str:
    """A share of the gain, in words."""
    return "none" if share < 0.005 else "all" if share >= 0.995 else percent(share)


def span(u: Unit, interval: Interval) -> str:
    """`+8.0 to +17.2`."""
    return f"{u.difference(interval.low)} to {u.difference(interval.high)}"


def summary(results: pd.DataFrame, rope: float = ROPE, level: float = LEVEL) -> dict[str, Any]:
    """The content of `summary.json`: for each label fraction the best method, verdict, sentence and rows of the table.

    It holds numbers, strings and None (for undefined or infinite numbers) only, so that any JSON reader can read it.

    Args:
        results: one row per job, as `load_results` returns them.
        rope: differences up to this size count as equal, in units of the metric.
        level: confidence level of the intervals, in (0, 1).
    """
    out: dict[str, Any] = {"jobs": len(results), "rope": rope, "level": level, "budgets": []}
    metrics = metric_columns(results)
    if not len(results) or not metrics:
        return out
    primary, shares = primary_metric(results), budgets(results)
    out |= {"metric": primary, "higher_is_better": sign(primary, results.attrs.get("higher_is_better", {})) > 0}
    for share in shares:
        c = compare(results, share, primary, rope, level)
        rows = []
        for name, row in c.rows.items():
            columns = {"name": name, **flatten_row(row)}
            means = {metric: _plain(c.budget.mean(name, metric)) for metric in metrics}
            rows.append({key: _plain(value) for key, value in columns.items()} | {"metrics": means})
        text = write_sentence(c, alone=len(shares) == 1)
        kind = verdict(c.rows[c.best]) if c.best is not None else "unknown"
        out["budgets"].append(
            {"labels": share, "best": c.best, "verdict": kind, "sentence": text, "note": c.note}
            | {"chance": _plain(c.chance), "remarks": [r._asdict() for r in c.remarks], "rows": rows}
        )
    return out


def _plain(value: Any) -> Any:
    """A NumPy scalar as a Python number; NaN and ±∞ as None."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
