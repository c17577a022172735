"""Paired differences between any two methods, and what each term of a sum adds."""

from __future__ import annotations

import math
from itertools import combinations
from typing import NamedTuple

import pandas as pd

from sidelight.errors import RunError, unknown
from sidelight.results.budget import LEVEL, LINEAR, WARM_START, Budget
from sidelight.results.selection import get_budget
from sidelight.results.statistics import Interval, Probabilities
from sidelight.results.units import Unit
from sidelight.utils.keywords import renamed_keywords

ROPE = 0.01
"""Region of practical equivalence: differences up to this size count as equal."""
MANY = 25
"""The most methods of which every two are compared."""
SURE = 0.95
"""Probability from which something is stated without giving its probability."""


class Difference(NamedTuple):
    """One row of the table minus another, paired.

    Args:
        first, second: names of the rows, e.g. `kl` and `kl~placebo`.
        interval: mean of first − second with its interval; positive: the first is better.
        p: probabilities that the first is worse than, practically equal to and better than the second.
        term: the term that the first has and the second lacks, in an ablation; else "".
        placebo: in an ablation, the difference of their placebos, if both were run.
    """

    first: str
    second: str
    interval: Interval
    p: Probabilities
    term: str = ""
    placebo: Interval | None = None

    def describe(self, u: Unit) -> str:
        """The difference in words: "kl+pkdot − kl: +0.3 (−0.9 to +1.5), not shown to differ"."""
        i = self.interval
        head = f"{self.first} − {self.second}: {u.difference(i.mean)}"
        if not math.isfinite(i.half):
            return f"{head} (no interval: {i.note})"
        ends = f"({u.difference(i.low)} to {u.difference(i.high)})"
        if self.p.equal >= SURE:
            return f"{head} {ends}, practically equal"
        return f"{head} {ends}, {'better' if i.low > 0 else 'worse' if i.high < 0 else 'not shown to differ'}"


@renamed_keywords(labels="label_fraction")
def between(
    results: pd.DataFrame,
    first: str,
    second: str,
    label_fraction: float | None = None,
    metric: str | None = None,
    rope: float = ROPE,
    level: float = LEVEL,
) -> Difference:
    """Compare any two rows of the table, paired over fold and seed (over test groups with an official split).

    Args:
        results: one row per job, as `load_results` returns them.
        first, second: names of two rows: a method, "baseline", "teacher", or a control such as "kl~placebo".
        label_fraction: share of the training groups that keep their labels; None: the smallest that was compared.
        metric: the metric to compare; None: the task's first one.
        rope: differences up to this size count as equal, in units of the metric.
        level: confidence level of the interval, in (0, 1).

    Returns:
        The difference first − second; positive: the first is better.

    Raises:
        RunError: a row has no finished job.
    """
    b = get_budget(results, label_fraction, metric)
    for name in (first, second):
        if name not in b.rows:
            raise RunError(unknown("row", name, b.order))
    return subtract(b, first, second, rope, level)


def subtract(
    b: Budget, first: str, second: str, rope: float = ROPE, level: float = LEVEL, term: str = ""
) -> Difference:
    """The difference of two rows of a `Budget`."""
    p = b.probabilities(first, second, rope)
    return Difference(first, second, b.difference(first, second, level), p, term)


def list_differences(b: Budget, rope: float = ROPE, level: float = LEVEL) -> list[Difference]:
    """The differences of every two methods, then of methods to `warm-start` and `linear`, in the order of the table.

    Of more than `MANY` methods, those of the best one alone: nobody reads thousands.
    """
    beside = [name for name in (WARM_START, LINEAR) if name in b.rows]
    pairs = [*combinations(b.methods, 2), *((method, name) for name in beside for method in b.methods)]
    if len(b.methods) > MANY:
        pairs = [pair for pair in pairs if b.best in pair]
    return [subtract(b, first, second, rope, level) for first, second in pairs]


def ablate(b: Budget, rope: float = ROPE, level: float = LEVEL) -> tuple[Difference, ...]:
    """What each term of a sum adds: the sum minus the sum without the term, for every sum whose rest was run too.

    `kl+pkdot` − `pkdot` is what `kl` adds. What follows an @ stays.

    Args:
        b: the jobs at one label fraction.
        rope: largest difference that counts as equal.
        level: confidence level of the intervals, in (0, 1).
    """
    by_terms = {split_terms(name): name for name in b.methods}
    found = []
    for name in b.methods:
        terms, how = split_terms(name)
        for term in name.partition("@")[0].split("+"):
            rest = by_terms.get((terms - {term}, how))
            if len(terms) > 1 and rest is not None:
                added = subtract(b, name, rest, rope, level, term)
                placebos = f"{name}~placebo", f"{rest}~placebo"
                if all(row in b.rows for row in placebos):
                    added = added._replace(placebo=b.difference(*placebos, level))
                found.append(added)
    return tuple(found)


def split_terms(method: str) -> tuple[frozenset[str], str]:
    """The terms of a method's name, and what follows its @: `kl+pkdot@crossfit` -> ({kl, pkdot}, "crossfit")."""
    terms, _, how = method.partition("@")
    return frozenset(terms.split("+")), how
