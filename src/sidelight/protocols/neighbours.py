"""Do rows that stand next to each other resemble each other more than distant ones, as in a time series?"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.data.features import compute_features
from sidelight.data.rows import read_into_memory
from sidelight.data.target_values import compute_row_values
from sidelight.errors import SidelightWarning

ROWS, FILES, RUN = 1000, 200, 50
"""How many rows are looked at, how many where they are files that have to be decoded, and how many in a run."""
ERRORS, SMALLEST = 4.0, 0.1
"""By how many standard errors, and by how much at least, neighbours have to be more alike."""


class NeighbourSimilarity(NamedTuple):
    """A modality whose neighbouring rows differ by only this share of what rows with the same label differ by."""

    modality: str
    share: float

    def __str__(self) -> str:
        of = f"{self.share:.0%} of what other rows with the same label differ by (mean square)"
        return f"in {self.modality!r} they differ by {of}"


def find_similar_neighbours(dataset: Dataset, seed: int = 0) -> NeighbourSimilarity | None:
    """The modality in which neighbouring rows resemble each other most; None where none shows it.

    Features are those of `inspect`, as ranks (of classes: within each class), so that no outlier decides. The share is
    the mean squared difference of neighbours over that of rows that are neighbours when sorted by label, ties in random
    order: for classes, of random pairs of one class. So rows that are sorted by class or by target are no time series.

    Rows that do not depend on each other, given their labels, have a share of 1 or more, but for chance. A share counts
    where the two means differ by `ERRORS` of their standard errors and by the share `SMALLEST`. The errors are those of
    the differences themselves, times √1.5, because two successive differences share a row (their squares then correlate
    by 1/4 for normal values).
    """
    found = [alike for m in dataset.modalities if (alike := _of_modality(dataset, m, seed)) is not None]
    return min(found, key=lambda alike: alike.share, default=None)


def is_sorted_by_class(dataset: Dataset) -> bool:
    """Whether the labelled rows stand one class after the other."""
    if dataset.task != "classification":
        return False
    target = dataset.target[dataset.labelled]
    return len(target) > 2 * len(np.unique(target)) and int((np.diff(target) != 0).sum()) == len(np.unique(target)) - 1


def describe_blocks_option(dataset: Dataset) -> str:
    """How contiguous blocks are asked for, with the name of the time column where the data have one."""
    column = dataset.about.get("time_column", "") if dataset.time is None else ""
    return f"ask for --protocol blocks (protocol='blocks'{f', time={column!r}' if column else ''})"


def warn_similar_neighbours(dataset: Dataset, protocol: str) -> None:
    """Warn where rows are drawn one by one although neighbouring rows resemble each other more than distant ones.

    protocol: as `resolve` gives it. Rows are drawn one by one by "random", and by "official" for the select rows where
    the data have no groups, times or official select rows.
    """
    drawn = "select and test rows"
    if protocol == "official":
        if dataset.group is not None or dataset.time is not None or "select" in np.unique(np.asarray(dataset.split)):
            return
        drawn = "select rows"
    elif protocol != "random":
        return
    if (alike := find_similar_neighbours(dataset)) is not None:
        mend = describe_blocks_option(dataset)
        if protocol == "official":
            mend = "say what orders them (--time COLUMN, or --time order where they stand in order)"
        warnings.warn(
            f"{drawn} are drawn one by one from between train rows, and neighbouring rows of {dataset.name} resemble "
            f"each other: {alike}. Scores on such rows look too good. If rows follow each other in time, {mend}; if "
            "several come from one person or recording, name it (--group, group=…).",
            SidelightWarning,
            stacklevel=2,
        )


def _of_modality(dataset: Dataset, m: str, seed: int) -> NeighbourSimilarity | None:
    rng = np.random.default_rng([seed, 11])
    first, second = _drawn(*_neighbours(dataset, m), FILES if m in dataset.lazy else ROWS, rng)
    if len(first) < ERRORS**2:
        return None
    rows = np.union1d(first, second)
    target = compute_row_values(dataset.target[rows])
    classes = dataset.task == "classification"
    x = _ranked(_features(dataset, m, rows), target if classes else np.zeros(len(rows)))
    a, b = _paired_by_label(target, classes, rng)
    apart = np.square(x[a] - x[b]).mean(1)
    # What each row differs by from those with its label: targets differ in spread, and in how often rows neighbour.
    total, times = np.zeros(len(rows)), np.zeros(len(rows))
    for side in (a, b):
        np.add.at(total, side, apart)
        np.add.at(times, side, 1)
    i, j = np.searchsorted(rows, first), np.searchsorted(rows, second)
    known = (times[i] > 0) & (times[j] > 0)
    i, j = i[known], j[known]
    if len(i) < ERRORS**2:
        return None
    near, expected = np.square(x[i] - x[j]).mean(1), (total[i] / times[i] + total[j] / times[j]) / 2
    error = np.sqrt(1.5 * (near.var() / len(i) + apart.var() / min(len(i), len(apart))))
    difference = float(expected.mean() - near.mean())
    if not expected.mean() > 0 or difference < max(ERRORS * error, SMALLEST * expected.mean()):
        return None
    return NeighbourSimilarity(m, float(near.mean() / expected.mean()))


def _drawn(first: NDArray, second: NDArray, rows: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """The pairs of random runs of successive rows, about `rows` in all; all pairs where there are no more."""
    if len(first) <= rows:
        return first, second
    starts = np.sort(rng.permutation(len(first) // RUN)[: max(1, rows // RUN)]) * RUN
    at = (starts[:, None] + np.arange(RUN)[None]).reshape(-1)
    return first[at], second[at]


def _neighbours(dataset: Dataset, m: str) -> tuple[NDArray, NDArray]:
    """Rows that follow each other, both labelled, with the modality, of one group and (of classes) of one class."""
    n = len(dataset)
    group = np.zeros(n, np.int64) if dataset.group is None else np.unique(dataset.group, return_inverse=True)[1]
    time = np.arange(n) if dataset.time is None else dataset.time
    rows = np.lexsort((np.arange(n), time, group))
    rows = rows[dataset.labelled[rows] & dataset.present[m][rows]]
    first, second = rows[:-1], rows[1:]
    same = group[first] == group[second]
    if dataset.task == "classification":
        same &= dataset.target[first] == dataset.target[second]
    return first[same], second[same]


def _paired_by_label(target: NDArray, classes: bool, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Positions that follow each other when sorted by label, equal ones in random order; of classes only equal ones."""
    order = np.lexsort((rng.random(len(target)), target))
    a, b = order[:-1], order[1:]
    same = target[a] == target[b] if classes else np.isfinite(target[a]) & np.isfinite(target[b])
    return a[same], b[same]


def _ranked(x: NDArray, codes: NDArray) -> NDArray:
    """Every column's ranks within the rows of each code, from 0 to 1; missing values stand in the middle."""
    from scipy.stats import rankdata

    out = np.full(x.shape, 0.5)
    for code in np.unique(codes):
        rows = codes == code
        part = x[rows]
        missing = np.isnan(part)
        ranks = rankdata(part, axis=0, nan_policy="omit") / (np.maximum((~missing).sum(0), 1) + 1)
        out[rows] = np.where(missing, 0.5, ranks)
    return out


def _features(dataset: Dataset, m: str, rows: NDArray) -> NDArray:
    """(n, D) float64 features of these rows."""
    alone = dataset.select([m])
    some = replace(
        alone,
        inputs={m: read_into_memory(alone.inputs[m][rows])},
        target=read_into_memory(alone.target[rows]),
        labelled=alone.labelled[rows],
        present={m: alone.present[m][rows]},
        lengths={k: v[rows] for k, v in alone.lengths.items()},
        group=None,
        split=None,
        time=None,
        ids=alone.ids[rows],
    )
    return compute_features(some, m).astype(np.float64)
