"""Every method against the baseline, its controls beneath it, paired over fold × seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sidelight.errors import RunError, unknown
from sidelight.results.chance import Pair, TestSet, levels_of
from sidelight.results.remarks import BASELINE as BASELINE
from sidelight.results.remarks import TEACHER as TEACHER
from sidelight.results.remarks import Remark, remarks
from sidelight.results.statistics import UNDEFINED, Interval, Probabilities, correlated_t, gap_closed, nadeau_bengio
from sidelight.results.store import COSTS, KEYS
from sidelight.results.units import sign

ALL_LABELS = "all labels"
ROPE, LEVEL = 0.01, 0.95
PAIR = ["fold", "seed"]

OFFICIAL, LEAVE_ONE_OUT, BLOCKS = "official", "leave-one-group-out", "blocks"
COUNTED = {
    OFFICIAL: "seeds",
    LEAVE_ONE_OUT: "folds",
    BLOCKS: "folds",
}  # what n counts; elsewhere pairs of fold and seed
SAME_TEST = "a fold has the same test rows with every seed: seeds are averaged before the interval, n counts folds"
NOTES = {
    OFFICIAL: "one official test set: intervals cover what a seed draws (initial weights, order of batches; select "
    "rows and kept labels where they are drawn), not other test rows",
    LEAVE_ONE_OUT: SAME_TEST,
    BLOCKS: SAME_TEST,
}


def metric_columns(results: pd.DataFrame) -> list[str]:
    return [str(c) for c in results.columns if c not in KEYS and c not in COSTS]


def primary_metric(results: pd.DataFrame) -> str:
    """The metric that the comparison is about: the one that the jobs name, else the first one stored."""
    named, stored = results.attrs.get("primary"), metric_columns(results)
    if named in stored:
        return str(named)
    if not stored:
        raise RunError("no finished job has a metric yet: there is nothing to compare.")
    return stored[0]


def budgets(results: pd.DataFrame) -> list[float]:
    """The label budgets that are compared, smallest first; one that holds the baseline alone is only a reference."""
    compared = results[results["method"] != BASELINE]
    return sorted({round(float(share), 6) for share in (compared if len(compared) else results)["labels"]})


@dataclass
class Budget:
    """The jobs of one label budget: per row name (`kl`, `kl~placebo`) a frame indexed by (fold, seed).

    protocol: decides what may be counted as one difference. leave-one-group-out, blocks: a fold, its seeds averaged,
    because they share its test rows. official: a seed, without the correction for overlapping training sets.
    tests: what the test rows of each fold and seed give away.
    """

    labels: float
    metric: str
    rows: dict[str, pd.DataFrame]
    protocol: str = ""
    sign: int = 1  # −1 where a lower metric is better
    task: str = "classification"
    tests: Mapping[Pair, TestSet] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """The methods under test: no baseline, no teacher, no control; a variant stands after what it varies."""
        names = [n for n in self.rows if "~" not in n and n not in (BASELINE, TEACHER, ALL_LABELS)]
        plain = list(dict.fromkeys(n.split("@")[0] for n in names))
        return sorted(names, key=lambda n: (plain.index(n.split("@")[0]), "@" in n, names.index(n)))

    @property
    def best(self) -> str | None:
        """The method with the highest mean of `select` (never of the test score), over the pairs that all have."""
        frame = pd.DataFrame({m: self.rows[m]["select"] for m in self.methods})
        common = frame.dropna()
        means = (common if len(common) else frame).mean().dropna()
        return str(means.idxmax()) if len(means) else None

    @property
    def order(self) -> list[str]:
        """Row names as a table shows them."""
        controls = sorted(n for n in self.rows if "~" in n)
        unfinished = [m for c in controls if (m := c.split("~")[0]) not in self.rows and m != TEACHER]
        heads = dict.fromkeys([BASELINE, *self.methods, *unfinished, ALL_LABELS, TEACHER])
        names = [n for head in heads for n in (head, *(c for c in controls if c.split("~")[0] == head))]
        return [n for n in names if n in self.rows]

    def mean(self, name: str, metric: str) -> float:
        """A row's mean of any metric, as it was stored."""
        return float(self.rows[name][metric].dropna().mean())

    def pairs(self, name: str, *others: str) -> pd.DataFrame:
        """Scores side by side, signed so that higher is better, and `n_train`, `n_test`; NaN where one is missing.

        One line per fold and seed; one per fold, averaged over the seeds that have every side, where seeds share its
        test rows.
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
        """How many pairs of fold and seed lack one side."""
        return int(self._side_by_side(name, other).isna().any(axis=1).sum())

    def _side_by_side(self, *names: str) -> pd.DataFrame:
        return pd.DataFrame({n: self.rows[n][self.metric] * self.sign for n in names})

    def difference(self, name: str, other: str, level: float = LEVEL, pairs: pd.DataFrame | None = None) -> Interval:
        """Mean paired difference name − other with its corrected interval; positive is better.

        pairs: `self.pairs(name, other)`, where the caller has it already.
        """
        pairs = self.pairs(name, other) if pairs is None else pairs
        interval = nadeau_bengio(_difference(pairs, name, other), *_sizes(pairs), level=level)
        return interval._replace(dropped=self.missing(name, other))

    def against(self, name: str, scores: pd.Series, level: float = LEVEL) -> Interval:
        """Mean paired difference of a row to scores of the same folds and seeds, signed so that higher is better."""
        frame = self.rows[name]
        d, sizes = frame[self.metric] * self.sign - scores, frame[["n_train", "n_test"]]
        if COUNTED.get(self.protocol) == "folds":
            d, sizes = d.groupby(level="fold").mean(), sizes.groupby(level="fold").mean()
        d = d.reindex(sizes.index)
        n_test = 0 if self.protocol == OFFICIAL else sizes["n_test"].to_numpy(dtype=np.float64)
        return nadeau_bengio(d.to_numpy(), sizes["n_train"].to_numpy(dtype=np.float64), n_test, level=level)


def budget(results: pd.DataFrame, labels: float | None = None, metric: str | None = None) -> Budget:
    """The jobs of one label budget (by default the smallest), and the baseline with every label where it hides some."""
    if not len(results):
        raise RunError("no finished job yet: there is nothing to compare.")
    shares = sorted(set(results["labels"].astype(float)))
    chosen = budgets(results)[0] if labels is None else labels
    if not any(math.isclose(chosen, s, abs_tol=1e-6) for s in shares):
        raise RunError(unknown("label budget", chosen, shares))
    metric = metric or primary_metric(results)
    if metric not in metric_columns(results):
        raise RunError(unknown("metric", metric, metric_columns(results)))
    clean = results.assign(control=results["control"].fillna(""))
    clean.attrs = {}  # pandas copies them, deeply, in every step from here on: most of a comparison's time
    here = clean[np.isclose(clean["labels"], chosen)]
    names = here["method"] + here["control"].map(lambda c: f"~{c}" if c else "")
    rows = {str(n): _indexed(here[names == n]) for n in dict.fromkeys(names)}
    full = clean[(clean["method"] == BASELINE) & (clean["control"] == "") & np.isclose(clean["labels"], 1)]
    if chosen < 1 and len(full):
        rows[ALL_LABELS] = _indexed(full)
    direction = sign(metric, results.attrs.get("higher_is_better", {}))
    said = results.attrs
    task, tests = str(said.get("task", "classification")), said.get("tests", {})
    return Budget(float(chosen), metric, rows, str(said.get("protocol", "")), direction, task, tests)


@dataclass(frozen=True)
class Row:
    """One line of the comparison. `n` differences to the baseline; `mean`, `sd` of the metric as it was stored."""

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
    """The rows of one label budget, by name, in the order of the table; `budget` holds the jobs they were made of.

    note: what the protocol limits. chance: the metric's mean for answers that read no input, on the same test rows (NaN
    where it is not known). remarks: what makes the comparison say less than its numbers do.
    """

    metric: str
    labels: float
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


def compare(
    results: pd.DataFrame,
    labels: float | None = None,
    metric: str | None = None,
    rope: float = ROPE,
    level: float = LEVEL,
) -> Comparison:
    """The comparison behind `table`, `sentence`, `summary` and the report, with typed rows."""
    b = budget(results, labels, metric)
    best = b.best
    rows = {name: _row(b, name, name == best, rope, level) for name in b.order}
    chance = float(levels_of(b.tests, b.metric).mean())
    lead = rows[TEACHER].difference if TEACHER in rows else UNDEFINED
    doubts = remarks(b, lead, level, b.metric == primary_metric(results))
    note = NOTES.get(b.protocol, "")
    return Comparison(
        b.metric, b.labels, rope, level, best, b, rows, b.protocol, note, b.sign, b.task, chance, doubts
    )  # fmt: skip


def table(
    results: pd.DataFrame,
    labels: float | None = None,
    metric: str | None = None,
    rope: float = ROPE,
    level: float = LEVEL,
) -> pd.DataFrame:
    """The comparison at one label budget (by default the smallest), a row per method and control.

    Rows: baseline; each method with its controls beneath it; `all labels` (the baseline with every label) where
    labels were hidden; teacher. Columns:
    role, method, control, best (highest mean `select` among the methods);
    n, missing: differences to the baseline (one per fold and seed; per fold with leave-one-group-out and blocks, where
    seeds share test rows and are averaged), and pairs of fold and seed that lack one side;
    mean, sd: of the metric as stored;
    difference, low, high: to the baseline, paired, positive = better, with its corrected interval;
    p_worse, p_equal, p_better: equal = the difference is at most `rope` (0.01: one point of accuracy);
    gap, gap_low, gap_high: share of the teacher's lead over the baseline that is closed; NaN where that lead is not
    larger than its interval;
    effect, effect_low, effect_high: the privileged effect, method − its placebo;
    select: mean; seconds: median; note: what limits the row. `attrs`: `note` (what the protocol limits), `chance` (the
    metric's mean for answers that read no input) and `remarks` (what makes the comparison say less than its numbers).
    """
    c = compare(results, labels, metric, rope, level)
    frame = pd.DataFrame.from_dict({name: flat(row) for name, row in c.rows.items()}, orient="index")
    frame.attrs = {f.name: getattr(c, f.name) for f in fields(c) if f.name not in ("rows", "budget")}
    return frame


def flat(row: Row) -> dict[str, Any]:
    """A row as plain columns: the intervals and probabilities spread out."""
    d, g, e = row.difference, row.gap, row.effect
    out: dict[str, Any] = {
        k: getattr(row, k) for k in ("role", "method", "control", "best", "n", "missing", "mean", "sd")
    }
    out |= {"difference": d.mean, "low": d.low, "high": d.high}
    out |= {"p_worse": row.p.worse, "p_equal": row.p.equal, "p_better": row.p.better}
    out |= {"gap": g.mean, "gap_low": g.low, "gap_high": g.high}
    out |= {"effect": e.mean, "effect_low": e.low, "effect_high": e.high}
    return out | {"select": row.select, "seconds": row.seconds, "note": row.note}


def _row(b: Budget, name: str, best: bool, rope: float, level: float) -> Row:
    method, _, control = name.partition("~")
    frame = b.rows[name]
    values = frame[b.metric].dropna()
    difference = gap = effect = UNDEFINED
    p = Probabilities(math.nan, math.nan, math.nan)
    if name != BASELINE and BASELINE in b.rows:
        pairs = b.pairs(name, BASELINE)
        difference = b.difference(name, BASELINE, level, pairs)
        p = correlated_t(_difference(pairs, name, BASELINE), *_sizes(pairs), rope=rope)
        if method != TEACHER and TEACHER in b.rows:
            three = b.pairs(name, BASELINE, TEACHER)
            gap = gap_closed(three[name], three[BASELINE], three[TEACHER], *_sizes(three), level=level)
    if not control and f"{name}~placebo" in b.rows:
        effect = b.difference(name, f"{name}~placebo", level)
    return Row(
        role={BASELINE: "baseline", TEACHER: "teacher", ALL_LABELS: "reference"}.get(
            name, "control" if control else "method"
        ),
        method=BASELINE if name == ALL_LABELS else method,
        control=control,
        best=best,
        n=int(b.pairs(name)[name].count()) if difference is UNDEFINED else difference.n,
        missing=difference.dropped,
        mean=b.mean(name, b.metric),
        sd=float(values.std(ddof=1)) if len(values) > 1 else math.nan,
        difference=difference,
        p=p,
        gap=gap,
        effect=effect,
        select=float(frame["select"].mean()),
        seconds=float(frame["seconds"].median()),
        note="; ".join(dict.fromkeys(i.note for i in (difference, gap, effect) if i.note)),
    )


def _indexed(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop_duplicates(PAIR).set_index(PAIR).sort_index()


def _difference(pairs: pd.DataFrame, name: str, other: str) -> NDArray:
    return (pairs[name] - pairs[other]).to_numpy(dtype=np.float64)


def _sizes(pairs: pd.DataFrame) -> tuple[NDArray, NDArray]:
    return pairs["n_train"].to_numpy(dtype=np.float64), pairs["n_test"].to_numpy(dtype=np.float64)
