"""A fold, the protocols that draw folds, and what every fold has to hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.errors import ConfigError, DataError
from sidelight.protocols.neighbours import describe_blocks_option, is_sorted_by_class

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


def resolve_protocol(dataset: Dataset, protocol: Protocol) -> Protocol:
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
        f"row each is (--group, group=…); if rows follow each other in time, {describe_blocks_option(dataset)}; or, if every "
        "row is independent, ask for --protocol random (protocol='random')"
    )


def check_fold(dataset: Dataset, fold: Fold, protocol: str) -> None:
    rows = fold.train[dataset.labelled[fold.train]]
    if dataset.task == "regression":
        if len(rows) < 2:
            gap = "; ask for a smaller gap or select" if protocol == "blocks" else ""
            raise DataError(f"{fold.name}: only {len(rows)} train rows have a label{gap}")
        return
    missing = dataset.classes(np.flatnonzero(dataset.labelled)) - dataset.classes(rows)
    if missing:
        names = ", ".join(repr(dataset.class_names[c]) for c in sorted(missing))
        if protocol == "blocks" and is_sorted_by_class(dataset):
            raise DataError(
                f"{fold.name}: no train row is of class {names}, because the rows of {dataset.name} are sorted by "
                "class. That is no order in time, and a contiguous block holds whole classes. Name the column with the "
                "time (--time, time=…) or the group (--group, group=…), or ask for protocol 'random'"
            )
        raise DataError(
            f"{fold.name}: no train row is of class {names}, so it cannot be learnt; ask for fewer or other folds, "
            "a smaller select, or leave the class out"
        )
