"""Paired statistics for scores from overlapping training sets (cross-validation folds, repeated over seeds).

Differences of the folds of one data set are not independent: their training sets share most rows. A plain t interval
is then far too narrow. The functions below assume that any two differences correlate by ρ = n_test/(n_train + n_test)
(Nadeau & Bengio 2003) and widen the variance of their mean from s²/n to s² (1/n + ρ/(1 − ρ)), which is
s² (1/n + n_test/n_train). With n_test = 0 nothing is widened: plain t, for differences that are independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

SizeLike = float | Sequence[float] | NDArray


class Interval(NamedTuple):
    """An estimate with its interval, the number of pairs behind it, the number of missing pairs, and what limits it."""

    mean: float
    low: float
    high: float
    n: int = 0
    dropped: int = 0
    note: str = ""

    @property
    def half(self) -> float:
        """Half the width (the interval of a difference is symmetric about its mean)."""
        return (self.high - self.low) / 2


UNDEFINED = Interval(math.nan, math.nan, math.nan)
SAME = "all differences are the same: no variance to judge by"
NO_GAP = "no lead to reach: the teacher is not above the baseline"
NO_LEAD = "no share of the lead: the teacher's lead over the baseline is smaller than its interval"


class Probabilities(NamedTuple):
    """Posterior probabilities that the difference is below, inside or above the region of practical equivalence."""

    worse: float
    equal: float
    better: float


def _finite(*columns: ArrayLike) -> tuple[list[NDArray], int]:
    """The columns without the rows in which any is NaN, and the number of rows dropped."""
    arrays = np.broadcast_arrays(*(np.asarray(c, dtype=np.float64).reshape(-1) for c in columns))
    keep = np.logical_and.reduce([np.isfinite(a) for a in arrays])
    return [a[keep] for a in arrays], int((~keep).sum())


def _ratio(n_train: NDArray, n_test: NDArray) -> float:
    if (n_train <= 0).any() or (n_test < 0).any():
        raise ValueError("n_train must be positive, n_test positive or 0: the correction is n_test / n_train.")
    return float(np.mean(n_test / n_train))


def student_quantile(level: float, df: float) -> float:
    """t with P(|T| ≤ t) = level for Student's T with `df` degrees of freedom."""
    return float(special.stdtrit(df, (1 + level) / 2))


def nadeau_bengio(differences: ArrayLike, n_train: SizeLike, n_test: SizeLike, level: float = 0.95) -> Interval:
    """Interval of the mean difference by the corrected resampled t.

    mean ± t_{n−1} · sqrt(s² (1/n + n_test/n_train)), s² with n − 1 in the denominator; n_test/n_train is averaged over
    the pairs. With one pair, or with differences that are all the same (s = 0 gives no estimate of their spread), the
    interval is infinite and has a note.
    Source: Nadeau & Bengio (2003), "Inference for the generalization error", Machine Learning 52.

    Args:
        differences: (n,) paired differences; NaN ones are dropped and counted.
        n_train: number of train rows, one for all pairs or (n,).
        n_test: number of test rows, one for all pairs or (n,); 0 for independent differences.
        level: confidence level of the interval, in (0, 1).
    """
    (d, train, test), dropped = _finite(differences, n_train, n_test)
    n = len(d)
    if n == 0:
        return UNDEFINED._replace(dropped=dropped, note="no pairs")
    mean = float(d.mean())
    if n == 1:
        return Interval(mean, -math.inf, math.inf, 1, dropped, "one pair: no interval")
    variance = float(d.var(ddof=1))
    if _constant(d):
        return Interval(mean, -math.inf, math.inf, n, dropped, SAME)
    half = student_quantile(level, n - 1) * math.sqrt(variance * (1 / n + _ratio(train, test)))
    return Interval(mean, mean - half, mean + half, n, dropped)


def correlated_t(differences: ArrayLike, n_train: SizeLike, n_test: SizeLike, rope: float) -> Probabilities:
    """Probabilities that the true difference is worse, practically equal (|difference| ≤ rope) and better.

    The posterior of the correlated Bayesian t-test is a Student t with n − 1 degrees of freedom, the mean difference
    as its location and s² (1/n + ρ/(1 − ρ)) as its squared scale, ρ = n_test/(n_train + n_test).
    Source: Benavoli, Corani, Demšar & Zaffalon (2017), "Time for a change", JMLR 18, section 4.1.

    Args:
        differences, n_train, n_test: as in `nadeau_bengio`.
        rope: largest difference that counts as equal.

    Returns:
        The probabilities; NaN with fewer than two pairs, or if all differences are the same.
    """
    (d, train, test), _ = _finite(differences, n_train, n_test)
    n = len(d)
    if n < 2 or _constant(d):
        return Probabilities(math.nan, math.nan, math.nan)
    mean = float(d.mean())
    scale = math.sqrt(float(d.var(ddof=1)) * (1 / n + _ratio(train, test)))
    worse = float(special.stdtr(n - 1, (-rope - mean) / scale))
    better = float(special.stdtr(n - 1, (mean - rope) / scale))
    return Probabilities(worse, max(0.0, 1 - worse - better), better)


def gap_closed(
    student: ArrayLike,
    baseline: ArrayLike,
    teacher: ArrayLike,
    n_train: SizeLike,
    n_test: SizeLike,
    level: float = 0.95,
) -> Interval:
    """Share of the gap between baseline and teacher that the student closes: mean(s − b) / mean(t − b), all paired.

    Interval by Fieller's theorem for a ratio of correlated means, with the covariance of the two means corrected as
    in `nadeau_bengio`.
    Source: Fieller (1954), "Some problems in interval estimation", JRSS B 16.

    Args:
        student, baseline, teacher: (n,) scores, signed so that higher is better; pairs with a NaN are dropped.
        n_train, n_test, level: as in `nadeau_bengio`.

    Returns:
        The share. It is NaN, with a note, unless the teacher's mean lead over the baseline is larger than the half
        width of its interval: divided by a lead that may be zero, a gain could become any share. With one pair, or with
        leads that are all the same, there is no such interval and so no share.
    """
    (s, b, t, train, test), dropped = _finite(student, baseline, teacher, n_train, n_test)
    n = len(s)
    if n == 0:
        return UNDEFINED._replace(dropped=dropped, note="no pairs")
    gain, gap = float((s - b).mean()), float((t - b).mean())
    if gap <= 1e-12:
        return UNDEFINED._replace(n=n, dropped=dropped, note=NO_GAP)
    undefined = UNDEFINED._replace(n=n, dropped=dropped)
    if n == 1:
        return undefined._replace(note="one pair: no interval")
    if _constant(s - b) and _constant(t - b):
        return undefined._replace(note=SAME)
    covariance = np.cov(s - b, t - b) * (1 / n + _ratio(train, test)) * student_quantile(level, n - 1) ** 2
    a = gap**2 - covariance[1, 1]
    if a <= 0:
        return undefined._replace(note=NO_LEAD)
    middle = gain * gap - covariance[0, 1]
    root = math.sqrt(max(0.0, middle**2 - a * (gain**2 - covariance[0, 0])))
    return Interval(gain / gap, (middle - root) / a, (middle + root) / a, n, dropped)


def holm(p_values: ArrayLike) -> NDArray:
    """Adjust p-values for their number, so that the chance of any false finding among them stays at the level.

    Of m values in rising order, the k-th becomes max over j ≤ k of min(1, (m − j + 1) p_(j)).
    Source: Holm (1979), "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6.

    Args:
        p_values: (n,) p-values; NaN ones are not counted and stay NaN.
    """
    p = np.asarray(p_values, dtype=np.float64)
    out, known = np.full(p.shape, math.nan), np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = np.minimum(1.0, p[order] * np.arange(len(order), 0, -1))
    out[order] = np.maximum.accumulate(steps)
    return out


def _constant(d: NDArray) -> bool:
    """Whether the values are equal up to rounding (0.8 − 0.7 and 0.7 − 0.6 are not the same float)."""
    return bool(np.ptp(d) <= 1e-12 * max(1.0, float(np.abs(d).max())))
