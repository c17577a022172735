"""Folds over units: groups, or rows where there are none; scikit-learn's splitters do the splitting."""

from __future__ import annotations

import re
import warnings

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.errors import ConfigError, DataError, SidelightWarning
from sidelight.protocols.fold import Fold
from sidelight.protocols.strata import DRAWS, compute_cells, compute_imbalance, compute_strata, count_strata


def build_units(dataset: Dataset, protocol: str) -> NDArray:
    """(N,) int: the unit of each row, its group, or for "random" the row itself. Raises DataError without groups."""
    if protocol == "random":
        if dataset.group is not None:
            warnings.warn(
                "protocol 'random' puts rows of one group on both sides of a split although the data have groups; "
                "scores say nothing about new groups. Use 'group-kfold' for that.",
                SidelightWarning,
                stacklevel=3,
            )
        return np.arange(len(dataset))
    if dataset.group is None:
        raise DataError(
            f"protocol {protocol!r} needs groups and {dataset.name} has none: name their column (group=…), "
            "or ask for protocol 'random'"
        )
    return np.asarray(np.unique(dataset.group, return_inverse=True)[1])


def find_labelled_units(dataset: Dataset, units: NDArray) -> NDArray:
    """The units with a labelled row."""
    return np.unique(units[dataset.labelled])


def get_unit_name(dataset: Dataset, units: NDArray, unit: int) -> str:
    """The group of a unit, or the id of its row.

    Args:
        dataset: the data.
        units: (N,) unit of each row.
        unit: one of them.
    """
    rows = np.flatnonzero(units == unit)
    return str(dataset.ids[rows[0]] if dataset.group is None else dataset.group[rows[0]])


def leave_one_group_out(dataset: Dataset, units: NDArray) -> list[tuple[str, NDArray]]:
    """(name, test units) of a fold per labelled unit."""
    from sklearn.model_selection import LeaveOneGroupOut

    labelled = find_labelled_units(dataset, units)
    check_enough(dataset, len(labelled), 3, "leave-one-group-out")
    # Names become folders; two groups may differ only in characters that a folder cannot have.
    used: dict[str, int] = {}
    out = []
    for _, test in LeaveOneGroupOut().split(labelled, groups=labelled):
        name = re.sub(r"[^\w.-]", "_", get_unit_name(dataset, units, labelled[test[0]]))
        used[name] = used.get(name, 0) + 1
        out.append((name if used[name] == 1 else f"{name}-{used[name]}", labelled[test]))
    return out


def k_fold(dataset: Dataset, units: NDArray, protocol: str, folds: int, seed: int) -> list[tuple[str, NDArray]]:
    """Draw several shuffled partitions of the labelled units and keep the best balanced one.

    Args:
        dataset: the data.
        units: (N,) unit of each row.
        protocol: "random" stratifies rows by class; other protocols draw groups.
        folds: number of folds.
        seed: of the draws.

    Returns:
        (name, test units) of each fold.

    Raises:
        ConfigError: fewer than 2 folds.
        DataError: too few labelled units.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    if folds < 2:
        raise ConfigError(f"folds={folds}: expected at least 2")
    labelled = find_labelled_units(dataset, units)
    check_enough(dataset, len(labelled), max(folds, 3), protocol)
    strata = compute_strata(dataset)
    if protocol == "random":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # classes rarer than folds: checked per fold below
            try:
                cells = compute_cells(dataset)[labelled]
                parts = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(labelled, cells))
            except ValueError:  # no class has as many rows as folds
                parts = list(KFold(folds, shuffle=True, random_state=seed).split(labelled))
        return [(f"fold-{i + 1}", labelled[test]) for i, (_, test) in enumerate(parts)]
    # StratifiedGroupKFold would give the same folds for most seeds (see `split`).
    known, n = dataset.labelled, int(units.max()) + 1
    counts = count_strata(units[known], strata[known], n)[labelled]
    cells = count_strata(units[known], compute_cells(dataset)[known], n)[labelled]
    seeds = np.random.default_rng([seed, 2]).integers(2**31, size=DRAWS)
    draws = []
    for s in seeds:
        splitter = KFold(folds, shuffle=True, random_state=int(s))
        draws.append([test for _, test in splitter.split(labelled)])
    best = min(draws, key=lambda tests: compute_imbalance(counts, tests, cells))
    return [(f"fold-{i + 1}", labelled[test]) for i, test in enumerate(best)]


def check_enough(dataset: Dataset, n: int, needed: int, protocol: str) -> None:
    """Raise DataError for too few labelled units.

    Args:
        dataset: the data.
        n: number of labelled units.
        needed: the least number.
        protocol: its name in the error.
    """
    if n < needed:
        what = "rows with a label" if dataset.group is None or protocol == "random" else "groups with a label"
        raise DataError(
            f"{dataset.name} has {n} {what}, but {protocol!r} needs at least {needed} here "
            "(train, select and test are disjoint in them); ask for fewer folds"
        )


def build_fold(dataset: Dataset, name: str, units: NDArray, test_units: NDArray, select: float, seed: int) -> Fold:
    """Build a fold from its test units: select units are drawn from the others, and all other rows train.

    Args:
        dataset: the data.
        name: name of the fold.
        units: (N,) unit of each row.
        test_units: the units to test.
        select: share of the other labelled units that choose epochs.
        seed: of the draw.
    """
    labelled = dataset.labelled
    in_test = np.isin(units, test_units)
    select_units = draw_select_units(
        dataset, units, np.setdiff1d(find_labelled_units(dataset, units), test_units), select, seed
    )
    in_select = np.isin(units, select_units)
    return Fold(
        name,
        train=np.flatnonzero(~in_test & ~in_select),
        select=np.flatnonzero(in_select & labelled),
        test=np.flatnonzero(in_test & labelled),
    )


def draw_select_units(dataset: Dataset, units: NDArray, candidates: NDArray, share: float, seed: int) -> NDArray:
    """Draw the units that choose epochs several times and keep the best balanced draw.

    Args:
        dataset: the data.
        units: (N,) unit of each row; −1: none.
        candidates: the units to draw from.
        share: share of them to draw.
        seed: of the draws.

    Returns:
        The drawn units.

    Raises:
        DataError: fewer than two candidates.
    """
    from sklearn.model_selection import ShuffleSplit

    if len(candidates) < 2:
        raise DataError(
            f"{dataset.name}: only {len(candidates)} group with a label is left beside test; "
            "train and select need one each"
        )
    size = min(max(1, round(share * len(candidates))), len(candidates) - 1)
    # Balance is measured in labelled rows: a unit with many rows counts more than a small one.
    strata, labelled = compute_strata(dataset), dataset.labelled & (units >= 0)
    n = int(units.max()) + 1
    counts = count_strata(units[labelled], strata[labelled], n)[candidates]
    cells = count_strata(units[labelled], compute_cells(dataset)[labelled], n)[candidates]
    draws = ShuffleSplit(DRAWS, test_size=size, random_state=seed).split(candidates)
    best = min((chosen for _, chosen in draws), key=lambda chosen: compute_imbalance(counts, [chosen], cells))
    return np.asarray(candidates[best])
