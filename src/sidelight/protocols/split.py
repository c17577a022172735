"""Which rows train, which choose epochs, which are read once at the end; and whose labels are hidden.

scikit-learn's splitters do the splitting, over *units*: groups (subjects, sessions), or rows where there are none.
Rows in time are cut into contiguous blocks instead (`sidelight.protocols.blocks`).
`StratifiedGroupKFold` is not used: it sorts groups by their class counts, so that for most data its folds are the same
for every seed. Instead several shuffled `KFold`s over groups are drawn, and the one best balanced in class is kept.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.errors import ConfigError, DataError, SidelightWarning, unknown
from sidelight.protocols.blocks import block_parts, contiguous, cut, near, ordered
from sidelight.protocols.neighbours import ask_for_blocks, sorted_by_class
from sidelight.protocols.strata import DRAWS, count_strata, covering_order, imbalance, strata_of, stratified_order

Protocol = Literal["auto", "group-kfold", "leave-one-group-out", "official", "random", "blocks"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
WHOLE = -1
"""The number of the fold `whole`."""
FOLDS = 5
"""How many there are unless somebody says so."""


@dataclass(frozen=True)
class Fold:
    """Row numbers, sorted and disjoint. `select` and `test` are labelled; `train` may hold unlabelled rows."""

    name: str
    train: NDArray
    select: NDArray
    test: NDArray


def resolve(dataset: Dataset, protocol: Protocol) -> Protocol:
    """What "auto" means for the data: official where they have a split, else group-kfold, else blocks of rows in time.

    Raises ConfigError where they have no split, groups or times: that rows are independent has to be said.
    """
    if protocol != "auto":
        return protocol
    if dataset.split is not None:
        return "official"
    if dataset.group is not None:
        return "group-kfold"
    if dataset.time is not None:
        return "blocks"
    raise ConfigError(
        f"protocol 'auto' needs groups or a split, and {dataset.name} has neither: name the column that says whose "
        f"row each is (--group, group=…); if rows follow each other in time, {ask_for_blocks(dataset)}; or, if every "
        "row is independent, ask for --protocol random (protocol='random')"
    )


def split(
    dataset: Dataset,
    protocol: Protocol = "auto",
    folds: int = FOLDS,
    select: float = 0.25,
    seed: int = 0,
    gap: float = 0.0,
) -> list[Fold]:
    """The folds of a protocol, disjoint in groups but for random and blocks.

    Warns where `folds` was chosen and the protocol has its own number.

    auto: official where the data have a split, else group-kfold, else blocks where rows have times; never random, which
    has to be asked for. group-kfold, random: `folds` parts, redrawn with each seed and balanced in class.
    leave-one-group-out: a fold per group. official: one fold. blocks: every group's rows in time (without groups: all
    rows; without times: as they stand), cut into `folds` contiguous blocks with equally many labelled rows, each tested
    once. select: share of a fold's non-test groups that choose epochs (drawn with each seed; the official one is used
    where it exists); with blocks a contiguous run of the rows that are not tested. gap: of blocks, no train row is at
    most this far from a select or test row, and no select row from a test row: in units of the time, in rows where
    there is none. Groups without any label are always in train, unlabelled rows never in select or test.

    Raises ConfigError (unknown protocol, impossible numbers, "auto" without groups and split) and DataError (too few
    groups, a group in two official splits, a class that no train row has).
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(unknown("protocol", protocol, PROTOCOLS))
    if not 0 < select < 1:
        raise ConfigError(f"select={select}: expected a share between 0 and 1 of the non-test groups, e.g. 0.25")
    protocol = resolve(dataset, protocol)
    _check_gap(dataset, protocol, gap)
    if folds != FOLDS and protocol in ("official", "leave-one-group-out"):
        number = "has one fold" if protocol == "official" else "has a fold per group"
        warnings.warn(
            f"folds={folds} is ignored: protocol {protocol!r} {number}. Ask for 'group-kfold' to choose their number.",
            SidelightWarning,
            stacklevel=2,
        )
    if protocol == "official":
        out = [_official(dataset, select, seed, gap)]
    elif protocol == "blocks":
        out = _blocks(dataset, folds, select, seed, gap)
    else:
        units = _units(dataset, protocol)
        if protocol == "leave-one-group-out":
            tests = _leave_one_out(dataset, units)
        else:
            tests = _k_fold(dataset, units, protocol, folds, seed)
        out = [_fold(dataset, name, units, test, select, seed) for name, test in tests]
    for fold in out:
        _check_fold(dataset, fold, protocol)
    return out


def whole(dataset: Dataset, protocol: str, select: float, seed: int, gap: float = 0.0) -> Fold:
    """All rows for training, but for the share `select` of the groups (of the rows, if there are none) that chooses
    epochs: the official select rows, where there are. Nothing is left to test; `test` repeats `select`.
    """
    official = np.asarray(dataset.split) == "select"
    chosen_by_data = protocol == "official" and bool((official & dataset.labelled).any())
    if protocol == "blocks" or (protocol == "official" and _in_time(dataset) and not chosen_by_data):
        nothing = np.zeros(len(dataset), bool)
        train, chosen, _ = block_parts(dataset, "whole", ordered(dataset), nothing, select, seed, gap)
        fold = Fold("whole", train, chosen, chosen)
        _check_fold(dataset, fold, protocol)
        return fold
    alone = dataset.group is None or protocol == "random"
    units = np.arange(len(dataset)) if alone else np.unique(np.asarray(dataset.group), return_inverse=True)[1]
    if chosen_by_data:
        in_select = official
    else:
        in_select = np.isin(units, _carve(dataset, units, _labelled_units(dataset, units), select, seed))
    chosen = np.flatnonzero(in_select & dataset.labelled)
    fold = Fold("whole", np.flatnonzero(~in_select), chosen, chosen)
    _check_fold(dataset, fold, protocol)
    return fold


def hide_labels(dataset: Dataset, rows: NDArray, share: float, seed: int = 0) -> NDArray:
    """(N,) bool: which rows keep their label when only a `share` of the labelled groups among `rows` keeps theirs.

    At least one group keeps its labels; groups that bring a class still missing come first, then the order is random.
    The same seed nests: what 0.2 keeps, 0.4 keeps too. Rows outside `rows` are untouched. Without groups, a share of
    the rows of every class. Raises ConfigError unless 0 < share ≤ 1.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"label_groups: {share} is no share; expected 0 < share ≤ 1")
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
            lost_names = ", ".join(dataset.labels[c] for c in sorted(lost))
            warnings.warn(
                f"with a share of {share:g} of the labels, no labelled train row is of class {lost_names}",
                SidelightWarning,
                stacklevel=2,
            )
    return kept


def _units(dataset: Dataset, protocol: str) -> NDArray:
    """(N,) int: the unit that a row belongs to."""
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
            f"protocol {protocol!r} needs groups and {dataset.name} has none: say which column holds them (group=…), "
            "or ask for protocol 'random'"
        )
    return np.asarray(np.unique(dataset.group, return_inverse=True)[1])


def _in_time(dataset: Dataset) -> bool:
    """Whether rows have times and nothing else that says which belong together."""
    return dataset.group is None and dataset.time is not None


def _check_gap(dataset: Dataset, protocol: Protocol, gap: float) -> None:
    if not 0 <= gap < np.inf:
        raise ConfigError(f"gap={gap}: expected 0 or more, in units of the time column (in rows where there is none)")
    if gap and protocol != "blocks" and not (protocol == "official" and _in_time(dataset)):
        raise ConfigError(
            f"gap={gap:g} is a distance between contiguous blocks of rows, and protocol {protocol!r} draws none here; "
            "leave it out, or ask for --protocol blocks (protocol='blocks')"
        )


def _blocks(dataset: Dataset, folds: int, select: float, seed: int, gap: float) -> list[Fold]:
    """A fold per contiguous block; of data with groups, per block of every group."""
    if folds < 2:
        raise ConfigError(f"folds={folds}: expected at least 2")
    if dataset.group is not None:
        warnings.warn(
            "protocol 'blocks' tests a network on rows of the same groups that it was trained on, at other times; "
            "scores say nothing about new groups. Use 'group-kfold' for that.",
            SidelightWarning,
            stacklevel=3,
        )
    _enough(dataset, int(dataset.labelled.sum()), max(folds, 3), "blocks")
    order = ordered(dataset)
    times = len(np.unique(order.first[dataset.labelled[order.rows]]))
    if times < max(folds, 3):
        raise DataError(
            f"the labelled rows of {dataset.name} have {times} different times, and rows of one time stay together: "
            f"'blocks' needs at least {max(folds, 3)} here; ask for fewer folds or name another time column"
        )
    block = cut(order, dataset.labelled, folds)
    names = [f"block-{i + 1}" for i in range(folds)]
    return [Fold(n, *block_parts(dataset, n, order, block == i, select, seed, gap)) for i, n in enumerate(names)]


def _labelled_units(dataset: Dataset, units: NDArray) -> NDArray:
    return np.unique(units[dataset.labelled])


def _unit_name(dataset: Dataset, units: NDArray, unit: int) -> str:
    rows = np.flatnonzero(units == unit)
    return str(dataset.ids[rows[0]] if dataset.group is None else dataset.group[rows[0]])


def _leave_one_out(dataset: Dataset, units: NDArray) -> list[tuple[str, NDArray]]:
    from sklearn.model_selection import LeaveOneGroupOut

    labelled = _labelled_units(dataset, units)
    _enough(dataset, len(labelled), 3, "leave-one-group-out")
    used: dict[str, int] = {}
    out = []
    for _, test in LeaveOneGroupOut().split(labelled, groups=labelled):
        name = re.sub(r"[^\w.-]", "_", _unit_name(dataset, units, labelled[test[0]]))
        used[name] = used.get(name, 0) + 1
        out.append((name if used[name] == 1 else f"{name}-{used[name]}", labelled[test]))
    return out


def _k_fold(dataset: Dataset, units: NDArray, protocol: str, folds: int, seed: int) -> list[tuple[str, NDArray]]:
    """The best balanced of several shuffled partitions of the labelled units."""
    from sklearn.model_selection import KFold, StratifiedKFold

    if folds < 2:
        raise ConfigError(f"folds={folds}: expected at least 2")
    labelled = _labelled_units(dataset, units)
    _enough(dataset, len(labelled), max(folds, 3), protocol)
    strata = strata_of(dataset)
    if protocol == "random":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # classes rarer than folds: checked per fold below
            try:
                parts = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(labelled, strata[labelled]))
            except ValueError:  # no class has as many rows as folds
                parts = list(KFold(folds, shuffle=True, random_state=seed).split(labelled))
        return [(f"fold-{i + 1}", labelled[test]) for i, (_, test) in enumerate(parts)]
    counts = count_strata(units[dataset.labelled], strata[dataset.labelled], int(units.max()) + 1)[labelled]
    seeds = np.random.default_rng([seed, 2]).integers(2**31, size=DRAWS)
    draws = [[t for _, t in KFold(folds, shuffle=True, random_state=int(s)).split(labelled)] for s in seeds]
    best = min(draws, key=lambda tests: imbalance(counts, tests))
    return [(f"fold-{i + 1}", labelled[test]) for i, test in enumerate(best)]


def _enough(dataset: Dataset, n: int, needed: int, protocol: str) -> None:
    if n < needed:
        what = "rows with a label" if dataset.group is None or protocol == "random" else "groups with a label"
        raise DataError(
            f"{dataset.name} has {n} {what}, but {protocol!r} needs at least {needed} here "
            "(train, select and test are disjoint in them); ask for fewer folds"
        )


def _fold(dataset: Dataset, name: str, units: NDArray, test_units: NDArray, select: float, seed: int) -> Fold:
    """Test rows as given, select rows carved from the rest, everything else train."""
    labelled = dataset.labelled
    in_test = np.isin(units, test_units)
    select_units = _carve(dataset, units, np.setdiff1d(_labelled_units(dataset, units), test_units), select, seed)
    in_select = np.isin(units, select_units)
    return Fold(
        name,
        train=np.flatnonzero(~in_test & ~in_select),
        select=np.flatnonzero(in_select & labelled),
        test=np.flatnonzero(in_test & labelled),
    )


def _carve(dataset: Dataset, units: NDArray, candidates: NDArray, share: float, seed: int) -> NDArray:
    """The share of the candidate units that choose epochs: of several draws the best balanced one."""
    from sklearn.model_selection import ShuffleSplit

    if len(candidates) < 2:
        raise DataError(
            f"{dataset.name}: only {len(candidates)} group with a label is left beside test; "
            "train and select need one each"
        )
    size = min(max(1, round(share * len(candidates))), len(candidates) - 1)
    strata, labelled = strata_of(dataset), dataset.labelled & (units >= 0)
    counts = count_strata(units[labelled], strata[labelled], int(units.max()) + 1)[candidates]
    draws = ShuffleSplit(DRAWS, test_size=size, random_state=seed).split(candidates)
    best = min((chosen for _, chosen in draws), key=lambda chosen: imbalance(counts, [chosen]))
    return np.asarray(candidates[best])


def straddling(dataset: Dataset) -> str:
    """The sentence on the first group that is in several official splits; empty where none is."""
    if dataset.group is None or dataset.split is None:
        return ""
    groups, parts = np.unique(np.stack([dataset.group, dataset.split]), axis=1)
    for g in groups[:-1][groups[1:] == groups[:-1]]:
        of = parts[groups == g]
        return (
            f"group {str(g)!r} of {dataset.name} is in {len(of)} official splits ({', '.join(of)}); it belongs to one"
        )
    return ""


def _official(dataset: Dataset, select: float, seed: int, gap: float) -> Fold:
    if dataset.split is None:
        raise DataError(f"protocol 'official' needs a split column, and {dataset.name} has none: say split=…")
    present = set(dataset.split.tolist())
    for part in ("train", "test"):
        if part not in present:
            raise DataError(f"the official split of {dataset.name} has no {part!r} rows, only {sorted(present)}")
    if straddles := straddling(dataset):
        raise DataError(straddles)
    train, test = dataset.split == "train", (dataset.split == "test") & dataset.labelled
    chosen = (dataset.split == "select") & dataset.labelled
    if not test.any():
        raise DataError(f"no 'test' row of {dataset.name} has a label, so nothing can be measured")
    if not chosen.any() and _in_time(dataset):
        order = ordered(dataset)
        at_test, among = near(order, test, gap), train & dataset.labelled
        run = contiguous(dataset, order, among, select, seed, at_test)
        train, chosen = train & ~run & ~near(order, among & run, gap), among & run & ~at_test
        if not chosen.any():
            raise DataError(f"official: no select row is left with gap={gap:g}; ask for a smaller one")
    elif not chosen.any():
        units = np.arange(len(dataset)) if dataset.group is None else np.unique(dataset.group, return_inverse=True)[1]
        units = np.where(train, units, -1)
        carved = np.isin(units, _carve(dataset, units, np.unique(units[train & dataset.labelled]), select, seed))
        train, chosen = train & ~carved, carved & dataset.labelled
    return Fold("official", np.flatnonzero(train), np.flatnonzero(chosen), np.flatnonzero(test))


def _check_fold(dataset: Dataset, fold: Fold, protocol: str) -> None:
    rows = fold.train[dataset.labelled[fold.train]]
    if dataset.task == "regression":
        if len(rows) < 2:
            gap = "; ask for a smaller gap or select" if protocol == "blocks" else ""
            raise DataError(f"{fold.name}: only {len(rows)} train rows have a label{gap}")
        return
    missing = dataset.classes(np.flatnonzero(dataset.labelled)) - dataset.classes(rows)
    if missing:
        names = ", ".join(repr(dataset.labels[c]) for c in sorted(missing))
        if protocol == "blocks" and sorted_by_class(dataset):
            raise DataError(
                f"{fold.name}: no train row is of class {names}, because the rows of {dataset.name} are sorted by "
                "class. That is no order in time, and a contiguous block holds whole classes. Name the column with the "
                "time (--time, time=…) or the group (--group, group=…), or ask for protocol 'random'"
            )
        raise DataError(
            f"{fold.name}: no train row is of class {names}, so it cannot be learnt; ask for fewer or other folds, "
            "a smaller select, or leave the class out"
        )
