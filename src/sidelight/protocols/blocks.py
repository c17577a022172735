"""Rows in their order in time: contiguous blocks of them, and the gaps between blocks.

Rows that follow each other in time resemble each other. A test row between two train rows then asks less of a network
than one from another day, and so does a select row. Blocks keep neighbours on one side, and a gap keeps apart the rows
next to an edge, e.g. windows that overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.errors import DataError
from sidelight.protocols.strata import DRAWS, compute_imbalance, compute_strata, count_strata


@dataclass(frozen=True)
class Order:
    """All rows sorted by group, and within a group by time (where rows have none: as they stand).

    rows: (N,) row numbers. group: (N,) int, whose row each is. time: (N,) float64, in rows where there is no time.
    first: (N,) int, the position of the first row of the same group and time: such rows are never separated.
    """

    rows: NDArray
    group: NDArray
    time: NDArray
    first: NDArray


def sort_by_time(dataset: Dataset) -> Order:
    """The rows of every group in their order; without groups, all rows are one sequence."""
    n = len(dataset)
    group = np.zeros(n, np.int64) if dataset.group is None else np.unique(dataset.group, return_inverse=True)[1]
    time = np.arange(n, dtype=np.float64) if dataset.time is None else dataset.time
    rows = np.lexsort((np.arange(n), time, group))
    group, time = group[rows], time[rows]
    new = np.ones(n, bool)
    new[1:] = (np.diff(group) != 0) | (np.diff(time) != 0)
    if dataset.time is None:  # the gap is counted within the group's own rows
        starts = np.maximum.accumulate(np.where(np.diff(group, prepend=-1) != 0, np.arange(n), 0))
        time = np.arange(n, dtype=np.float64) - starts
    return Order(rows, group, time, np.maximum.accumulate(np.where(new, np.arange(n), 0)))


def rank_in_group(order: Order, counted: NDArray) -> tuple[NDArray, NDArray]:
    """(N,) how many counted rows of its group come before each row, and (N,) how many there are in its group.

    Rows of one time have the same place. counted: (N,) bool by row number; so are the answers.
    """
    marks = counted[order.rows].astype(np.int64)
    earlier = np.cumsum(marks) - marks
    earlier = (earlier - earlier[np.searchsorted(order.group, order.group)])[order.first]
    before, total = np.empty_like(marks), np.empty_like(marks)
    before[order.rows] = earlier
    total[order.rows] = np.bincount(order.group, weights=marks)[order.group].astype(np.int64)
    return before, total


def cut_blocks(order: Order, counted: NDArray, blocks: int) -> NDArray:
    """(N,) int: which of `blocks` contiguous blocks with equally many counted rows each row is in, in every group.

    −1 for groups without a counted row.
    """
    before, total = rank_in_group(order, counted)
    block = np.minimum(before, total - 1) * blocks // np.maximum(total, 1)
    return np.where(total > 0, block, -1)


def select_run(order: Order, counted: NDArray, share: float, start: float) -> NDArray:
    """(N,) bool: in every group a run of consecutive rows that holds the share of its counted rows.

    start: in [0, 1), where the run begins, from the earliest place to the latest. A group with a single counted row
    has no run.
    """
    before, total = rank_in_group(order, counted)
    size = np.clip(np.round(share * total), 1, np.maximum(total - 1, 0)) * (total > 1)
    first = np.floor(start * (total - size + 1))
    return np.asarray((before >= first) & (before < first + size))


def find_near(order: Order, marked: NDArray, gap: float) -> NDArray:
    """(N,) bool: rows at most `gap` (in the order's time) from a marked row of their group. marked: (N,) bool."""
    n = len(order.rows)
    marks, at = marked[order.rows], np.arange(n)
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
    """Row numbers of train, select and test: test rows as given, and of the others a contiguous block that selects.

    Raises:
        DataError: no select or test row is left.
    """
    labelled = dataset.labelled
    test = in_test & labelled
    at_test = find_near(order, test, gap)
    in_select = draw_run(dataset, order, labelled & ~in_test, select, seed, at_test) & ~in_test
    scored = in_select & labelled
    train = ~in_test & ~in_select & ~find_near(order, test | scored, gap)
    parts = train, scored & ~at_test, test
    for part, rows in zip(("select", "test"), parts[1:]):
        if not rows.any() and (part == "select" or name != "whole"):
            raise DataError(
                f"{name}: no {part} row is left of {int(labelled.sum())} labelled rows with gap={gap:g}; ask for fewer "
                "folds, another select or a smaller gap"
            )
    return np.flatnonzero(parts[0]), np.flatnonzero(parts[1]), np.flatnonzero(parts[2])


def draw_run(dataset: Dataset, order: Order, among: NDArray, share: float, seed: int, barred: NDArray) -> NDArray:
    """(N,) bool: in every group a run of rows with the share of its rows `among`; of several draws the best balanced.

    among: (N,) bool, labelled rows. barred: (N,) bool, rows that do not count in what is balanced.
    """
    candidates = np.flatnonzero(among)
    if len(candidates) < 2:
        raise DataError(
            f"{dataset.name}: only {len(candidates)} row with a label is left beside test; train and select need one "
            "each"
        )
    held = count_strata(np.arange(len(candidates)), compute_strata(dataset)[candidates], len(candidates))
    starts = np.random.default_rng([seed, 3]).random(DRAWS)
    draws = [select_run(order, among, share, float(start)) for start in starts]
    return min(draws, key=lambda run: compute_imbalance(held, [np.flatnonzero((run & ~barred)[candidates])]))
