"""The jobs at one label fraction, paired over fold and seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sidelight.errors import RunError, unknown
from sidelight.results.chance import Pair, TestSet
from sidelight.results.job import CHOSEN, SEEN
from sidelight.results.statistics import Interval, nadeau_bengio
from sidelight.results.store import COSTS, FACTS, KEYS
from sidelight.results.units import sign
from sidelight.utils.keywords import renamed_keywords

BASELINE, TEACHER, ALL_LABELS = "baseline", "teacher", "all labels"
LEVEL = 0.95
PAIR = ["fold", "seed"]

OFFICIAL, LEAVE_ONE_OUT, BLOCKS = "official", "leave-one-group-out", "blocks"
COUNTED = {OFFICIAL: "seeds", LEAVE_ONE_OUT: "folds", BLOCKS: "folds"}
"""Protocol -> what `n` counts; with other protocols, pairs of fold and seed."""


def metric_columns(results: pd.DataFrame) -> list[str]:
    """The columns of `results` that are metrics."""
    others = {*KEYS, *COSTS, *FACTS, CHOSEN}
    return [str(c) for c in results.columns if c not in others and not str(c).startswith(SEEN)]


def primary_metric(results: pd.DataFrame) -> str:
    """The metric to compare: the one that the jobs name, else the first one stored."""
    named, stored = results.attrs.get("primary"), metric_columns(results)
    if named in stored:
        return str(named)
    if not stored:
        raise RunError("no finished job has a metric yet, so nothing can be compared.")
    return stored[0]


def budgets(results: pd.DataFrame) -> list[float]:
    """The label fractions to compare, smallest first; one that only the baseline has is a reference and left out."""
    compared = results[results["method"] != BASELINE]
    shares = (compared if len(compared) else results)["labels"]
    return sorted({round(float(share), 6) for share in shares})


@dataclass
class Budget:
    """The jobs at one label fraction.

    Args:
        label_fraction: share of the training groups that keep their labels, in (0, 1].
        metric: the metric that is compared.
        rows: name of a row of the table (`kl`, `kl~placebo`) -> its jobs, indexed by (fold, seed).
        protocol: decides what counts as one difference. With "leave-one-group-out" and "blocks" it is a fold, averaged
            over its seeds, which share its test rows. With "official" it is a seed, and intervals are not corrected for
            overlapping training sets. Otherwise it is a pair of fold and seed.
        sign: +1, or −1 if a lower metric is better.
        task: the task's name.
        tests: (fold, seed) -> chance levels of the test rows.
    """

    label_fraction: float
    metric: str
    rows: dict[str, pd.DataFrame]
    protocol: str = ""
    sign: int = 1
    task: str = "classification"
    tests: Mapping[Pair, TestSet] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """The compared methods, without baseline, teacher and controls; `kl@crossfit` follows `kl`."""
        names = [n for n in self.rows if "~" not in n and n not in (BASELINE, TEACHER, ALL_LABELS)]
        plain = list(dict.fromkeys(n.split("@")[0] for n in names))
        return sorted(names, key=lambda n: (plain.index(n.split("@")[0]), "@" in n, names.index(n)))

    @property
    def best(self) -> str | None:
        """The method with the highest mean `select` score over the pairs that all methods have."""
        frame = pd.DataFrame({m: self.rows[m]["select"] for m in self.methods})
        common = frame.dropna()
        means = (common if len(common) else frame).mean().dropna()
        return str(means.idxmax()) if len(means) else None

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
        for head in dict.fromkeys([*heads, ALL_LABELS, TEACHER]):
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
        wide = self._side_by_side(name, *others)
        sizes = self.rows[name].reindex(wide.index)[["n_train", "n_test"]]
        wide = wide.assign(**{str(c): sizes[c].fillna(sizes[c].mean()) for c in sizes})
        if self.protocol == OFFICIAL:
            return wide.assign(n_test=0)
        if COUNTED.get(self.protocol) == "folds":
            folds = wide.index.get_level_values("fold").unique()
            return wide.dropna().groupby(level="fold").mean().reindex(folds)
        return wide

    def missing(self, name: str, other: str) -> int:
        """Number of pairs of fold and seed in which one of two rows is missing."""
        return int(self._side_by_side(name, other).isna().any(axis=1).sum())

    def _side_by_side(self, *names: str) -> pd.DataFrame:
        return pd.DataFrame({n: self.rows[n][self.metric] * self.sign for n in names})

    def difference(self, name: str, other: str, level: float = LEVEL, pairs: pd.DataFrame | None = None) -> Interval:
        """Mean paired difference `name` − `other` with its corrected interval; positive is better.

        Args:
            name, other: two rows.
            level: confidence level of the interval, in (0, 1).
            pairs: `self.pairs(name, other)`, to save computing it again.
        """
        pairs = self.pairs(name, other) if pairs is None else pairs
        interval = nadeau_bengio(paired_difference(pairs, name, other), *set_sizes(pairs), level=level)
        return interval._replace(dropped=self.missing(name, other))

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
    return (pairs[name] - pairs[other]).to_numpy(dtype=np.float64)


def set_sizes(pairs: pd.DataFrame) -> tuple[NDArray, NDArray]:
    """(n,) number of train rows and (n,) number of test rows of each line of `Budget.pairs`."""
    return pairs["n_train"].to_numpy(dtype=np.float64), pairs["n_test"].to_numpy(dtype=np.float64)


@renamed_keywords(labels="label_fraction")
def get_budget(results: pd.DataFrame, label_fraction: float | None = None, metric: str | None = None) -> Budget:
    """The jobs at one label fraction; if it hides labels, also the baseline with every label.

    Args:
        results: one row per job, as `load_results` returns them.
        label_fraction: share of the training groups that keep their labels; None: the smallest that was compared.
        metric: the metric to compare; None: the task's first one.

    Raises:
        RunError: no job has finished, or none has this label fraction or metric.
    """
    if not len(results):
        raise RunError("no job has finished yet, so nothing can be compared.")
    shares = sorted(set(results["labels"].astype(float)))
    share = budgets(results)[0] if label_fraction is None else label_fraction
    if not any(math.isclose(share, s, abs_tol=1e-6) for s in shares):
        raise RunError(unknown("label fraction", share, shares))
    metric = metric or primary_metric(results)
    if metric not in metric_columns(results):
        raise RunError(unknown("metric", metric, metric_columns(results)))

    clean = results.assign(control=results["control"].fillna(""))
    clean.attrs = {}  # pandas deep-copies them in every step below, which would take most of the time
    here = clean[np.isclose(clean["labels"], share)]
    names = here["method"] + here["control"].map(lambda c: f"~{c}" if c else "")
    rows = {str(n): _by_pair(here[names == n]) for n in dict.fromkeys(names)}

    full = clean[(clean["method"] == BASELINE) & (clean["control"] == "") & np.isclose(clean["labels"], 1)]
    if share < 1 and len(full):
        rows[ALL_LABELS] = _by_pair(full)
    attrs = results.attrs
    return Budget(
        label_fraction=float(share),
        metric=metric,
        rows=rows,
        protocol=str(attrs.get("protocol", "")),
        sign=sign(metric, attrs.get("higher_is_better", {})),
        task=str(attrs.get("task", "classification")),
        tests=attrs.get("tests", {}),
    )


def _by_pair(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop_duplicates(PAIR).set_index(PAIR).sort_index()
