"""`split` draws the folds of a protocol: rows that train, rows that choose epochs, and rows that are tested once.

scikit-learn's splitters draw *units*: groups (subjects, sessions), or rows without groups. Rows in time are cut into
contiguous blocks instead (`sidelight.protocols.blocks`).
`StratifiedGroupKFold` is not used: it sorts groups by their class counts, so that for most data its folds are the same
for every seed. Instead several shuffled `KFold`s over groups are drawn, and the one best balanced in class is kept.
"""

from __future__ import annotations

import warnings

import numpy as np

from sidelight.data.dataset import Dataset
from sidelight.errors import ConfigError, DataError, SidelightWarning, unknown
from sidelight.protocols.blocks import cut_blocks, draw_run, find_near, sort_by_time, split_block, split_past
from sidelight.protocols.fold import FOLDS, IN_BLOCKS, PROTOCOLS, Fold, Protocol, check_fold, resolve_protocol
from sidelight.protocols.units import (
    build_fold,
    build_units,
    check_enough,
    draw_select_units,
    find_labelled_units,
    k_fold,
    leave_one_group_out,
)


def split(
    dataset: Dataset,
    protocol: Protocol = "auto",
    folds: int = FOLDS,
    select: float = 0.25,
    seed: int = 0,
    gap: float = 0.0,
) -> list[Fold]:
    """Draw the folds of a protocol, disjoint in groups except for "random", "blocks" and "forward".

    auto: official with a split, else group-kfold with groups, else blocks with times; never random, which has to be
    asked for. group-kfold, random: `folds` parts, redrawn with each seed and balanced in class. leave-one-group-out: a
    fold per group. official: one fold. blocks: the rows of every group (without groups: all rows) in their order in
    time, cut into `folds` contiguous blocks with equally many labelled rows, each tested once. forward: `folds` + 1
    such blocks, of which each but the first is tested by a network that was trained on those before it.

    Groups without any label are always in train, unlabelled rows never in select or test. Warns if `folds` was chosen
    and the protocol has its own number.

    Args:
        dataset: the data.
        protocol: one of `PROTOCOLS`.
        folds: number of folds.
        select: share of a fold's non-test groups that choose epochs, redrawn with each seed; official select rows are
            used if they exist. With blocks, the share of a contiguous run of the rows that are not tested; with
            forward, of the latest rows before those.
        seed: of all draws.
        gap: for blocks and forward, no train row is this close to a select or test row, and no select row to a test
            row: in units of the time, or in rows without times.

    Returns:
        The folds.

    Raises:
        ConfigError: an unknown protocol, impossible numbers, or "auto" without groups, split and times.
        DataError: too few groups, a group in two official splits, or a class without train rows.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(unknown("protocol", protocol, PROTOCOLS))
    if not 0 < select < 1:
        raise ConfigError(f"select={select}: expected a share between 0 and 1 of the non-test groups, e.g. 0.25")
    protocol = resolve_protocol(dataset, protocol)
    _check_gap(dataset, protocol, gap)
    if folds != FOLDS and protocol in ("official", "leave-one-group-out"):
        number = "has one fold" if protocol == "official" else "has a fold per group"
        warnings.warn(
            f"folds={folds} is ignored: protocol {protocol!r} {number}. Ask for 'group-kfold' to choose their number.",
            SidelightWarning,
            stacklevel=2,
        )
    if protocol == "official":
        drawn = [_draw_official(dataset, select, seed, gap)]
    elif protocol in IN_BLOCKS:
        drawn = _draw_blocks(dataset, protocol, folds, select, seed, gap)
    else:
        units = build_units(dataset, protocol)
        if protocol == "leave-one-group-out":
            tests = leave_one_group_out(dataset, units)
        else:
            tests = k_fold(dataset, units, protocol, folds, seed)
        drawn = [build_fold(dataset, name, units, test, select, seed) for name, test in tests]
    # A protocol may leave a class without train rows, and then no method can be compared.
    for fold in drawn:
        check_fold(dataset, fold, protocol)
    return drawn


def build_whole_fold(dataset: Dataset, protocol: str, select: float, seed: int, gap: float = 0.0) -> Fold:
    """The fold that trains on all rows except those that choose epochs, for a student to deploy.

    The select rows are the official ones if they exist, else a share of the groups, or of the rows without groups.
    Nothing is left to test, so `test` repeats `select`.

    Args:
        dataset: the data.
        protocol: as `resolve_protocol` returns it.
        select: share of the groups that choose epochs.
        seed: of the draw.
        gap: as in `split`.
    """
    official = np.asarray(dataset.split) == "select"
    chosen_by_data = protocol == "official" and bool((official & dataset.labelled).any())
    if protocol in IN_BLOCKS or (protocol == "official" and _in_time(dataset) and not chosen_by_data):
        # No row is tested, so the block to test is empty.
        order, nothing = sort_by_time(dataset), np.zeros(len(dataset), bool)
        if protocol == "forward":
            train, chosen, _ = split_past(dataset, "whole", order, ~nothing, nothing, select, gap)
        else:
            train, chosen, _ = split_block(dataset, "whole", order, nothing, select, seed, gap)
        fold = Fold("whole", train, chosen, chosen)
        check_fold(dataset, fold, protocol)
        return fold
    independent = dataset.group is None or protocol == "random"
    units = np.arange(len(dataset)) if independent else np.unique(np.asarray(dataset.group), return_inverse=True)[1]
    if chosen_by_data:
        in_select = official
    else:
        in_select = np.isin(units, draw_select_units(dataset, units, find_labelled_units(dataset, units), select, seed))
    chosen = np.flatnonzero(in_select & dataset.labelled)
    fold = Fold("whole", np.flatnonzero(~in_select), chosen, chosen)
    check_fold(dataset, fold, protocol)
    return fold


def _in_time(dataset: Dataset) -> bool:
    """Whether rows have times but no groups."""
    return dataset.group is None and dataset.time is not None


def _check_gap(dataset: Dataset, protocol: Protocol, gap: float) -> None:
    if not 0 <= gap < np.inf:
        raise ConfigError(f"gap={gap}: expected 0 or more, in units of the time column (in rows where there is none)")
    if gap and protocol not in IN_BLOCKS and not (protocol == "official" and _in_time(dataset)):
        raise ConfigError(
            f"gap={gap:g} is a distance between contiguous blocks of rows, and protocol {protocol!r} draws none here; "
            "leave it out, or ask for --protocol blocks (protocol='blocks')"
        )


def _draw_blocks(dataset: Dataset, protocol: Protocol, folds: int, select: float, seed: int, gap: float) -> list[Fold]:
    """A fold per contiguous block; with groups, each fold tests one block of every group."""
    if folds < 2:
        raise ConfigError(f"folds={folds}: expected at least 2")
    if dataset.group is not None:
        warnings.warn(
            f"protocol {protocol!r} tests a network on rows of the same groups that it was trained on, at other times; "
            "scores say nothing about new groups. Use 'group-kfold' for that.",
            SidelightWarning,
            stacklevel=3,
        )
    blocks = folds + (protocol == "forward")
    check_enough(dataset, int(dataset.labelled.sum()), max(blocks, 3), protocol)
    order = sort_by_time(dataset)
    times = len(np.unique(order.first[dataset.labelled[order.rows]]))
    if times < max(blocks, 3):
        raise DataError(
            f"the labelled rows of {dataset.name} have {times} different times, and rows of one time stay together: "
            f"{protocol!r} needs at least {max(blocks, 3)} here; ask for fewer folds or name another time column"
        )
    # Blocks hold equally many labelled rows, since only these are scored.
    block = cut_blocks(order, dataset.labelled, blocks)
    if protocol == "forward":
        # A group without labels has no block; its rows train in every fold, as with other protocols.
        parts = [(f"forward-{i}", block < i, block == i) for i in range(1, blocks)]
        return [Fold(n, *split_past(dataset, n, order, past, test, select, gap)) for n, past, test in parts]
    names = [f"block-{i + 1}" for i in range(folds)]
    return [Fold(n, *split_block(dataset, n, order, block == i, select, seed, gap)) for i, n in enumerate(names)]


def describe_straddling_group(dataset: Dataset) -> str:
    """A sentence about the first group that is in several official splits; "" if there is no such group."""
    if dataset.group is None or dataset.split is None:
        return ""
    groups, parts = np.unique(np.stack([dataset.group, dataset.split]), axis=1)
    for g in groups[:-1][groups[1:] == groups[:-1]]:
        splits = parts[groups == g]
        return (
            f"group {str(g)!r} of {dataset.name} is in {len(splits)} official splits ({', '.join(splits)}); it belongs "
            "to one"
        )
    return ""


def _draw_official(dataset: Dataset, select: float, seed: int, gap: float) -> Fold:
    if dataset.split is None:
        raise DataError(f"protocol 'official' needs a split column, and {dataset.name} has none: name it (split=…)")
    present = set(dataset.split.tolist())
    for part in ("train", "test"):
        if part not in present:
            raise DataError(f"the official split of {dataset.name} has no {part!r} rows, only {sorted(present)}")
    if straddles := describe_straddling_group(dataset):
        raise DataError(straddles)
    # Rows of official test data without a label measure nothing, so they are left out.
    train, test = dataset.split == "train", (dataset.split == "test") & dataset.labelled
    chosen = (dataset.split == "select") & dataset.labelled
    if not test.any():
        raise DataError(f"no 'test' row of {dataset.name} has a label, so nothing can be measured")
    # Without official select rows, some train rows have to choose epochs.
    if not chosen.any() and _in_time(dataset):
        order = sort_by_time(dataset)
        at_test, among = find_near(order, test, gap), train & dataset.labelled
        run = draw_run(dataset, order, among, select, seed, at_test)
        train, chosen = train & ~run & ~find_near(order, among & run, gap), among & run & ~at_test
        if not chosen.any():
            raise DataError(f"official: no select row is left with gap={gap:g}; ask for a smaller one")
    elif not chosen.any():
        units = np.arange(len(dataset)) if dataset.group is None else np.unique(dataset.group, return_inverse=True)[1]
        units = np.where(train, units, -1)
        carved = np.isin(
            units, draw_select_units(dataset, units, np.unique(units[train & dataset.labelled]), select, seed)
        )
        train, chosen = train & ~carved, carved & dataset.labelled
    return Fold("official", np.flatnonzero(train), np.flatnonzero(chosen), np.flatnonzero(test))
