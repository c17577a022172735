"""What the regime map says: paired differences over independent draws, Holm, and whether the placebo explains them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from sidelight.data.builtin.synthetic import REGIMES
from sidelight.results.statistics import Interval, holm, nadeau_bengio

STORED = Path(__file__).with_name("regimes.csv")
"""Test accuracy in % of every method, a row per regime and draw; `METHOD~placebo` is the placebo of a method."""
ABLATIONS = ("warm-start", "kl-t-net", "pkdot-no-t-net")


def load() -> pd.DataFrame:
    """The stored table, with the index (regime, draw)."""
    return pd.read_csv(STORED, index_col=["regime", "draw"])


def differences(table: pd.DataFrame, regime: str, a: str, b: str) -> NDArray:
    """a − b in points, of every draw that has both."""
    if a not in table or b not in table or regime not in table.index.get_level_values(0):
        return np.array([])
    of = table.loc[regime]
    return (of[a] - of[b]).dropna().to_numpy()


def interval(d: NDArray) -> Interval:
    """Mean with its 95 % t interval; draws are independent, so nothing is widened."""
    return nadeau_bengio(d, 1, 0)


def p_value(d: NDArray) -> float:
    """Two-sided p of no difference (paired t); NaN with fewer than three draws, or without any spread."""
    return float(stats.ttest_1samp(d, 0).pvalue) if len(d) > 2 and np.ptp(d) > 0 else float("nan")


@dataclass(frozen=True)
class Cell:
    """One method in one regime.

    Attributes:
        gain: method − baseline.
        shown: whether the gain is not zero, after Holm over the methods of the regime.
        beyond: method − its placebo; without pairs where the placebo has not run.
        taught: whether that is above zero, after Holm over the methods of the regime: the privileged sensor teaches.
    """

    gain: Interval
    shown: bool
    beyond: Interval
    taught: bool

    @property
    def helps(self) -> bool:
        return self.shown and self.gain.mean > 0

    @property
    def alone(self) -> bool:
        """Whether its own interval excludes zero, whatever the other methods are."""
        return self.gain.n > 2 and (self.gain.low > 0 or self.gain.high < 0)

    @property
    def explained(self) -> bool:
        """Whether the placebo ran and explains the gain: method − placebo may be zero."""
        return self.beyond.n > 2 and not self.beyond.low > 0


def cells(table: pd.DataFrame, methods: Sequence[str]) -> dict[tuple[str, str], Cell]:
    """(regime, method) -> its cell; Holm counts the methods of a regime."""
    out = {}
    for regime in REGIMES:
        found = {m: differences(table, regime, m, "baseline") for m in methods}
        beyond = {m: differences(table, regime, m, f"{m}~placebo") for m in methods}
        p, p_beyond = (dict(zip(methods, holm([p_value(d) for d in each.values()]))) for each in (found, beyond))
        for m in methods:
            more = interval(beyond[m])
            taught = bool(p_beyond[m] < 0.05 and more.mean > 0)
            out[regime, m] = Cell(interval(found[m]), bool(p[m] < 0.05), more, taught)
    return out
