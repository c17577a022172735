"""Hide the labels of some groups, to measure how much a method needs."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.errors import ConfigError, SidelightWarning
from sidelight.protocols.strata import compute_strata, count_strata, covering_order, stratified_order


def hide_labels(dataset: Dataset, rows: NDArray, share: float, seed: int = 0) -> NDArray:
    """Choose the rows that keep their label when only a share of the labelled groups does.

    At least one group keeps its labels. Groups that bring a class still missing come first, then the order is random.
    Without groups, a share of the rows of every class keeps its labels. Choices with one seed are nested: rows that
    keep their label at 0.2 keep it at 0.4.

    Args:
        dataset: the data.
        rows: row numbers to choose from, such as the train rows; other rows keep their label.
        share: share of the labelled groups, in (0, 1].
        seed: of the order of groups.

    Returns:
        (N,) bool: labelled rows that keep their label.

    Raises:
        ConfigError: `share` is not in (0, 1].
    """
    kept = keep_labels(dataset, rows, share, seed)
    warn_lost_classes(dataset, rows, kept, share)
    return kept


def keep_labels(dataset: Dataset, rows: NDArray, share: float, seed: int = 0) -> NDArray:
    """`hide_labels` without its warning."""
    if not 0 < share <= 1:
        raise ConfigError(f"label_fraction must be in (0, 1], got {share}")
    kept = dataset.labelled.copy()
    rows = np.asarray(rows)
    rows = rows[dataset.labelled[rows]]
    if share == 1 or len(rows) == 0:
        return kept
    # Another stream than that of the folds, so that the two draws are independent.
    strata, rng = compute_strata(dataset, rows), np.random.default_rng([seed, 1])
    kept[rows] = False
    if dataset.group is None:
        order = stratified_order(rows, strata[rows], rng)
        kept[order[: max(1, round(share * len(rows)))]] = True
    else:
        names, unit = np.unique(dataset.group[rows], return_inverse=True)
        counts = count_strata(unit, strata[rows], len(names))
        chosen = covering_order(counts, rng)[: max(1, round(share * len(names)))]
        kept[rows[np.isin(unit, chosen)]] = True
    return kept


def warn_lost_classes(dataset: Dataset, rows: NDArray, kept: NDArray, share: float) -> None:
    """Warn if none of the labels that are kept is of a class that labelled rows have.

    Args:
        dataset: the data.
        rows: row numbers that train.
        kept: (N,) bool, the rows that keep their label.
        share: the share of the labels that is kept, for the warning.
    """
    rows = np.asarray(rows)
    rows = rows[dataset.labelled[rows]]
    if dataset.task != "regression" and (lost := dataset.classes(rows) - dataset.classes(rows[kept[rows]])):
        lost_names = ", ".join(dataset.class_names[c] for c in sorted(lost))
        warnings.warn(
            f"with a share of {share:g} of the labels, no labelled train row is of class {lost_names}",
            SidelightWarning,
            stacklevel=3,
        )
