"""Average ranks of methods over data sets, and the critical-difference diagram (Demšar, JMLR 2006)."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from scipy.stats import friedmanchisquare, studentized_range


def critical_difference(methods: int, sets: int, level: float = 0.05) -> float:
    """Nemenyi: q_level(k, ∞) / √2 · √(k (k + 1) / (6 N)); average ranks closer than this are not told apart."""
    q = studentized_range.ppf(1 - level, methods, 1e6) / math.sqrt(2)
    return float(q * math.sqrt(methods * (methods + 1) / (6 * sets)))


def average_ranks(means: pd.DataFrame) -> pd.Series:
    """means: one row per data set, one column per method, higher is better. Rank 1 is the best; ties share."""
    return means.rank(axis=1, ascending=False).mean().sort_values()


def friedman(means: pd.DataFrame) -> float:
    """The probability of ranks as different as these if no method differed."""
    return float(friedmanchisquare(*(means[m] for m in means.columns)).pvalue)


def diagram(ranks: pd.Series, difference: float, out: Path) -> None:
    """Ranks on an axis; a bar joins methods that are not told apart."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "sidelight"
    from matplotlib import pyplot as plt

    k = len(ranks)
    rows = math.ceil(k / 2)
    figure, axes = plt.subplots(figsize=(8, 0.24 * rows + 1.4))
    low, high = math.floor(ranks.min()), math.ceil(ranks.max())
    axes.set(xlim=(low - 3.2, high + 3.2), ylim=(-rows - 2.2, 1.4))
    axes.axis("off")
    axes.plot([low, high], [0, 0], color="black", lw=1)
    for tick in range(low, high + 1):
        axes.plot([tick, tick], [0, 0.2], color="black", lw=1)
        axes.text(tick, 0.35, str(tick), ha="center", fontsize=8)
    for i, (name, rank) in enumerate(ranks.items()):
        left = i < rows
        depth = -(i if left else k - 1 - i) - 1.6
        x = low - 0.3 if left else high + 0.3
        axes.plot([rank, rank, x], [0, depth, depth], color="0.5", lw=0.7)
        axes.text(x, depth, f"{name} {rank:.1f}", ha="right" if left else "left", va="center", fontsize=8)
    groups = [(a, max(r for r in ranks if r - a <= difference)) for a in ranks]
    kept = [g for g in groups if g[1] > g[0] and not any(o != g and o[0] <= g[0] and g[1] <= o[1] for o in groups)]
    for i, (a, b) in enumerate(dict.fromkeys(kept)):
        axes.plot([a - 0.05, b + 0.05], [-0.35 - 0.28 * i] * 2, color="#c2410c", lw=2.5)
    axes.set_title(f"average rank, 1 is best; critical difference {difference:.1f}", fontsize=9)
    figure.savefig(out, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
