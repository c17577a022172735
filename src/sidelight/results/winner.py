"""The chosen method without the winner's curse: chosen by the other seeds, tested in the one that is left out.

The method with the highest mean select score was lucky in some of its trainings, and its test scores share it: the
best of 24 methods without an effect seems to gain more than a point. Choosing inside each fold does not mend it: the
method with the best select score of a fold has the luckiest of M trainings there, and the baseline has one.

So the method that is tested in a pair of fold and seed is the one with the highest mean select score over the pairs of
all *other* seeds; with one seed, over all other pairs. Its training in this pair has chosen nothing, and neither has
the baseline's. The whole seed is left out because its folds may share luck: the groups that keep labels overlap.
This is the bias correction of BBC-CV (choose in the bag, test out of it), with each seed left out once in place
of random bags, so it draws nothing.
Source: Tsamardinos, Greasidou & Borboudakis (2018), "Bootstrapping the out-of-sample predictions for efficient and
accurate cross-validation", Machine Learning 107.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sidelight.results.budget import BASELINE, LEVEL, Budget
from sidelight.results.statistics import Interval, Probabilities

WINNER = "the chosen method"


class Winner(NamedTuple):
    """What choosing a method gains: differences to the baseline of the method that the other seeds choose.

    Args:
        difference: difference to the baseline, with its interval; positive is better.
        p: probabilities of being worse than, equal to and better than the baseline.
        chosen: method -> in how many pairs of fold and seed it was chosen, most often first.
    """

    difference: Interval
    p: Probabilities
    chosen: dict[str, int]

    @property
    def unanimous(self) -> bool:
        """Whether every pair chooses the same method."""
        return len(self.chosen) == 1


def choose_without_own(select: NDArray, seed: NDArray) -> NDArray:
    """(n,) for each pair the method with the highest mean select score over the pairs of other seeds.

    With one seed, over all other pairs. Of equal methods it is the first.

    Args:
        select: (n, M) select scores of M methods in n ≥ 2 pairs, finite.
        seed: (n,) the seed of each pair.
    """
    left_out = seed[:, None] == seed
    if left_out.all():
        left_out = np.eye(len(select), dtype=bool)
    others = (~left_out @ select) / (~left_out).sum(axis=1, keepdims=True)
    return np.asarray(others.argmax(axis=1))


def find_winner(b: Budget, rope: float, level: float = LEVEL) -> Winner | None:
    """Compare the chosen method with the baseline; None with fewer than two methods, or than two pairs that all have.

    Args:
        b: the jobs at one label fraction.
        rope: largest difference that counts as equal.
        level: confidence level of the interval, in (0, 1).
    """
    select = pd.DataFrame({m: b.rows[m]["select"] for m in b.methods}).dropna()
    if len(b.methods) < 2 or len(select) < 2 or BASELINE not in b.rows:
        return None
    seeds = select.index.get_level_values("seed").to_numpy()
    names = [b.methods[k] for k in choose_without_own(select.to_numpy(dtype=np.float64), seeds)]
    frame = pd.concat([b.rows[name].loc[[pair]] for name, pair in zip(names, select.index)])
    groups = {pair: b.groups[name][pair] for name, pair in zip(names, select.index) if pair in b.groups.get(name, {})}
    with_winner = replace(b, rows={**b.rows, WINNER: frame}, groups={**b.groups, WINNER: groups})
    chosen = {str(name): int(times) for name, times in pd.Series(names).value_counts().items()}
    return Winner(
        with_winner.difference(WINNER, BASELINE, level),
        with_winner.probabilities(WINNER, BASELINE, rope),
        chosen,
    )
