"""The verdict on a comparison, in a sentence and as a summary for programs."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from sidelight.results.between import SURE
from sidelight.results.budget import BASELINE, LEVEL, OFFICIAL, REFERENCES
from sidelight.results.comparison import ROPE, Comparison, Row, compare, flatten_row
from sidelight.results.other_metrics import compare_metrics
from sidelight.results.remarks import brief_remarks
from sidelight.results.selection import budgets, metric_columns, primary_metric
from sidelight.results.statistics import Interval, Probabilities
from sidelight.results.units import Unit, labels_phrase, metric_name, percent, sign, unit
from sidelight.utils.keywords import renamed_keywords

HELPS = {"better": "helps", "equal": "practically equal", "worse": "does not help"}
HELPS |= dict.fromkeys(("unclear", "unknown"), "not shown to help")
STANDS = {"better": "above the baseline", "equal": "practically equal", "worse": "below the baseline"}
STANDS |= dict.fromkeys(("unclear", "unknown"), "not shown to differ from the baseline")
"""Verdict -> its words for a method, and for a reference row, which is no remedy."""


def verdict(row: Row) -> str:
    """Judge a row against the baseline.

    Returns:
        "equal" if P(|difference| ≤ rope) ≥ 95 %; else "better" or "worse" if the difference is not zero after Holm's
        adjustment for the number of methods (for a single one: if its interval excludes zero); else "unclear", also if
        there is no interval. "unknown" with fewer than two pairs.
    """
    return _judge(row.difference, row.p, row.survives)


def headline(c: Comparison) -> str:
    """Judge the chosen method: by what choosing gains (`Winner`), if there is more than one method.

    Returns:
        As in `verdict`; "unknown" if no method or no baseline has finished.
    """
    if c.best is None or BASELINE not in c.rows:
        return "unknown"
    return verdict(c.rows[c.best]) if c.winner is None else _judge(c.winner.difference, c.winner.p, True)


def _judge(d: Interval, p: Probabilities, survives: bool) -> str:
    if d.n < 2:
        return "unknown"
    if p.equal >= SURE:
        return "equal"
    if not survives:
        return "unclear"
    return "better" if d.low > 0 else "worse" if d.high < 0 else "unclear"


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
    row, kind = c.rows[c.best], headline(c)
    if kind == "unknown":
        count = ["no pair", "only one pair"][min(row.n, 1)]
        return (
            f"{c.best} cannot be judged yet: {count} (the same fold and seed, with and without distillation) has "
            "finished, and a single difference may be chance."
        )
    doubts = brief_remarks(c.remarks)
    d, p = (row.difference, row.p) if c.winner is None else c.winner[:2]
    found = f"{_write_difference(c, _write_subject(c), d, p, kind)}{_write_controls(c, row, kind, d.mean)}."
    return f"{found} But {doubts}." if doubts else found


def _write_subject(c: Comparison) -> str:
    """The method, or how often each was chosen: "the chosen method (kl in 13 of 15, pkdot in 2)"."""
    if c.winner is None or c.winner.unanimous:
        return str(c.best)
    first, *others = c.winner.chosen.items()
    times = [f"{first[0]} in {first[1]} of {sum(c.winner.chosen.values())}", *(f"{m} in {n}" for m, n in others)]
    return f"the chosen method ({', '.join(times[:3])}{', …' * (len(times) > 3)})"


def _write_difference(c: Comparison, who: str, d: Interval, p: Probabilities, kind: str) -> str:
    """The main clause: the difference to the baseline."""
    u, name = unit(c.metric), metric_name(c.metric)
    seeds = len(c.budget.rows[BASELINE])
    where = "" if c.protocol != OFFICIAL else " of" if c.counted == "seeds" else f" × {seeds} seeds of"
    where += " one test set" if where else ""
    interval = f"{100 * c.level:g} % interval {span(u, d)}, " if math.isfinite(d.half) else "no interval: "
    counted = "pairs of fold and seed" if c.counted == "pairs" else c.counted
    evidence = f"{interval}{d.n} {counted}{where}" + ("" if math.isfinite(d.half) else f", {d.note}")
    signed = name if c.sign > 0 else f"{name} (positive: lower)"
    size, threshold = u.amount(abs(d.mean)), u.threshold(c.rope)
    if kind == "better":
        doubt = "" if p.better >= SURE else f"; more than {threshold} with probability {percent(p.better)}"
        verb = "improves" if c.sign > 0 else "lowers"
        return f"{who} {verb} {name} over the baseline by {size} ({evidence}{doubt})"
    if kind == "worse":
        return f"{who} does not help: its {name} is {size} worse than the baseline's ({evidence})"
    if kind == "equal":
        within = f"within {threshold} with probability {percent(p.equal)}"
        return f"{who} is practically equal to the baseline: {u.difference(d.mean)} in {signed}, {within} ({evidence})"
    chance = f"; better by more than {threshold} with probability {percent(p.better)}"
    return (
        f"{who} is not shown to help: its difference to the baseline in {signed} is "
        f"{u.amount(d.mean, signed=True)} ({evidence}{chance if math.isfinite(p.better) else ''})"
    )


def _write_controls(c: Comparison, row: Row, kind: str, gained: float) -> str:
    """The clauses on what the method gains without privileged information."""
    u, effect = unit(c.metric), row.effect
    placebo, alone = c.rows.get(f"{c.best}~placebo"), c.rows.get(f"{c.best}~self")
    shown = f"{u.difference(effect.mean)} ({span(u, effect) if math.isfinite(effect.half) else effect.note})"
    own = c.winner is None or c.winner.unanimous
    text = ""
    if placebo is None or placebo.difference.n == 0 or effect.n == 0:
        if kind == "better":
            text += "; no placebo has been run, so whether the privileged modalities are the reason is not known"
    elif kind == "better":
        gain = placebo.difference.mean
        name = "its placebo" if own else f"the placebo of {c.best}"
        text += f"; with the privileged rows shuffled ({name}) the gain is {u.difference(gain)}, "
        text += f"{_write_share(gain / gained)} of that"
        if effect.low <= 0:
            text += (
                f", and {c.best} minus its placebo is {shown}: the privileged modalities are not shown to be the reason"
            )
    else:
        text += f"; {c.best} minus its placebo (the same with shuffled privileged rows) is {shown}, so the "
        text += (
            "privileged modalities have an effect" if effect.low > 0 else "privileged modalities are not shown to help"
        )
    if alone is not None and alone.difference.n > 0:
        text += f"; taught by a baseline instead it gains {u.difference(alone.difference.mean)}"
    return text


def list_sentences(c: Comparison) -> list[str]:
    """A sentence for each method and reference row: its difference to baseline and placebo, and the verdict on it."""
    u, found = unit(c.metric), []
    for name, row in c.rows.items():
        if (row.role != "method" and name not in REFERENCES) or row.difference.n < 1:
            continue
        ends = f"({span(u, row.difference)})" if math.isfinite(row.difference.half) else f"({row.difference.note})"
        words = HELPS if row.role == "method" else STANDS
        text = f"{name}: {u.difference(row.difference.mean)} {ends}, {words[verdict(row)]}"
        if row.effect.n:
            ends = span(u, row.effect) if math.isfinite(row.effect.half) else row.effect.note
            text += f"; beyond its placebo {u.difference(row.effect.mean)} ({ends})"
        found.append(f"{text}.")
    return found


def list_terms(c: Comparison) -> list[str]:
    """What each term of a sum adds, in words; empty if no sum was run with its parts."""
    u, found = unit(c.metric), []
    for d in c.terms:
        text = f"{d.term} adds to {d.first}: {d.describe(u).partition(': ')[2]}"
        if d.placebo is not None and math.isfinite(d.placebo.mean):
            ends = f"({span(u, d.placebo)})" if math.isfinite(d.placebo.half) else f"({d.placebo.note})"
            text += f"; in their placebos {u.difference(d.placebo.mean)} {ends}"
        found.append(f"{text}.")
    return found


def _write_share(share: float) -> str:
    """A share of the gain, in words."""
    return "nothing" if share < 0.005 else "all" if share >= 0.995 else percent(share)


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
        scores = compare_metrics(results, c.budget, metrics, level)
        rows = []
        for name, row in c.rows.items():
            columns = {"name": name, **flatten_row(row)}
            means = {metric: _plain(scores[metric][name].mean) for metric in metrics}
            ends = {
                metric: dict(zip(("mean", "low", "high"), map(_plain, scores[metric][name].difference)))
                for metric in metrics
            }
            rows.append(
                {key: _plain(value) for key, value in columns.items()} | {"metrics": means, "differences": ends}
            )
        text = write_sentence(c, alone=len(shares) == 1)
        kind = headline(c)
        out["budgets"].append(
            {"labels": share, "best": c.best, "verdict": kind, "sentence": text, "note": c.note}
            | {"chance": _plain(c.chance), "remarks": [r._asdict() for r in c.remarks], "rows": rows}
        )
    return out


def _plain(value: Any) -> Any:
    """A NumPy scalar as a Python number; NaN and ±∞ as None."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
