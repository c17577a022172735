"""The jobs at one label fraction, paired over fold and seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sidelight.results.chance import Pair, TestSet
from sidelight.results.crossed import crossed_gap, crossed_interval, crossed_t, pseudo_values
from sidelight.results.group_scores import GroupScores
from sidelight.results.statistics import (
    UNDEFINED,
    Interval,
    Probabilities,
    correlated_t,
    gap_closed,
    nadeau_bengio,
)

BASELINE, TEACHER, ALL_LABELS = "baseline", "teacher", "all labels"
MAJORITY, LINEAR, BOOSTED, WARM_START = REFERENCES = ("majority", "linear", "boosted", "warm-start")
"""Rows beside the methods (the setting `reference`), which are not compared for the best."""
WITHOUT_NETWORK = (MAJORITY, LINEAR, BOOSTED)
"""Reference rows that are no networks, so that nothing is chosen on select rows."""
LEVEL = 0.95
PAIR = ["fold", "seed"]

OFFICIAL, LEAVE_ONE_OUT, BLOCKS, FORWARD = "official", "leave-one-group-out", "blocks", "forward"
COUNTED = {OFFICIAL: "seeds", LEAVE_ONE_OUT: "folds", BLOCKS: "folds", FORWARD: "folds"}
"""Protocol -> what `n` counts; with other protocols, pairs of fold and seed. See also `Budget.counted`."""
NO_PREDICTIONS = "one test set, and no predictions to tell its groups apart: no verdict"
LEAST_SEEDS = 3
"""Seeds of an official split for a verdict: with two, lucky trainings alone "improve" too often."""
TOO_FEW_SEEDS = f"two seeds do not show the luck of trainings: no verdict with fewer than {LEAST_SEEDS}"
NO_PROBABILITIES = Probabilities(math.nan, math.nan, math.nan)


@dataclass
class Budget:
    """The jobs at one label fraction.

    Args:
        label_fraction: share of the training groups that keep their labels, in (0, 1].
        metric: the metric that is compared.
        rows: name of a row of the table (`kl`, `kl~placebo`) -> its jobs, indexed by (fold, seed).
        protocol: decides what counts as one difference. With "leave-one-group-out" and "blocks" it is a fold, averaged
            over its seeds, which share its test rows. With "official" it is a test group, crossed with the seeds
            (`sidelight.results.crossed`). Otherwise it is a pair of fold and seed.
        sign: +1, or −1 if a lower metric is better.
        task: the task's name.
        tests: (fold, seed) -> chance levels of the test rows.
        groups: row of the table -> (fold, seed) -> metrics without each test group, with an official split.
    """

    label_fraction: float
    metric: str
    rows: dict[str, pd.DataFrame]
    protocol: str = ""
    sign: int = 1
    task: str = "classification"
    tests: Mapping[Pair, TestSet] = field(default_factory=dict)
    groups: Mapping[str, Mapping[Pair, GroupScores]] = field(default_factory=dict)
    _scores: dict[tuple[str, ...], pd.DataFrame] = field(default_factory=dict, init=False, repr=False, compare=False)
    _pairs: dict[tuple[str, ...], pd.DataFrame] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def counted(self) -> str:
        """What intervals count: "pairs" (of fold and seed), "folds", test "groups", "blocks" of test rows, "seeds"."""
        if self.protocol != OFFICIAL:
            return COUNTED.get(self.protocol, "pairs")
        units = {scores.unit for of_row in self.groups.values() for scores in of_row.values() if not scores.reason}
        return units.pop() if len(units) == 1 else "seeds"

    @property
    def methods(self) -> list[str]:
        """The compared methods, without baseline, teacher, references and controls; `kl@crossfit` follows `kl`."""
        others = (BASELINE, TEACHER, ALL_LABELS, *REFERENCES)
        names = [n for n in self.rows if "~" not in n and n not in others]
        plain = list(dict.fromkeys(n.split("@")[0] for n in names))
        return sorted(names, key=lambda n: (plain.index(n.split("@")[0]), "@" in n, names.index(n)))

    @property
    def best(self) -> str | None:
        """The method with the highest mean `select` score over the pairs that all methods have.

        Where there is no such pair, those that have finished the fewest are left out one by one.
        """
        frame = self._beside("select", self.methods)
        while len(frame.columns) and not len(frame.dropna()):
            frame = frame.drop(columns=str(frame.count()[::-1].idxmin()))
        return str(frame.dropna().mean().idxmax()) if len(frame.columns) else None

    @property
    def order(self) -> list[str]:
        """Row names in the order of the table."""
        controls = sorted(n for n in self.rows if "~" in n)
        # A control may have finished before its method.
        heads = [BASELINE, *self.methods]
        for control in controls:
            method = control.split("~")[0]
            if method not in self.rows and method != TEACHER:
                heads.append(method)
        names = []
        for head in dict.fromkeys([*heads, *REFERENCES, ALL_LABELS, TEACHER]):
            names += [head, *(c for c in controls if c.split("~")[0] == head)]
        return [n for n in names if n in self.rows]

    def mean(self, name: str, metric: str) -> float:
        """A row's mean of any metric, as stored (not signed)."""
        return float(self.rows[name][metric].dropna().mean())

    def pairs(self, name: str, *others: str) -> pd.DataFrame:
        """Put the scores of several rows side by side, signed so that higher is better.

        Args:
            name: a row; the sizes `n_train` and `n_test` are those of its jobs.
            others: rows to compare it with.

        Returns:
            A column per row, `n_train` and `n_test`; NaN where a job is missing. One line per fold and seed. Where
            seeds share a fold's test rows, one line per fold, averaged over the seeds that have every row.
        """
        names = (name, *others)
        if names not in self._pairs:  # interval, probabilities and p-value of a row ask for the same
            self._pairs[names] = self._make_pairs(*names)
        return self._pairs[names]

    def _make_pairs(self, name: str, *others: str) -> pd.DataFrame:
        scores, frame = self._side_by_side(name, *others), self.rows[name]
        columns = {str(n): x.to_numpy() for n, x in scores.items()}
        same = frame.index.equals(scores.index)
        for size in ("n_train", "n_test"):
            x = frame[size] if same else frame[size].reindex(scores.index)
            columns[size] = (x.fillna(x.mean()) if x.hasnans else x).to_numpy()
        wide = pd.DataFrame(columns, index=scores.index)
        if self.protocol == OFFICIAL:
            return wide.assign(n_test=0)
        if COUNTED.get(self.protocol) == "folds":
            folds = wide.index.get_level_values("fold").unique()
            return wide.dropna().groupby(level="fold").mean().reindex(folds)
        return wide

    def count(self, name: str) -> int:
        """How many of what `counted` names a row has."""
        units = [len(scores.names) for scores in self.groups.get(name, {}).values() if not scores.reason]
        return max(units) if units else int(self.pairs(name)[name].count())

    def missing(self, name: str, other: str) -> int:
        """Number of pairs of fold and seed in which one of two rows is missing."""
        return int(self._side_by_side(name, other).isna().to_numpy().any(axis=1).sum())

    def _side_by_side(self, *names: str) -> pd.DataFrame:
        if names not in self._scores:
            self._scores[names] = self._beside(self.metric, names, self.sign)
        return self._scores[names]

    def _beside(self, column: str, names: Sequence[str], sign: int = 1) -> pd.DataFrame:
        """One column of several rows, side by side; NaN where a job is missing."""
        indices = [self.rows[n].index for n in names]
        if indices and all(index.equals(indices[0]) for index in indices[1:]):  # nothing to align, which takes long
            return pd.DataFrame({n: self.rows[n][column].to_numpy() * sign for n in names}, index=indices[0])
        return pd.DataFrame({n: self.rows[n][column] * sign for n in names})

    def difference(self, name: str, other: str, level: float = LEVEL, pairs: pd.DataFrame | None = None) -> Interval:
        """Mean paired difference `name` − `other` with its corrected interval; positive is better.

        Args:
            name, other: two rows.
            level: confidence level of the interval, in (0, 1).
            pairs: `self.pairs(name, other)`, to save computing it again.
        """
        if self.protocol == OFFICIAL:
            found = self.effects(name, other)
            interval = found if isinstance(found, Interval) else crossed_interval(*found, level=level)
        else:
            pairs = self.pairs(name, other) if pairs is None else pairs
            interval = nadeau_bengio(paired_difference(pairs, name, other), *set_sizes(pairs), level=level)
        return interval._replace(dropped=self.missing(name, other))

    def probabilities(self, name: str, other: str, rope: float) -> Probabilities:
        """Probabilities that `name` is worse than, practically equal to and better than `other`; NaN if unknown.

        Args:
            name, other: two rows.
            rope: largest difference that counts as equal.
        """
        if self.protocol == OFFICIAL:
            found = self.effects(name, other)
            return NO_PROBABILITIES if isinstance(found, Interval) else crossed_t(*found, rope=rope)
        pairs = self.pairs(name, other)
        return correlated_t(paired_difference(pairs, name, other), *set_sizes(pairs), rope=rope)

    def p_value(self, name: str, other: str) -> float:
        """Two-sided p of no difference: twice the smaller tail beyond 0 of the t that gives the interval."""
        p = self.probabilities(name, other, rope=0.0)
        return 2 * min(p.worse, p.better)

    def gap(self, name: str, level: float = LEVEL) -> Interval:
        """The share of the teacher's lead over the baseline that a row closes, with Fieller's interval."""
        if self.protocol == OFFICIAL:
            gains, leads = self.effects(name, BASELINE), self.effects(TEACHER, BASELINE)
            for found in (gains, leads):
                if isinstance(found, Interval):
                    return UNDEFINED._replace(n=found.n, note=found.note)
            (gain, of_student), (lead, of_teacher) = gains, leads  # type: ignore[misc]
            if of_student.shape != of_teacher.shape:
                return UNDEFINED._replace(note="student and teacher have not finished the same seeds")
            return crossed_gap(gain, lead, of_student, of_teacher, level)
        three = self.pairs(name, BASELINE, TEACHER)
        return gap_closed(three[name], three[BASELINE], three[TEACHER], *set_sizes(three), level=level)

    def effects(self, name: str, other: str) -> tuple[float, NDArray] | Interval:
        """The difference of two rows, and the (G, S) effects of the test groups, by seed, in an official split.

        Returns:
            Mean difference and effects (`pseudo_values`); or an interval without ends whose note says why there are
            none.
        """
        pairs = self._side_by_side(name, other).dropna()
        whole = (pairs[name] - pairs[other]).to_numpy(dtype=np.float64)
        if not len(whole):
            return UNDEFINED._replace(note="no pairs")
        unknown = Interval(float(whole.mean()), -math.inf, math.inf, len(whole))
        if len(whole) == 1:
            return unknown._replace(note="one pair: no interval")
        scores = [[self.groups.get(row, {}).get(pair) for pair in pairs.index] for row in (name, other)]
        jobs = [job for row in scores for job in row if job is not None]
        if len(jobs) < 2 * len(whole):
            return unknown._replace(note=NO_PREDICTIONS)
        if reason := next((job.reason for job in jobs if job.reason), ""):
            return unknown._replace(note=f"one test set, no verdict: {reason}")
        if len({job.names for job in jobs}) > 1 or any(self.metric not in job.without for job in jobs):
            return unknown._replace(note="one test set, no verdict: this metric has no scores by test group")
        if len(whole) < LEAST_SEEDS:
            return unknown._replace(n=len(jobs[0].names), note=TOO_FEW_SEEDS)
        ours, theirs = (np.stack([j.without[self.metric] for j in row if j is not None], axis=1) for row in scores)
        effects = pseudo_values(whole, (ours - theirs) * self.sign)
        if not np.isfinite(effects).all():
            return unknown._replace(note="one test set, no verdict: the metric is undefined without one of its groups")
        return float(whole.mean()), effects

    def against(self, name: str, scores: pd.Series, level: float = LEVEL) -> Interval:
        """Mean paired difference of a row to given scores, with its corrected interval; positive is better.

        Args:
            name: a row.
            scores: scores by (fold, seed), signed so that higher is better.
            level: confidence level of the interval, in (0, 1).
        """
        frame = self.rows[name]
        d, sizes = frame[self.metric] * self.sign - scores, frame[["n_train", "n_test"]]
        if COUNTED.get(self.protocol) == "folds":
            d, sizes = d.groupby(level="fold").mean(), sizes.groupby(level="fold").mean()
        d = d.reindex(sizes.index)
        n_test = 0 if self.protocol == OFFICIAL else sizes["n_test"].to_numpy(dtype=np.float64)
        return nadeau_bengio(d.to_numpy(), sizes["n_train"].to_numpy(dtype=np.float64), n_test, level=level)


def paired_difference(pairs: pd.DataFrame, name: str, other: str) -> NDArray:
    """(n,) the differences of two columns of `Budget.pairs`."""
    difference: NDArray = pairs[name].to_numpy(dtype=np.float64) - pairs[other].to_numpy(dtype=np.float64)
    return difference


def set_sizes(pairs: pd.DataFrame) -> tuple[NDArray, NDArray]:
    """(n,) number of train rows and (n,) number of test rows of each line of `Budget.pairs`."""
    return pairs["n_train"].to_numpy(dtype=np.float64), pairs["n_test"].to_numpy(dtype=np.float64)
