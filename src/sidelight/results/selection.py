"""Select the jobs of a label fraction and a metric from the results."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from sidelight.errors import RunError, unknown
from sidelight.results.budget import ALL_LABELS, BASELINE, PAIR, Budget
from sidelight.results.chance import Pair
from sidelight.results.group_scores import GroupScores
from sidelight.results.job import CHOSEN, DRAWS, SEEN, job_id
from sidelight.results.store import COSTS, FACTS, KEYS
from sidelight.results.units import sign
from sidelight.utils.keywords import renamed_keywords


def metric_columns(results: pd.DataFrame) -> list[str]:
    """The columns of `results` that are metrics."""
    others = {*KEYS, *COSTS, *FACTS, CHOSEN, DRAWS}
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
    clean = clean.set_index(PAIR)
    here = clean[np.isclose(clean["labels"], share)]
    names = here["method"] + here["control"].map(lambda c: f"~{c}" if c else "")
    rows = {str(n): _by_pair(here[names == n]) for n in dict.fromkeys(names)}
    stored = results.attrs.get("groups", {})

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
        groups={name: _scores_of(frame, stored) for name, frame in rows.items()} if stored else {},
    )


def _scores_of(frame: pd.DataFrame, stored: Mapping[str, GroupScores]) -> dict[Pair, GroupScores]:
    """(fold, seed) -> the group scores of a row's jobs."""
    found = {}
    for pair, method, control, labels in zip(frame.index, frame["method"], frame["control"], frame["labels"]):
        scores = stored.get(job_id(str(method), str(control), float(labels), *pair))
        if scores is not None:
            found[pair] = scores
    return found


def _by_pair(frame: pd.DataFrame) -> pd.DataFrame:
    """A row's jobs in the order of fold and seed; of two of one pair, the first."""
    return (frame if frame.index.is_unique else frame[~frame.index.duplicated()]).sort_index()
