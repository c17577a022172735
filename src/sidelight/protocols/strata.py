"""How evenly the parts of a data set share its classes, or the quarters of a regression's target."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.data.target_values import compute_row_values
from sidelight.errors import SidelightWarning

DRAWS = 30
"""Number of random parts from which the best balanced one is kept."""


def warn_single_class(dataset: Dataset, parts: Mapping[str, NDArray]) -> None:
    """Warn if all labelled rows of a part have one class. parts: name of the part -> row numbers."""
    found = []
    for name, rows in parts.items():
        codes = dataset.classes(rows)
        if len(codes) == 1:
            found.append(f"{name} ({dataset.class_names[codes.pop()]!r})")
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        warnings.warn(
            f"rows of one class only: {', '.join(found[:3])}{more}. A constant answer is always right there, so scores "
            "can neither choose an epoch nor compare networks. Ask for fewer or other folds, or another select.",
            SidelightWarning,
            stacklevel=2,
        )


def compute_strata(dataset: Dataset, rows: NDArray | slice = slice(None)) -> NDArray:
    """(N,) int: the class, or the quarter of `compute_row_values` among `rows`; meaningless for unlabelled rows."""
    if dataset.task == "classification":
        return np.asarray(dataset.target)
    first = compute_row_values(dataset.target)
    if not np.isfinite(first[rows]).any():
        return np.zeros(len(first), np.int64)
    return np.asarray(np.searchsorted(np.nanquantile(first[rows], [0.25, 0.5, 0.75]), np.nan_to_num(first)))


def count_strata(unit: NDArray, strata: NDArray, n_units: int) -> NDArray:
    """Count labelled rows.

    Args:
        unit: (n,) unit of each labelled row.
        strata: (n,) class of each.
        n_units: number of units.

    Returns:
        (units, classes) counts.
    """
    counts = np.zeros((n_units, int(strata.max()) + 1))
    np.add.at(counts, (unit, strata), 1)
    return counts


def compute_cells(dataset: Dataset) -> NDArray:
    """(N,) int: `compute_strata`, divided into rows that have every modality and rows that lack one.

    Where every row has every modality, or none has, these are the strata themselves.
    """
    strata = compute_strata(dataset)
    complete = np.ones(len(dataset), bool)
    for present in dataset.present.values():
        complete &= present
    return strata if complete.all() or not complete.any() else 2 * strata + ~complete


def compute_imbalance(
    counts: NDArray, parts: Iterable[NDArray], cells: NDArray | None = None
) -> tuple[int, int, float]:
    """(classes missing outside a part, classes missing in a part, distance of the shares); lower is better.

    Args:
        counts: (units, classes).
        parts: the units of each part.
        cells: (units, cells), of which the shares are compared; by default those of the classes.
    """
    total, cells = counts.sum(0), counts if cells is None else cells
    real, shares = total > 0, cells.sum(0) / cells.sum()
    outside = inside = 0
    distance = 0.0
    for part in parts:
        inner = counts[part].sum(0)
        outside += int((inner[real] == total[real]).sum())
        inside += int((inner[real] == 0).sum())
        within = cells[part].sum(0)
        distance += float(np.abs(within / max(within.sum(), 1) - shares).sum())
    return outside, inside, distance


def covering_order(counts: NDArray, rng: np.random.Generator) -> list[int]:
    """Units in random order, except that units with a class still missing come first. counts: (units, classes)."""
    rest = rng.permutation(len(counts)).tolist()
    covered = np.zeros(counts.shape[1], bool)
    order: list[int] = []
    while rest:
        needed = (counts.sum(0) > 0) & ~covered
        new = (u for u in rest if (counts[u][needed] > 0).any())
        unit = next(new, rest[0])
        rest.remove(unit)
        order.append(unit)
        covered |= counts[unit] > 0
    return order


def stratified_order(rows: NDArray, strata: NDArray, rng: np.random.Generator) -> NDArray:
    """Rows in a random order of which every prefix holds the classes in proportion, beginning with one of each.

    Args:
        rows: (n,) row numbers.
        strata: (n,) class of each.
        rng: source of the order.
    """
    # Rows are sorted by their relative rank within their class, ties at random.
    key = np.zeros(len(rows))
    for c in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == c))
        # The k-th of n members stands at k / n.
        key[members] = np.arange(len(members)) / len(members)
    return np.asarray(rows[np.lexsort((rng.random(len(rows)), key))])
