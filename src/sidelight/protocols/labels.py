"""Whose labels are hidden: a share of the groups keeps theirs."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.errors import ConfigError, SidelightWarning
from sidelight.protocols.strata import count_strata, covering_order, strata_of, stratified_order


def hide_labels(dataset: Dataset, rows: NDArray, share: float, seed: int = 0) -> NDArray:
    """(N,) bool: which rows keep their label when only a `share` of the labelled groups among `rows` keeps theirs.

    At least one group keeps its labels; groups that bring a class still missing come first, then the order is random.
    The same seed nests: what 0.2 keeps, 0.4 keeps too. Rows outside `rows` are untouched. Without groups, a share of
    the rows of every class. Raises ConfigError unless 0 < share ≤ 1.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"label_fraction must be in (0, 1], got {share}")
    kept = dataset.labelled.copy()
    if share == 1:
        return kept
    rows = np.asarray(rows)
    rows = rows[dataset.labelled[rows]]
    strata, rng = strata_of(dataset, rows), np.random.default_rng([seed, 1])
    kept[rows] = False
    if dataset.group is None:
        kept[stratified_order(rows, strata[rows], rng)[: max(1, round(share * len(rows)))]] = True
    else:
        names, unit = np.unique(dataset.group[rows], return_inverse=True)
        counts = count_strata(unit, strata[rows], len(names))
        chosen = covering_order(counts, rng)[: max(1, round(share * len(names)))]
        kept[rows[np.isin(unit, chosen)]] = True
    if dataset.task != "regression":
        lost = dataset.classes(rows) - dataset.classes(rows[kept[rows]])
        if lost:
            lost_names = ", ".join(dataset.class_names[c] for c in sorted(lost))
            warnings.warn(
                f"with a share of {share:g} of the labels, no labelled train row is of class {lost_names}",
                SidelightWarning,
                stacklevel=2,
            )
    return kept
