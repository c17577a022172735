"""`Fold`, the protocols that draw folds, and the check of a fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.errors import ConfigError, DataError
from sidelight.protocols.neighbours import describe_blocks_option, is_sorted_by_class

Protocol = Literal["auto", "group-kfold", "leave-one-group-out", "official", "random", "blocks", "forward"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
IN_BLOCKS = ("blocks", "forward")
"""The protocols that cut rows in time into contiguous blocks."""
WHOLE = -1
"""The number of the fold that trains on all rows (`build_whole_fold`)."""
FOLDS = 5
"""The default number of folds."""


@dataclass(frozen=True)
class Fold:
    """Row numbers, sorted and disjoint. `select` and `test` are labelled; `train` may hold unlabelled rows."""

    name: str
    train: NDArray
    select: NDArray
    test: NDArray


def resolve_protocol(dataset: Dataset, protocol: Protocol) -> Protocol:
    """The protocol that "auto" stands for: official with a split, else group-kfold with groups, else blocks with times.

    Raises ConfigError for data with none of them: only the user knows whether rows are independent.
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
        f"protocol 'auto' needs groups or a split, and {dataset.name} has neither: name the column of the person or "
        f"session of each row (--group, group=…); if rows follow each other in time, {describe_blocks_option(dataset)};"
        " or, if every row is independent, ask for --protocol random (protocol='random')"
    )


def check_fold(dataset: Dataset, fold: Fold, protocol: str) -> None:
    """Raise DataError unless the train rows have labels of every class (of a regression, two labels).

    Args:
        dataset: the data.
        fold: one of its folds.
        protocol: the protocol that drew it, for advice.
    """
    rows = fold.train[dataset.labelled[fold.train]]
    if dataset.task == "regression":
        if len(rows) < 2:
            gap = "; ask for a smaller gap or select" if protocol in IN_BLOCKS else ""
            raise DataError(f"{fold.name}: only {len(rows)} train rows have a label{gap}")
        return
    missing = dataset.classes(np.flatnonzero(dataset.labelled)) - dataset.classes(rows)
    if missing:
        names = ", ".join(repr(dataset.class_names[c]) for c in sorted(missing))
        if protocol in IN_BLOCKS and is_sorted_by_class(dataset):
            raise DataError(
                f"{fold.name}: no train row is of class {names}, because the rows of {dataset.name} are sorted by "
                "class. That is not an order in time, and a contiguous block holds whole classes. Name the column with "
                "the time (--time, time=…) or the group (--group, group=…), or ask for protocol 'random'"
            )
        raise DataError(
            f"{fold.name}: no train row is of class {names}, so it cannot be learnt; ask for fewer or other folds, "
            "a smaller select, or leave the class out"
        )
