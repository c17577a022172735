"""Every metric of a comparison against the baseline, not only the one that is compared and chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from sidelight.results.budget import BASELINE, LEVEL, Budget
from sidelight.results.statistics import UNDEFINED, Interval
from sidelight.results.units import sign


class MetricScore(NamedTuple):
    """A row's mean of a metric, as stored, and its paired difference to the baseline; positive is better."""

    mean: float
    difference: Interval


def compare_metrics(
    results: pd.DataFrame, b: Budget, metrics: Sequence[str], level: float = LEVEL
) -> dict[str, dict[str, MetricScore]]:
    """Compare every row with the baseline in every metric; nothing is chosen by them, and no interval is adjusted.

    Args:
        results: one row per job, as `load_results` returns them; they say which metrics are better low.
        b: the jobs at one label fraction.
        metrics: the metrics.
        level: confidence level of the intervals, in (0, 1).

    Returns:
        Metric -> name of the row -> its score, in the order of the table.
    """
    higher = results.attrs.get("higher_is_better", {})
    found = {}
    for metric in metrics:
        own = b if metric == b.metric else replace(b, metric=metric, sign=sign(metric, higher))
        scores = {}
        for name in b.order:
            compared = name != BASELINE and BASELINE in b.rows
            difference = own.difference(name, BASELINE, level) if compared else UNDEFINED
            scores[name] = MetricScore(b.mean(name, metric), difference)
        found[metric] = scores
    return found
