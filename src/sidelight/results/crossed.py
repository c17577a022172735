"""Statistics of differences over test groups × seeds: one official test set, which every seed repeats.

The spread over seeds says nothing about other test rows, and the spread over test groups nothing about other seeds. A
table of effects, groups × seeds, has both: effect_gs = μ + group_g + seed_s + rest_gs. Of its mean squares
MS_group, MS_seed and MS_rest (analysis of variance of two crossed random factors without replication), the variance of
the grand mean is σ²_group/G + σ²_seed/S + σ²_rest/(G S), which (MS_group + MS_seed − MS_rest)/(G S) estimates without
bias.
Source: Searle, Casella & McCulloch (1992), "Variance components", ch. 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sidelight.results.statistics import (
    NO_GAP,
    NO_LEAD,
    SAME,
    UNDEFINED,
    Interval,
    Probabilities,
    student_quantile,
)


def pseudo_values(whole: NDArray, without: NDArray) -> NDArray:
    """Jackknife effects of the groups: θ_gs = G · θ_s − (G − 1) · θ_(−g)s; their mean over groups is near θ_s.

    For a mean over groups of equal size (accuracy), θ_gs is the group's own value; the t over them is then the plain t
    over groups. For any other smooth metric (macro-F1, CCC) their variance is that of the metric.
    Source: Tukey (1958); Efron & Tibshirani (1993), "An introduction to the bootstrap", ch. 11.

    Args:
        whole: (S,) the difference over all test rows, by seed.
        without: (G, S) the difference over the test rows of all other groups.
    """
    groups = len(without)
    return np.asarray(groups * whole - (groups - 1) * without)


def crossed_variance(effects: NDArray) -> tuple[float, float]:
    """Variance of the mean of a groups × seeds table, and its degrees of freedom.

    (MS_group + max(MS_seed − MS_rest, 0)) / (G S); degrees of freedom by Satterthwaite (1946):
    V² / Σ (part² / df of the part). Never below what the groups alone say.

    Args:
        effects: (G, S) with at least two groups and two seeds.
    """
    g, s = effects.shape
    a, b, rest = (float(m[0, 0]) for m in _mean_squares([effects]))
    if b <= rest:
        return a / (g * s), g - 1
    parts = a**2 / (g - 1) + b**2 / (s - 1) + rest**2 / ((g - 1) * (s - 1))
    return (a + b - rest) / (g * s), (a + b - rest) ** 2 / parts


def _mean_squares(tables: Sequence[NDArray]) -> tuple[NDArray, NDArray, NDArray]:
    """(k, k) mean squares and products of k tables over groups, over seeds, and of the rest."""
    x = np.stack(tables)
    _, g, s = x.shape
    rows, columns, grand = x.mean(2, keepdims=True), x.mean(1, keepdims=True), x.mean((1, 2), keepdims=True)

    def product(part: NDArray, times: int, df: int) -> NDArray:
        flat = part.reshape(len(x), -1)
        return np.asarray(flat @ flat.T * times / df)

    rest = product(x - rows - columns + grand, 1, (g - 1) * (s - 1))
    return product(rows - grand, s, g - 1), product(columns - grand, g, s - 1), rest


def crossed_interval(mean: float, effects: NDArray, level: float) -> Interval:
    """Interval of a mean difference over other test groups and other seeds: mean ± t_df · √V, `crossed_variance`.

    Args:
        mean: the mean difference over seeds.
        effects: (G, S) effects of the groups, by seed, from `pseudo_values`.
        level: confidence level, in (0, 1).
    """
    groups = len(effects)
    variance, df = crossed_variance(effects)
    if variance <= 1e-24:
        return Interval(mean, -math.inf, math.inf, groups, note=SAME)
    half = student_quantile(level, df) * math.sqrt(variance)
    return Interval(mean, mean - half, mean + half, groups)


def crossed_t(mean: float, effects: NDArray, rope: float) -> Probabilities:
    """Probabilities that the true difference is worse, practically equal (|difference| ≤ rope) and better.

    The posterior is a Student t with the location, squared scale and degrees of freedom of `crossed_interval`.

    Args:
        mean, effects: as in `crossed_interval`.
        rope: largest difference that counts as equal.
    """
    variance, df = crossed_variance(effects)
    if variance <= 1e-24:
        return Probabilities(math.nan, math.nan, math.nan)
    worse, better = (float(special.stdtr(df, (-rope + turn * mean) / math.sqrt(variance))) for turn in (-1, 1))
    return Probabilities(worse, max(0.0, 1 - worse - better), better)


def crossed_gap(gain: float, lead: float, gains: NDArray, leads: NDArray, level: float) -> Interval:
    """Share of the teacher's lead that the student closes, gain / lead, with Fieller's interval over groups and seeds.

    Args:
        gain, lead: mean differences of student and teacher to the baseline.
        gains, leads: (G, S) their effects, from `pseudo_values`.
        level: confidence level, in (0, 1).

    Returns:
        The share; NaN with a note unless the lead is larger than the half width of its interval.
    """
    g, s = gains.shape
    undefined = UNDEFINED._replace(n=g)
    if lead <= 1e-12:
        return undefined._replace(note=NO_GAP)
    over_groups, over_seeds, rest = _mean_squares([gains, leads])
    values, vectors = np.linalg.eigh(over_seeds - rest)
    variance = (over_groups + vectors * np.maximum(values, 0) @ vectors.T) / (g * s)
    if variance[1, 1] <= 1e-24:
        return undefined._replace(note=SAME)
    df = min(crossed_variance(gains)[1], crossed_variance(leads)[1])
    covariance = variance * student_quantile(level, df) ** 2
    a = lead**2 - covariance[1, 1]
    if a <= 0:
        return undefined._replace(note=NO_LEAD)
    middle = gain * lead - covariance[0, 1]
    root = math.sqrt(max(0.0, middle**2 - a * (gain**2 - covariance[0, 0])))
    return Interval(gain / lead, (middle - root) / a, (middle + root) / a, g)
