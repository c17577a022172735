"""Contiguous blocks of rows in their order in time, and the gaps between blocks.

Rows that follow each other in time resemble each other, so a test or select row between two train rows is too easy.
Blocks keep neighbours on one side, and a gap separates the rows on either side of an edge, such as overlapping windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.errors import DataError
from sidelight.protocols.strata import DRAWS, compute_cells, compute_imbalance, compute_strata, count_strata


@dataclass(frozen=True)
class Order:
    """All rows sorted by group, and within a group by time, or by row number if rows have no times.

    Args:
        rows: (N,) row numbers in this order.
        group: (N,) int, the group of each of them.
        time: (N,) float64, their time; without times their number within the group.
        first: (N,) int, the position of the first row of the same group and time. Such rows are never separated.
    """

    rows: NDArray
    group: NDArray
    time: NDArray
    first: NDArray


def sort_by_time(dataset: Dataset) -> Order:
    """Sort the rows of every group by time; without groups, all rows are one sequence."""
    n = len(dataset)
    group = np.zeros(n, np.int64) if dataset.group is None else np.unique(dataset.group, return_inverse=True)[1]
    time = np.arange(n, dtype=np.float64) if dataset.time is None else dataset.time
    rows = np.lexsort((np.arange(n), time, group))
    group, time = group[rows], time[rows]
    new = np.ones(n, bool)
    new[1:] = (np.diff(group) != 0) | (np.diff(time) != 0)
    if dataset.time is None:
        # A gap in rows is counted within the group.
        starts = np.maximum.accumulate(np.where(np.diff(group, prepend=-1) != 0, np.arange(n), 0))
        time = np.arange(n, dtype=np.float64) - starts
    return Order(rows, group, time, np.maximum.accumulate(np.where(new, np.arange(n), 0)))


def rank_in_group(order: Order, counted: NDArray) -> tuple[NDArray, NDArray]:
    """Count the marked rows before each row of its group.

    Args:
        order: all rows in order.
        counted: (N,) bool by row number, the rows to count.

    Returns:
        (N,) counted rows before each row, by row number, the same for rows of one time; and (N,) counted rows in its
        group.
    """
    marks = counted[order.rows].astype(np.int64)
    earlier = np.cumsum(marks) - marks
    group_start = np.searchsorted(order.group, order.group)
    earlier = (earlier - earlier[group_start])[order.first]
    before, total = np.empty_like(marks), np.empty_like(marks)
    before[order.rows] = earlier
    total[order.rows] = np.bincount(order.group, weights=marks)[order.group].astype(np.int64)
    return before, total


def cut_blocks(order: Order, counted: NDArray, blocks: int) -> NDArray:
    """Cut every group into contiguous blocks with equally many counted rows.

    Args:
        order: all rows in order.
        counted: (N,) bool by row number.
        blocks: number of blocks.

    Returns:
        (N,) int, the block of each row; −1 in groups without a counted row.
    """
    before, total = rank_in_group(order, counted)
    block = np.minimum(before, total - 1) * blocks // np.maximum(total, 1)
    return np.where(total > 0, block, -1)


def select_run(order: Order, counted: NDArray, share: float, start: float) -> NDArray:
    """Select a run of consecutive rows in every group.

    Args:
        order: all rows in order.
        counted: (N,) bool by row number.
        share: share of a group's counted rows in the run.
        start: place of the run in [0, 1), from the earliest possible to the latest.

    Returns:
        (N,) bool by row number. A group with a single counted row has no run.
    """
    before, total = rank_in_group(order, counted)
    size = np.clip(np.round(share * total), 1, np.maximum(total - 1, 0)) * (total > 1)
    first = np.floor(start * (total - size + 1))
    return np.asarray((before >= first) & (before < first + size))


def find_near(order: Order, marked: NDArray, gap: float) -> NDArray:
    """Find the rows close to marked rows.

    Args:
        order: all rows in order.
        marked: (N,) bool by row number.
        gap: largest distance, in units of the order's time.

    Returns:
        (N,) bool by row number: rows at most `gap` from a marked row of their group.
    """
    n = len(order.rows)
    marks, at = marked[order.rows], np.arange(n)
    # Positions of the nearest marked row before and after each row.
    last = np.maximum.accumulate(np.where(marks, at, -1))
    following = np.minimum.accumulate(np.where(marks, at, n)[::-1])[::-1]
    close = np.zeros(n, bool)
    for other in (last, following):
        there = (other >= 0) & (other < n)
        index = np.where(there, other, 0)
        close |= there & (order.group[index] == order.group) & (np.abs(order.time[index] - order.time) <= gap)
    out = np.empty(n, bool)
    out[order.rows] = close
    return out


def split_block(
    dataset: Dataset, name: str, order: Order, in_test: NDArray, select: float, seed: int, gap: float
) -> tuple[NDArray, NDArray, NDArray]:
    """Split the rows around a test block.

    Args:
        dataset: the data.
        name: name of the fold in errors.
        order: its rows in order.
        in_test: (N,) bool, the test block.
        select: share of the other rows that choose epochs; a contiguous run in every group.
        seed: of the place of the run.
        gap: rows this close to another part are dropped, except test rows.

    Returns:
        Row numbers of train, select and test.

    Raises:
        DataError: no select or test row remains.
    """
    labelled = dataset.labelled
    test = in_test & labelled
    at_test = find_near(order, test, gap)
    in_select = draw_run(dataset, order, labelled & ~in_test, select, seed, at_test) & ~in_test
    scored = in_select & labelled
    train = ~in_test & ~in_select & ~find_near(order, test | scored, gap)
    chosen = scored & ~at_test
    for part, rows in (("select", chosen), ("test", test)):
        # The fold `whole` has nothing to test.
        if not rows.any() and (part == "select" or name != "whole"):
            raise DataError(
                f"{name}: no {part} row is left of {int(labelled.sum())} labelled rows with gap={gap:g}; ask for fewer "
                "folds, another select or a smaller gap"
            )
    return np.flatnonzero(train), np.flatnonzero(chosen), np.flatnonzero(test)


def split_past(
    dataset: Dataset, name: str, order: Order, past: NDArray, in_test: NDArray, select: float, gap: float
) -> tuple[NDArray, NDArray, NDArray]:
    """Split the rows before a test block: the latest of them choose epochs, the earlier ones train.

    Args:
        dataset: the data.
        name: name of the fold in errors.
        order: its rows in order.
        past: (N,) bool, the rows before the test block.
        in_test: (N,) bool, the test block.
        select: share of the labelled rows of each group's past that choose epochs.
        gap: rows this close to a later part are dropped.

    Returns:
        Row numbers of train, select and test.

    Raises:
        DataError: no train or select row remains.
    """
    known = past & dataset.labelled
    before, total = rank_in_group(order, known)
    size = np.clip(np.round(select * total), 1, np.maximum(total - 1, 0)) * (total > 1)
    # Unlabelled rows among the select rows, or after them, belong to no part.
    late = past & (size > 0) & (before >= total - size)
    test, scored = in_test & dataset.labelled, late & dataset.labelled
    chosen = scored & ~find_near(order, test, gap)
    train = past & ~late & ~find_near(order, test | scored, gap)
    for part, rows in (("train", train & dataset.labelled), ("select", chosen)):
        if not rows.any():
            raise DataError(
                f"{name}: no {part} row is left of the {int(known.sum())} labelled rows before it with gap={gap:g}; "
                "ask for fewer folds, another select or a smaller gap"
            )
    return np.flatnonzero(train), np.flatnonzero(chosen), np.flatnonzero(test)


def draw_run(dataset: Dataset, order: Order, among: NDArray, share: float, seed: int, barred: NDArray) -> NDArray:
    """Draw several runs of rows in every group and keep the one best balanced in class.

    Args:
        dataset: the data.
        order: its rows in order.
        among: (N,) bool, the labelled rows to choose from.
        share: share of them in the run.
        seed: of the draws.
        barred: (N,) bool, rows that do not count for the balance.

    Returns:
        (N,) bool by row number.

    Raises:
        DataError: fewer than two rows to choose from.
    """
    candidates = np.flatnonzero(among)
    if len(candidates) < 2:
        raise DataError(
            f"{dataset.name}: only {len(candidates)} row with a label is left beside test; train and select need one "
            "each"
        )
    each, n = np.arange(len(candidates)), len(candidates)
    counts = count_strata(each, compute_strata(dataset)[candidates], n)
    cells = count_strata(each, compute_cells(dataset)[candidates], n)
    starts = np.random.default_rng([seed, 3]).random(DRAWS)
    draws = [select_run(order, among, share, float(start)) for start in starts]

    def measure(run: NDArray) -> tuple[int, int, float]:
        return compute_imbalance(counts, [np.flatnonzero((run & ~barred)[candidates])], cells)

    return min(draws, key=measure)
