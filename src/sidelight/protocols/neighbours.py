"""Find out whether neighbouring rows resemble each other more than distant ones, as in a time series."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sidelight.data.by_modality import index_rows
from sidelight.data.dataset import Dataset
from sidelight.data.features import compute_features
from sidelight.data.rows import read_into_memory
from sidelight.data.target_values import compute_row_values
from sidelight.errors import SidelightWarning

ROWS, FILES, RUN = 1000, 200, 50
"""Rows that are compared, rows that are compared if they are files to decode, and rows in a run."""
ERRORS, SMALLEST = 4.0, 0.1
"""Neighbours have to be more alike by this many standard errors, and by at least this share."""


class NeighbourSimilarity(NamedTuple):
    """A modality whose neighbouring rows differ less than other rows with the same label.

    share: the mean squared difference of neighbours, as a share of that of other rows with the same label.
    """

    modality: str
    share: float

    def __str__(self) -> str:
        return (
            f"in {self.modality!r} their mean squared difference is {self.share:.0%} of that of other rows with the "
            "same label"
        )


def find_similar_neighbours(dataset: Dataset, seed: int = 0) -> NeighbourSimilarity | None:
    """The modality in which neighbouring rows resemble each other most; None if no modality shows it.

    Features are those of `inspect`, as ranks (within each class of a classification), so that outliers do not decide.
    The share is the mean squared difference of neighbours over that of rows that are neighbours when sorted by label,
    with ties in random order; for classes these are random pairs within a class. Rows that are merely sorted by class
    or by target therefore do not count as a time series.

    Rows that are independent given their labels have a share of 1 or more, up to chance. A share counts if the two
    means differ by `ERRORS` standard errors and by the share `SMALLEST`. The standard errors are those of the
    differences times √1.5, because two successive differences share a row (their squares then have a correlation of 1/4
    for normal values).
    """
    similarities = []
    for m in dataset.modalities:
        similarity = _compare_neighbours(dataset, m, seed)
        if similarity is not None:
            similarities.append(similarity)
    return min(similarities, key=lambda similarity: similarity.share, default=None)


def is_sorted_by_class(dataset: Dataset) -> bool:
    """Whether the labelled rows stand one class after the other."""
    if dataset.task != "classification":
        return False
    target = dataset.target[dataset.labelled]
    return len(target) > 2 * len(np.unique(target)) and int((np.diff(target) != 0).sum()) == len(np.unique(target)) - 1


def describe_blocks_option(dataset: Dataset) -> str:
    """The advice to use contiguous blocks, with the name of the time column if the data have one."""
    column = dataset.about.get("time_column", "") if dataset.time is None else ""
    return f"ask for --protocol blocks (protocol='blocks'{f', time={column!r}' if column else ''})"


def warn_similar_neighbours(dataset: Dataset, protocol: str) -> None:
    """Warn if rows are drawn one by one although neighbouring rows resemble each other more than distant ones.

    Args:
        dataset: the data.
        protocol: as `resolve_protocol` returns it. "random" draws rows one by one, and "official" draws select rows one
            by one if the data have no groups, times or official select rows.
    """
    kind = "select and test rows"
    if protocol == "official":
        if dataset.group is not None or dataset.time is not None or "select" in np.unique(np.asarray(dataset.split)):
            return
        kind = "select rows"
    elif protocol != "random":
        return
    if (similarity := find_similar_neighbours(dataset)) is not None:
        advice = describe_blocks_option(dataset)
        if protocol == "official":
            advice = "name what orders them (--time COLUMN, or --time order where they stand in order)"
        warnings.warn(
            f"{kind} are drawn one by one from between train rows, and neighbouring rows of {dataset.name} resemble "
            f"each other: {similarity}. Scores on such rows look too good. If rows follow each other in time, {advice};"
            " if several come from one person or recording, name their column (--group, group=…).",
            SidelightWarning,
            stacklevel=2,
        )


def _compare_neighbours(dataset: Dataset, m: str, seed: int) -> NeighbourSimilarity | None:
    """The similarity of neighbours in one modality; None if chance can explain it."""
    rng = np.random.default_rng([seed, 11])
    first, second = _draw_pairs(*_pair_neighbours(dataset, m), FILES if m in dataset.lazy else ROWS, rng)
    if len(first) < ERRORS**2:
        return None
    rows = np.union1d(first, second)
    target = compute_row_values(dataset.target[rows])
    classes = dataset.task == "classification"
    x = _rank_columns(_read_features(dataset, m, rows), target if classes else np.zeros(len(rows)))
    a, b = _pair_by_label(target, classes, rng)
    apart = np.square(x[a] - x[b]).mean(1)
    # The mean difference of each row from others with its label: labels differ in spread and in number.
    total, times = np.zeros(len(rows)), np.zeros(len(rows))
    for side in (a, b):
        np.add.at(total, side, apart)
        np.add.at(times, side, 1)
    i, j = np.searchsorted(rows, first), np.searchsorted(rows, second)
    known = (times[i] > 0) & (times[j] > 0)
    i, j = i[known], j[known]
    if len(i) < ERRORS**2:
        return None
    # Each pair of neighbours is compared with what its two rows differ by from others with their label.
    near, expected = np.square(x[i] - x[j]).mean(1), (total[i] / times[i] + total[j] / times[j]) / 2
    error = np.sqrt(1.5 * (near.var() / len(i) + apart.var() / min(len(i), len(apart))))
    difference = float(expected.mean() - near.mean())
    if not expected.mean() > 0 or difference < max(ERRORS * error, SMALLEST * expected.mean()):
        return None
    return NeighbourSimilarity(m, float(near.mean() / expected.mean()))


def _draw_pairs(first: NDArray, second: NDArray, rows: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Draw the pairs in random runs of successive rows, about `rows` in total; all pairs if there are fewer."""
    if len(first) <= rows:
        return first, second
    # Whole runs, since single pairs would decode twice as many files for as many pairs.
    starts = np.sort(rng.permutation(len(first) // RUN)[: max(1, rows // RUN)]) * RUN
    at = (starts[:, None] + np.arange(RUN)[None]).reshape(-1)
    return first[at], second[at]


def _pair_neighbours(dataset: Dataset, m: str) -> tuple[NDArray, NDArray]:
    """Pairs of successive rows that are labelled, have the modality, and share group and (for classes) class."""
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


def _pair_by_label(target: NDArray, classes: bool, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Pairs of positions that follow each other when sorted by label, ties in random order; for classes only ties."""
    order = np.lexsort((rng.random(len(target)), target))
    a, b = order[:-1], order[1:]
    same = target[a] == target[b] if classes else np.isfinite(target[a]) & np.isfinite(target[b])
    return a[same], b[same]


def _rank_columns(x: NDArray, codes: NDArray) -> NDArray:
    """The ranks of every column within the rows of each code, from 0 to 1; missing values become 0.5."""
    from scipy.stats import rankdata

    out = np.full(x.shape, 0.5)
    for code in np.unique(codes):
        rows = codes == code
        part = x[rows]
        missing = np.isnan(part)
        ranks = rankdata(part, axis=0, nan_policy="omit") / (np.maximum((~missing).sum(0), 1) + 1)
        out[rows] = np.where(missing, 0.5, ranks)
    return out


def _read_features(dataset: Dataset, m: str, rows: NDArray) -> NDArray:
    """(n, D) float64 features of these rows; files are decoded."""
    alone = dataset.select([m])
    some = replace(
        alone,
        inputs={m: read_into_memory(alone.inputs[m][rows])},
        target=read_into_memory(alone.target[rows]),
        labelled=alone.labelled[rows],
        present=index_rows(alone.present, rows),
        lengths=index_rows(alone.lengths, rows),
        group=None,
        split=None,
        time=None,
        ids=alone.ids[rows],
    )
    return compute_features(some, m)[:].astype(np.float64)
