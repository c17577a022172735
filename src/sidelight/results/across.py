"""One comparison over several data sets: what to expect of each method on a next set, and average ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from sidelight.results.between import ROPE, SURE
from sidelight.results.budget import ALL_LABELS, BASELINE, LEVEL, OFFICIAL, REFERENCES, TEACHER, Budget
from sidelight.results.comparison import Comparison, flatten_row
from sidelight.results.crossed import crossed_variance
from sidelight.results.hierarchical import FEWEST, Posterior, StudentT, hierarchical_t
from sidelight.results.statistics import Interval, student_quantile
from sidelight.results.units import Unit, metric_name, percent, unit
from sidelight.results.verdict import span

FEWEST_RANKED = 5
"""Fewest data sets whose ranks are averaged."""


@dataclass(frozen=True)
class Line:
    """One method over the data sets.

    Args:
        method: the method.
        against: what it is compared with: "baseline" or "placebo".
        sets: the data sets that are compared.
        left_out: other data sets that have both -> why they are not.
        posterior: average over sets, and what to expect on a next one; None with fewer than three sets.
    """

    method: str
    against: str
    sets: tuple[str, ...]
    left_out: dict[str, str]
    posterior: Posterior | None

    @property
    def verdict(self) -> str:
        """What a next set shows with 95 %: "better", "equal" or "worse"; else "unclear"; "unknown": too few sets."""
        if self.posterior is None:
            return "unknown"
        p = self.posterior.p._asdict()
        return next((kind for kind, value in p.items() if value >= SURE), "unclear")


@dataclass(frozen=True)
class Across:
    """A comparison over data sets.

    Args:
        sets: data set -> its comparison, at its smallest label fraction.
        rope: differences up to this size count as equal, on every set's metric.
        level: probability that the intervals hold.
        lines: method − baseline, and method − its placebo where that was run, in the order of the tables.
        ranks: average rank of the baseline and of each method that every set has, best first; empty with fewer than
            five sets.
        notes: what a reader must know of the sets.
    """

    sets: Mapping[str, Comparison]
    rope: float
    level: float
    lines: tuple[Line, ...]
    ranks: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def methods(self) -> list[str]:
        """Every method of any set, in the order of the tables."""
        return list(dict.fromkeys(m for c in self.sets.values() for m in c.budget.methods))

    @property
    def unit(self) -> Unit:
        """How differences are written: in points if every set's metric is, else as they are."""
        units = {unit(c.metric) for c in self.sets.values() if is_comparable(c.metric)}
        return units.pop() if len(units) == 1 else Unit(1, 3, "")

    def sentences(self) -> list[str]:
        """What to expect of each method on a next data set."""
        return [describe(line, self) for line in self.lines if line.against == BASELINE]


def compare_sets(sets: Mapping[str, Comparison], rope: float = ROPE, level: float = LEVEL, seed: int = 0) -> Across:
    """Compare every method with the baseline, and with its placebo, over several data sets.

    Args:
        sets: data set -> its comparison.
        rope: differences up to this size count as equal, on every set's metric.
        level: probability that the intervals hold, in (0, 1).
        seed: seed of the sampler.
    """
    methods = list(dict.fromkeys(m for c in sets.values() for m in c.budget.methods))
    pairs = [(m, against) for m in methods for against in (BASELINE, "placebo")]
    lines = [_compare_line(sets, m, against, rope, level, seed) for m, against in pairs]
    kept = tuple(line for line in lines if line.against == BASELINE or line.sets)
    return Across(sets, rope, level, kept, average_ranks(sets), _list_notes(sets, rope))


def _compare_line(
    sets: Mapping[str, Comparison], method: str, against: str, rope: float, level: float, seed: int
) -> Line:
    effects: dict[str, StudentT] = {}
    left_out: dict[str, str] = {}
    for name, c in sets.items():
        other = BASELINE if against == BASELINE else f"{method}~{against}"
        if method not in c.rows or other not in c.rows:
            continue
        found = find_student(c.budget, method, other) if is_comparable(c.metric) else _why_not(c.metric)
        if isinstance(found, StudentT):
            effects[name] = found
        else:
            left_out[name] = found
    posterior = hierarchical_t([*effects.values()], rope, level, seed) if len(effects) >= FEWEST else None
    return Line(method, against, tuple(effects), left_out, posterior)


def find_student(b: Budget, first: str, second: str) -> StudentT | str:
    """The Student t of which the interval of first − second is made, or why there is none."""
    if b.protocol == OFFICIAL:
        found = b.effects(first, second)
        if isinstance(found, Interval):
            return found.note
        variance, df = crossed_variance(found[1])
        return StudentT(found[0], math.sqrt(variance), df) if variance > 1e-24 else "all differences are the same"
    interval = b.difference(first, second, LEVEL)
    if not math.isfinite(interval.half):
        return interval.note
    return StudentT(interval.mean, interval.half / student_quantile(LEVEL, interval.n - 1), interval.n - 1)


def is_comparable(metric: str) -> bool:
    """Whether differences of a metric mean the same on any data set: shares and correlations, not errors in units."""
    return unit(metric).factor == 100 or metric == "ccc" or metric.startswith("ccc_")


def _why_not(metric: str) -> str:
    return f"its metric ({metric_name(metric)}) has the unit of its own target"


def average_ranks(sets: Mapping[str, Comparison]) -> dict[str, float]:
    """Average rank of the baseline and every method that all sets have, best first; rank 1 is the best mean."""
    if len(sets) < FEWEST_RANKED:
        return {}
    means = {
        name: {m: c.sign * c.rows[m].mean for m in (BASELINE, *c.budget.methods) if m in c.rows}
        for name, c in sets.items()
    }
    table = pd.DataFrame(means).dropna()
    if len(table) < 3:
        return {}
    found = table.rank(ascending=False).mean(axis=1).sort_values(kind="stable")
    return {str(name): float(rank) for name, rank in found.items()}


def _list_notes(sets: Mapping[str, Comparison], rope: float) -> tuple[str, ...]:
    notes = []
    metrics = list(dict.fromkeys(metric_name(c.metric) for c in sets.values()))
    if len(metrics) > 1:
        notes.append(
            f"The sets are compared by different metrics ({', '.join(metrics)}). A comparison over sets takes the "
            f"differences of each set's own metric as they are: one of {rope:g} counts as equal on every one of them."
        )
    if apart := [name for name, c in sets.items() if not is_comparable(c.metric)]:
        notes.append(
            f"{', '.join(apart)}: compared by an error in the unit of the target, which no other set shares, and so "
            "left out of the comparison over sets. Choose another metric (metric=ccc) to have it in."
        )
    return tuple(notes)


def describe(line: Line, a: Across) -> str:
    """The sentence of a method."""
    n, u = len(line.sets), a.unit
    if line.posterior is None:
        return f"{line.method}: cannot be judged over data sets, {n} of at least {FEWEST} can be compared."
    p, ahead, average = line.posterior.p, line.posterior.next, line.posterior.average
    words = {
        "better": "expected to help on a next data set",
        "equal": "expected to be practically equal to the baseline on a next data set",
        "worse": "expected to be worse than the baseline on a next data set",
        "unclear": "no clear expectation for a next data set",
    }
    return (
        f"{line.method}: {words[line.verdict]}: better by more than {u.threshold(a.rope)} with probability "
        f"{percent(p.better)}, practically equal {percent(p.equal)}, worse {percent(p.worse)} "
        f"({u.amount(ahead.mean, signed=True)} there, {100 * a.level:g} % interval {span(u, ahead)}; on average over "
        f"such sets {u.difference(average.mean)}, {span(u, average)}; {n} sets)."
    )


def summarize(a: Across) -> str:
    """The answer over all data sets in a sentence."""
    found = {line.method: line for line in a.lines if line.against == BASELINE}
    judged = [m for m, line in found.items() if line.posterior is not None]
    if not judged:
        most = max((len(line.sets) for line in found.values()), default=0)
        return (
            f"Nothing can be said of a next data set: a comparison over sets needs at least {FEWEST} that can be "
            f"compared, and there {'is' if most == 1 else 'are'} {most}."
        )
    kinds = {kind: [m for m in judged if found[m].verdict == kind] for kind in ("better", "equal", "worse", "unclear")}
    words = {
        "better": "expected to help on a next data set",
        "equal": "practically equal to the baseline there",
        "worse": "worse than the baseline there",
    }
    said = [f"{len(kinds[k])} {words[k]} ({_listed(kinds[k])})" for k in words if kinds[k]]
    counted = f"Of {len(judged)} methods" if len(judged) > 1 else "The one method"
    if not said:
        highest = max(judged, key=lambda m: found[m].posterior.p.better)  # type: ignore[union-attr]
        p = found[highest].posterior.p.better  # type: ignore[union-attr]
        none = "none is" if len(judged) > 1 else "is not"
        return (
            f"{counted}, {none} expected with {percent(SURE)} to help on a next data set, or not to; the highest "
            f"probability of more than {a.unit.threshold(a.rope)} has {highest}, {percent(p)}."
        ).replace("The one method, is", "The one method is")
    if kinds["unclear"]:
        said.append(f"{len(kinds['unclear'])} without a clear expectation")
    return f"{counted}, each with {percent(SURE)} or more: {'; '.join(said)}."


def _listed(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f", … {len(names)} in all" if len(names) > most else "")


def list_rows(sets: Mapping[str, Comparison]) -> pd.DataFrame:
    """Every row of every set's table: set, label_fraction, metric, name, and the columns of `table`."""
    rows = []
    for name, c in sets.items():
        head = {"set": name, "label_fraction": c.label_fraction, "metric": c.metric}
        rows += [{**head, "name": row, **flatten_row(c.rows[row])} for row in c.rows]
    return pd.DataFrame(rows)


def list_lines(a: Across) -> pd.DataFrame:
    """The comparison over sets, one row per method and what it is compared with."""
    return pd.DataFrame([_flatten_line(line) for line in a.lines])


def _flatten_line(line: Line) -> dict[str, Any]:
    columns: dict[str, Any] = {"method": line.method, "against": line.against, "sets": len(line.sets)}
    columns |= {"verdict": line.verdict}
    if line.posterior is not None:
        average, ahead, p, _ = line.posterior
        columns |= {"average": average.mean, "average_low": average.low, "average_high": average.high}
        columns |= {"next": ahead.mean, "next_low": ahead.low, "next_high": ahead.high}
        columns |= {"p_worse": p.worse, "p_equal": p.equal, "p_better": p.better}
    return columns


def table_of_sets(sets: Mapping[str, Comparison]) -> pd.DataFrame:
    """The mean of each set's metric: a row per method (with baseline, references and teacher), a column per set."""
    means = {name: {m: row.mean for m, row in c.rows.items() if row.role != "control"} for name, c in sets.items()}
    names = list(dict.fromkeys(m for c in means.values() for m in c))
    others = (*REFERENCES, ALL_LABELS, TEACHER)
    order = [BASELINE, *(m for m in names if m not in (BASELINE, *others)), *others]
    return pd.DataFrame(means).reindex([m for m in order if m in names])
