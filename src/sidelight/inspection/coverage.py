"""Which rows have which modality: in all, in each part of the official split, in each group; and gaps in time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset

SPLITS = ("train", "select", "test")
"""The parts of an official split in the order in which they are shown."""
GAP = 5
"""A gap is a step in time of more than this many times the median step."""


@dataclass(frozen=True)
class Coverage:
    """Rows of each part of a data set, in all, with a label, and with each modality.

    `parts` are groups, or parts of the official split; all other fields have an entry for each of them.
    """

    parts: tuple[str, ...]
    rows: tuple[int, ...]
    labelled: tuple[int, ...]
    present: dict[str, tuple[int, ...]]

    @property
    def shares(self) -> NDArray:
        """(P, M) share of a part's rows that have a modality."""
        counts = np.array(list(self.present.values()), float).reshape(len(self.present), len(self.parts))
        return np.asarray((counts / np.maximum(self.rows, 1)).T)


def number_parts(part_of: NDArray) -> tuple[list[str], NDArray]:
    """The names of the parts, sorted but for `SPLITS`, and (N,) the number of each row's part."""
    names, at = np.unique(part_of, return_inverse=True)
    found = list(map(str, names.tolist()))
    if set(found) <= set(SPLITS):
        order = sorted(range(len(found)), key=lambda i: SPLITS.index(found[i]))
        return [found[i] for i in order], np.argsort(order)[at]
    return found, at


def count_coverage(dataset: Dataset, part_of: NDArray | None) -> Coverage:
    """Count the rows that have each modality.

    Args:
        dataset: the rows.
        part_of: (N,) the part of each row; None: all rows are one part, "all".
    """
    names, at = number_parts(np.full(len(dataset), "all") if part_of is None else part_of)

    def count(rows: NDArray | None) -> tuple[int, ...]:
        return tuple(np.bincount(at if rows is None else at[rows], minlength=len(names)).tolist())

    return Coverage(
        parts=tuple(names),
        rows=count(None),
        labelled=count(dataset.labelled),
        present={m: count(present) for m, present in dataset.present.items()},
    )


@dataclass(frozen=True)
class TimeInfo:
    """The times of the rows: first, last, the usual step between neighbours, and the steps that are far longer.

    Neighbours are rows of one group that follow each other in time. `repeated` counts rows with the time of the one
    before; `after` and `before` name the rows around the largest gap.
    """

    first: float
    last: float
    step: float
    gaps: int = 0
    largest: float = 0.0
    after: str = ""
    before: str = ""
    repeated: int = 0


def describe_times(dataset: Dataset) -> TimeInfo | None:
    """Find gaps in the times of the rows; None without times."""
    if dataset.time is None:
        return None
    t = dataset.time
    group = np.zeros(len(t), int) if dataset.group is None else np.unique(dataset.group, return_inverse=True)[1]
    order = np.lexsort((t, group))
    steps, together = np.diff(t[order]), np.diff(group[order]) == 0
    usual = steps[together & (steps > 0)]
    step = float(np.median(usual)) if len(usual) else 0.0
    found = TimeInfo(float(t.min()), float(t.max()), step, repeated=int((together & (steps == 0)).sum()))
    gaps = np.flatnonzero(together & (steps > GAP * step)) if step else np.zeros(0, int)
    if not len(gaps):
        return found
    k = int(gaps[steps[gaps].argmax()])
    around = (str(dataset.ids[order[k]]), str(dataset.ids[order[k + 1]]))
    return TimeInfo(found.first, found.last, step, len(gaps), float(steps[k]), *around, repeated=found.repeated)
