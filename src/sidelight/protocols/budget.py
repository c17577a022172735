"""The label budget of a fold: which labels training may read, and inside which of them epochs are chosen."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.errors import DataError
from sidelight.protocols.blocks import cut_blocks, find_near, sort_by_time
from sidelight.protocols.fold import IN_BLOCKS, Fold
from sidelight.protocols.labels import keep_labels, warn_lost_classes
from sidelight.protocols.strata import DRAWS, compute_cells, compute_imbalance, compute_strata, count_strata

INNER_FOLDS = 3
"""Inner folds in which epochs are chosen where labels are few: as many trainings beside that of the network itself."""
ENOUGH_ROWS, ENOUGH_GROUPS = 500, 5
"""A select part of fewer labelled rows or groups is few: the standard error of an accuracy over 500 independent rows is
two points."""

SelectLabels = Literal["auto", "inner", "part", "extra"]
Way = Literal["inner", "part", "extra"]
DESCRIBED: dict[Way, str] = {
    "inner": "epochs are chosen by cross-validation inside the labelled rows, then all of them train",
    "part": "a part of the labelled rows chooses epochs",
    "extra": "select rows keep all their labels, beside the label budget (select_labels=extra)",
}
"""How epochs are chosen, for people."""


@dataclass(frozen=True)
class LabelBudget:
    """The rows of a fold that train and choose epochs at one label fraction, and the labels that they keep.

    Attributes:
        train: row numbers that train, with and without label.
        select: labelled row numbers that choose epochs; with "inner" all labelled rows, which only `inner` divides.
        kept: (N,) bool, the rows of train and select whose label may be read.
        way: how epochs are chosen: "inner", "part" or "extra", as in `DESCRIBED`.
        inner: with "inner", (N,) int, the inner fold that holds a row out, −1 for rows that always train.
    """

    train: NDArray
    select: NDArray
    kept: NDArray
    way: Way
    inner: NDArray | None = None

    @property
    def inner_folds(self) -> int:
        """The number of inner folds; 0 without."""
        return 0 if self.inner is None else int(self.inner.max()) + 1


def share_labels(
    dataset: Dataset,
    fold: Fold,
    share: float,
    seed: int,
    *,
    protocol: str,
    select_labels: SelectLabels = "auto",
    measurable: Callable[[NDArray], bool] = lambda rows: True,
) -> LabelBudget:
    """Share out the labels of a fold: `share` of the labelled train groups and `share` of the select groups keep them.

    With "auto", all labels (`share` 1) leave the fold as it is drawn. Of fewer labels, the kept ones of the select part
    choose epochs if they are many; otherwise all kept labels train, and inner cross-validation chooses epochs. The
    labels that are kept are the same either way. Select rows that lose their label train as unlabelled rows, except in
    time, where they are neighbours of rows that choose epochs.

    Args:
        dataset: the data.
        fold: one of its folds.
        share: share of the labelled groups that keep their labels, in (0, 1].
        seed: of the order of groups, and of the inner folds.
        protocol: as `resolve_protocol` returns it.
        select_labels: "auto", "inner", "part", or "extra": select rows keep all their labels, beside the budget.
        measurable: whether labelled rows (row numbers) have a score.

    Raises:
        DataError: the labelled rows are too few, or too alike, to choose epochs inside them.
    """
    if select_labels == "extra" or (share == 1 and select_labels != "inner"):
        kept = keep_labels(dataset, fold.train, share, seed)
        warn_lost_classes(dataset, fold.train, kept, share)
        return LabelBudget(fold.train, fold.select, kept, "extra" if share < 1 else "part")

    kept = keep_labels(dataset, fold.train, share, seed) & keep_labels(dataset, fold.select, share, seed)
    both = np.union1d(fold.train, fold.select)
    chosen = fold.select[kept[fold.select]]
    warn_lost_classes(dataset, both, kept, share)
    as_part = LabelBudget(
        train=fold.train if _in_time(dataset, protocol) else np.setdiff1d(both, chosen),
        select=chosen,
        kept=kept,
        way="part",
    )
    if select_labels == "part" or (select_labels == "auto" and _many(dataset, chosen) and measurable(chosen)):
        return as_part
    for folds in range(INNER_FOLDS, 1, -1):
        inner = draw_inner_folds(dataset, both[kept[both]], folds, protocol, seed)
        held_out = [np.flatnonzero((inner == i) & kept & np.isin(np.arange(len(kept)), both)) for i in range(folds)]
        if all(len(rows) and measurable(rows) for rows in held_out):
            return LabelBudget(both, both[kept[both]], kept, "inner", inner)
    if select_labels == "auto" and measurable(chosen):
        return as_part
    raise DataError(
        f"{fold.name}: {int(kept[both].sum())} rows keep their label at label_fraction={share:g}, too few or too alike "
        "to choose epochs inside them; ask for a larger label_fraction, or for select_labels=extra, which reads labels "
        "beside the budget"
    )


def hold_out(dataset: Dataset, budget: LabelBudget, part: int, protocol: str, gap: float) -> LabelBudget:
    """The budget of one inner fold: its rows choose epochs, with label or without they do not train.

    Args:
        dataset: the data.
        budget: a budget with inner folds.
        part: the number of the inner fold.
        protocol: as `resolve_protocol` returns it.
        gap: as in `split`; train rows this close to a row that is held out are left out.
    """
    assert budget.inner is not None
    out = budget.inner == part
    barred = out
    if _in_time(dataset, protocol):
        scored = out & budget.kept & np.isin(np.arange(len(out)), budget.select)
        barred = out | find_near(sort_by_time(dataset), scored, gap)
    train = budget.train[~barred[budget.train]]
    return replace(budget, train=train, select=budget.select[out[budget.select]], way="part", inner=None)


def draw_inner_folds(dataset: Dataset, rows: NDArray, folds: int, protocol: str, seed: int) -> NDArray:
    """Divide labelled rows into folds: whole groups, rows balanced in class, or contiguous blocks in time.

    Args:
        dataset: the data.
        rows: (n,) labelled row numbers.
        folds: the number of folds.
        protocol: as `resolve_protocol` returns it.
        seed: of the draws.

    Returns:
        (N,) int, the fold of each row; −1 for rows of no fold. Other rows of a group, and in time all rows of a block,
        have the fold of the labelled ones.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    inner = np.full(len(dataset), -1)
    if _in_time(dataset, protocol):
        known = np.zeros(len(dataset), bool)
        known[rows] = True
        return cut_blocks(sort_by_time(dataset), known, folds)
    strata = compute_strata(dataset, rows)
    if dataset.group is None or protocol == "random":
        if len(rows) < folds:
            return inner
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class with fewer rows than folds
            try:
                parts = list(
                    StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, compute_cells(dataset)[rows])
                )
            except ValueError:  # no class has as many rows as folds
                parts = list(KFold(folds, shuffle=True, random_state=seed).split(rows))
        for i, (_, test) in enumerate(parts):
            inner[rows[test]] = i
        return inner
    names, unit = np.unique(dataset.group[rows], return_inverse=True)
    if len(names) < folds:
        return inner
    counts = count_strata(unit, strata[rows], len(names))
    cells = count_strata(unit, compute_cells(dataset)[rows], len(names))
    seeds = np.random.default_rng([seed, 4]).integers(2**31, size=DRAWS)
    draws = [[t for _, t in KFold(folds, shuffle=True, random_state=int(s)).split(names)] for s in seeds]
    best = min(draws, key=lambda tests: compute_imbalance(counts, tests, cells))
    for i, test in enumerate(best):
        inner[np.isin(dataset.group, names[test])] = i
    return inner


def _in_time(dataset: Dataset, protocol: str) -> bool:
    return protocol in IN_BLOCKS or (dataset.group is None and dataset.time is not None and protocol != "random")


def _many(dataset: Dataset, rows: NDArray) -> bool:
    """Whether labelled rows are enough to choose epochs."""
    groups = ENOUGH_GROUPS if dataset.group is None else len(np.unique(dataset.group[rows]))
    return len(rows) >= ENOUGH_ROWS and groups >= ENOUGH_GROUPS
