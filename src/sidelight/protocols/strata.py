"""How evenly parts of a data set share its classes (of a regression: the quarters of its target)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.data.target_values import compute_row_values
from sidelight.errors import SidelightWarning

DRAWS = 30
"""Of how many random parts the best balanced one is kept."""


def warn_single_class(dataset: Dataset, parts: Mapping[str, NDArray]) -> None:
    """Warn, once, where all labelled rows of a part are of one class. parts: how it is called -> row numbers."""
    held = {name: dataset.classes(rows) for name, rows in parts.items()}
    found = [f"{name} ({dataset.class_names[next(iter(codes))]!r})" for name, codes in held.items() if len(codes) == 1]
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        warnings.warn(
            f"of one class only: {', '.join(found[:3])}{more}. Answering it is always right there: that chooses no "
            "epoch and tells no network from another. Ask for fewer or other folds, or another select.",
            SidelightWarning,
            stacklevel=2,
        )


def compute_strata(dataset: Dataset, rows: NDArray | slice = slice(None)) -> NDArray:
    """(N,) int: the class, or the quarter of `row_values`' ranks among `rows`; meaningless where unlabelled."""
    if dataset.task == "classification":
        return np.asarray(dataset.target)
    first = compute_row_values(dataset.target)
    if not np.isfinite(first[rows]).any():
        return np.zeros(len(first), np.int64)
    return np.asarray(np.searchsorted(np.nanquantile(first[rows], [0.25, 0.5, 0.75]), np.nan_to_num(first)))


def count_strata(unit: NDArray, strata: NDArray, n_units: int) -> NDArray:
    """(units, classes): labelled rows of each."""
    counts = np.zeros((n_units, int(strata.max()) + 1))
    np.add.at(counts, (unit, strata), 1)
    return counts


def compute_imbalance(counts: NDArray, parts: Iterable[NDArray]) -> tuple[int, int, float]:
    """Lower is better: classes missing outside a part, classes missing in a part, distance of the class shares."""
    total = counts.sum(0)
    real = total > 0
    outside = inside = 0
    distance = 0.0
    for part in parts:
        held = counts[part].sum(0)
        outside += int((held[real] == total[real]).sum())
        inside += int((held[real] == 0).sum())
        distance += float(np.abs(held / max(held.sum(), 1) - total / total.sum()).sum())
    return outside, inside, distance


def covering_order(counts: NDArray, rng: np.random.Generator) -> list[int]:
    """Units in random order, but as long as a class is missing, the next one that brings such a class."""
    rest = rng.permutation(len(counts)).tolist()
    seen = np.zeros(counts.shape[1], bool)
    order: list[int] = []
    while rest:
        needed = (counts.sum(0) > 0) & ~seen
        new = (u for u in rest if (counts[u][needed] > 0).any())
        unit = next(new, rest[0])
        rest.remove(unit)
        order.append(unit)
        seen |= counts[unit] > 0
    return order


def stratified_order(rows: NDArray, strata: NDArray, rng: np.random.Generator) -> NDArray:
    """Rows in random order, every prefix of which holds the classes in proportion, one of each first."""
    key = np.zeros(len(rows))
    for c in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == c))
        key[members] = np.arange(len(members)) / len(members)
    return np.asarray(rows[np.lexsort((rng.random(len(rows)), key))])
