"""What the comparison means, in words and as a summary for machines."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from sidelight.results.comparison import (
    BASELINE,
    LEVEL,
    OFFICIAL,
    ROPE,
    Comparison,
    Row,
    budgets,
    compare,
    flat,
    metric_columns,
    primary_metric,
)
from sidelight.results.remarks import brief
from sidelight.results.statistics import Interval
from sidelight.results.units import Unit, labels_phrase, metric_name, percent, sign, unit

SURE = 0.95


def verdict(row: Row) -> str:
    """Is the row "better" than the baseline, "worse", "equal" or "unclear"; "unknown" with fewer than two pairs.

    equal: P(|difference| ≤ rope) ≥ 95 %. better, worse: the interval leaves out zero. unclear: neither, or all
    differences are the same, so that there is no interval.
    """
    if row.difference.n < 2:
        return "unknown"
    if row.p.equal >= SURE:
        return "equal"
    if row.difference.low > 0:
        return "better"
    return "worse" if row.difference.high < 0 else "unclear"


def sentence(
    results: pd.DataFrame,
    labels: float | None = None,
    rope: float = ROPE,
    level: float = LEVEL,
    metric: str | None = None,
) -> str:
    """One sentence on the method that is best on the select rows: does it help, and does its placebo do as well?"""
    if not len(results) or not metric_columns(results):
        return "No job has finished yet, so nothing can be compared."
    return say(compare(results, labels, metric, rope, level), alone=len(budgets(results)) == 1)


def say(c: Comparison, alone: bool = False) -> str:
    """The sentence of a comparison. alone: of the only label budget, where "with all labels" goes without saying."""
    return _said(c) if alone and c.labels >= 1 else f"With {labels_phrase(c.labels)}, {_said(c)}"


def _said(c: Comparison) -> str:
    """The sentence without its opening words on the label budget."""
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
    doubts = brief(c.remarks)
    return f"{_comparison(c, row, kind)}{_controls(c, row, kind)}.{f' But {doubts}.' if doubts else ''}"


def _comparison(c: Comparison, row: Row, kind: str) -> str:
    u, name, d = unit(c.metric), metric_name(c.metric), row.difference
    where = " on one test set" if c.protocol == OFFICIAL else ""
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


def _controls(c: Comparison, row: Row, kind: str) -> str:
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
        text += f"; its placebo gains {u.difference(gain)}, so {_part(gain / row.difference.mean)} of the gain is there"
        text += " without privileged information"
        text += "" if effect.low > 0 else f", and a privileged effect is not shown: {shown}"
    else:
        text += f"; its difference to its placebo is {shown}"
        text += ", a privileged effect" if effect.low > 0 else ", so a privileged effect is not shown either"
    if alone is not None and alone.difference.n > 0:
        text += f"; taught by a baseline instead it gains {u.difference(alone.difference.mean)}"
    return text


def _part(share: float) -> str:
    return "none" if share < 0.005 else "all" if share >= 0.995 else percent(share)


def span(u: Unit, interval: Interval) -> str:
    """`+8.0 to +17.2`."""
    return f"{u.difference(interval.low)} to {u.difference(interval.high)}"


def summary(results: pd.DataFrame, rope: float = ROPE, level: float = LEVEL) -> dict[str, Any]:
    """What `summary.json` holds: per label budget the best method, the verdict, the sentence, every row of the table.

    Only numbers, strings and None (for what is undefined or infinite), so that any JSON reader can read it.
    """
    out: dict[str, Any] = {"jobs": len(results), "rope": rope, "level": level, "budgets": []}
    metrics = metric_columns(results)
    if not len(results) or not metrics:
        return out
    primary, shares = primary_metric(results), budgets(results)
    out |= {"metric": primary, "higher_is_better": sign(primary, results.attrs.get("higher_is_better", {})) > 0}
    for labels in shares:
        c = compare(results, labels, primary, rope, level)
        rows = [
            {"name": name, **{k: _plain(v) for k, v in flat(row).items()}}
            | {"metrics": {m: _plain(c.budget.mean(name, m)) for m in metrics}}
            for name, row in c.rows.items()
        ]
        text = say(c, alone=len(shares) == 1)
        kind = verdict(c.rows[c.best]) if c.best is not None else "unknown"
        out["budgets"].append(
            {"labels": labels, "best": c.best, "verdict": kind, "sentence": text, "note": c.note}
            | {"chance": _plain(c.chance), "remarks": [r._asdict() for r in c.remarks], "rows": rows}
        )
    return out


def _plain(value: Any) -> Any:
    """A numpy scalar as Python's own; NaN and ±∞ as None."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
