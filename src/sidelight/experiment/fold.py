"""The rows of one fold and seed, as each of its jobs may see them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sidelight.config import Config, NetworkConfig
from sidelight.config.encoder_names import choose_encoder
from sidelight.data import Dataset
from sidelight.data.batch import Batch
from sidelight.data.preprocess import Preprocessor
from sidelight.data.target_values import compute_row_values
from sidelight.errors import RunError
from sidelight.experiment.plan import derive_seed
from sidelight.protocols import WHOLE, LabelBudget, build_whole_fold, hold_out, share_labels, split
from sidelight.protocols.blocks import cut_blocks, sort_by_time
from sidelight.protocols.fold import IN_BLOCKS
from sidelight.tasks import Task, resolve_task
from sidelight.utils.machine import release_memory
from sidelight.utils.phases import phase

PREPARED_AT_ONCE = 64 * 2**20
"""Bytes of rows that each process preprocesses once and holds. Of more rows, processes share those of the data set, and
preprocess the rows of each batch when it is drawn."""


def read_as_statistics(network: NetworkConfig, dataset: Dataset, modalities: Sequence[str]) -> set[str]:
    """The signals of which a network reads window statistics, which the preprocessor computes once."""
    signals = [m for m in modalities if dataset.inputs[m].ndim == 3]
    summarized = ("auto", "statistics")
    return {m for m in signals if choose_encoder(m, 2, network.encoder, network.encoders) in summarized}


class FoldData:
    """Train, select and test rows of one fold and seed, preprocessed with the statistics of the train rows.

    Args:
        config: the experiment's settings, with every default filled in.
        dataset: all rows.
        fold: the number of the fold, or `WHOLE` for all rows.
        seed: the seed of the split.

    Raises:
        RunError: the select or test rows cannot be scored, e.g. because they have one class.
    """

    def __init__(self, config: Config, dataset: Dataset, fold: int, seed: int):
        self.config, self.dataset, self.seed, self.number = config, dataset, seed, fold
        if fold == WHOLE:
            self.fold = build_whole_fold(dataset, config.protocol, config.select, seed, config.gap)
        else:
            self.fold = split(dataset, config.protocol, config.folds, config.select, seed, config.gap)[fold]
        self._task, self._tasks = resolve_task(config, dataset), dict[float, Task]()
        self._budgets = dict[float, LabelBudget]()
        self._outer: FoldData | None = None

        # Training takes hours, so rows without a score are an error before it, not after.
        if fold != WHOLE:
            self._check_scored("test", self.fold.test)
        for label_fraction in config.label_fraction if fold != WHOLE else []:
            self.budget(label_fraction)
        self.available, self.privileged = list(config.available), list(config.privileged)
        self.modalities = [*self.available, *self.privileged]

    def _check_scored(self, part: str, rows: NDArray) -> None:
        """Check that labelled rows have a score."""
        scored = rows[self.dataset.labelled[rows]]
        if why := self._task.explain_unmeasurable(self.dataset.target[scored]):
            raise RunError(f"{self.fold.name}, {part} rows: {why}")

    def budget(self, label_fraction: float) -> LabelBudget:
        """The rows that train and choose epochs at a label fraction, and the labels that they keep.

        Raises:
            RunError: the select rows cannot be scored.
            DataError: there are too few labels to choose epochs.
        """
        if label_fraction not in self._budgets:
            target = self.dataset.target
            budget = share_labels(
                self.dataset,
                self.fold,
                label_fraction,
                self.seed,
                protocol=self.config.protocol,
                select_labels=self.config.select_labels,
                measurable=lambda rows: not self._task.explain_unmeasurable(target[rows]),
            )
            if budget.inner is None:
                self._check_scored("select", budget.select)
            self._budgets[label_fraction] = budget
            if self.number == WHOLE:  # nothing is left to test, and labels beside the budget are not read
                self.fold = replace(self.fold, test=budget.select)
        return self._budgets[label_fraction]

    def hold_out(self, label_fraction: float, part: int) -> FoldData:
        """The rows of one inner fold, which chooses epochs and is not trained on; nothing is left to test.

        Its rows are preprocessed as those of the whole fold are.
        """
        self._prepared  # noqa: B018  prepared once, for all inner folds
        budget = self.budget(label_fraction)
        budget = hold_out(self.dataset, budget, part, self.config.protocol, self.config.gap)
        inner = copy.copy(self)
        inner._outer, inner._tasks, inner._budgets = self, {}, {label_fraction: budget}
        inner.fold = replace(self.fold, name=f"{self.fold.name}, inner fold {part + 1}", test=budget.select)
        return inner

    def with_config(self, config: Config) -> FoldData:
        """The same rows, prepared once, with other settings of networks and their training."""
        self._prepared  # noqa: B018  prepared once, for all draws of a sweep
        made = copy.copy(self)
        made.config = config
        return made

    def without_test(self) -> FoldData:
        """The same rows without those that test, for a draw of a sweep that is not chosen yet."""
        made = copy.copy(self)
        made.fold = replace(self.fold, test=self.fold.test[:0])
        return made

    def rows_per_epoch(self, label_fraction: float) -> int:
        """The number of rows that gives the steps of an epoch: inner folds count those of the whole fold."""
        return len((self._outer or self).budget(label_fraction).train)

    @property
    def large(self) -> bool:
        """Whether the rows take more than `PREPARED_AT_ONCE` bytes, so that each process holds as little as it can."""
        arrays = [self.dataset.inputs[m] for m in self.modalities if m not in self.dataset.lazy]
        return bool(sum(x.nbytes for x in arrays) > PREPARED_AT_ONCE)

    @cached_property
    @phase("prepare rows")
    def preprocessor(self) -> Preprocessor:
        """Fitted on the fold's train rows; its effect on a modality does not depend on the others."""
        return Preprocessor.fit(
            self.dataset,
            self.fold.train,
            self.modalities,
            statistics=read_as_statistics(self.config.network, self.dataset, self.modalities),
            standardize=self.config.standardize,
            impute=self.config.impute,
            detrend=self.config.detrend,
        )

    @cached_property
    @phase("prepare rows")
    def _prepared(self) -> Batch:
        batch = self.dataset.batch(self.preprocessor, self.modalities, deferred=self.large)
        if self.large:
            release_memory()  # of the folds and statistics
        # A modality without an entry in `present` is present in every row.
        return replace(batch, present={m: there for m, there in batch.present.items() if not there.all()})

    def rows(self, part: str, label_fraction: float = 1.0, control: str = "") -> Batch:
        """The "train", "select" or "test" rows; `Batch.index` counts within the part.

        Args:
            part: "train", "select" or "test".
            label_fraction: the share of the labelled groups that keep their labels.
            control: with "placebo" the privileged modalities of train rows are permuted among train rows, and those of
                select rows among select rows; test rows are never permuted.
        """
        budget = self.budget(label_fraction)
        where = self.fold.test if part == "test" else getattr(budget, part)
        batch = replace(self._prepared.index_select(torch.as_tensor(where)), index=torch.arange(len(where)))
        if part == "train":
            labelled = torch.as_tensor(budget.kept[where])
            # The value is hidden too, so that no loss can read the target of an unlabelled row.
            hidden = torch.nan if batch.target.is_floating_point() else -1
            known = labelled.view(-1, *[1] * (batch.target.dim() - 1))
            maps = None if batch.maps is None else batch.maps.keep_labels(labelled.numpy())
            batch = replace(batch, labelled=labelled, target=batch.target.where(known, hidden), maps=maps)
        if control == "placebo" and part != "test":
            batch = permute_modalities(batch, self.privileged, derive_seed(self.seed, self.number, "placebo", part))
        return batch

    def fit_task(self, label_fraction: float) -> Task:
        """The task, fitted to the train labels (once for each share of labelled groups)."""
        if label_fraction not in self._tasks:
            train = self.rows("train", label_fraction)
            self._tasks[label_fraction] = self._task.fit(train.target, train.labelled)
        return self._tasks[label_fraction]

    def assign_teacher_folds(self, label_fraction: float, folds: int) -> NDArray:
        """Assign every train row to a teacher fold, whose rows are taught by a teacher trained on the other folds.

        Groups with labelled rows are divided into `folds` teacher folds. Groups without labelled rows are fold
        `folds`: no teacher was trained on them, so the fold's own teacher teaches them. A single labelled group has no
        teacher that was trained without it: its rows are fold −1, which only the task loss trains. Without groups each
        row is a group; rows in time are divided into contiguous blocks, unlabelled rows too.

        Args:
            label_fraction: the share of the labelled groups that keep their labels.
            folds: the number of cross-fitted teachers.

        Returns:
            (train rows,) int64.
        """
        train = self.budget(label_fraction).train
        labelled = self.budget(label_fraction).kept[train]
        in_time = self.config.protocol in IN_BLOCKS or self.dataset.time is not None
        if self.dataset.group is None and in_time and labelled.sum() > 1:
            known = np.zeros(len(self.dataset), bool)
            known[train[labelled]] = True
            return np.asarray(cut_blocks(sort_by_time(self.dataset), known, folds)[train])

        rows = np.arange(len(train)).astype(str)
        group = rows if self.dataset.group is None else self.dataset.group[train]
        names = np.unique(group[labelled])
        rng = np.random.default_rng(derive_seed(self.seed, self.number, "crossfit"))
        shuffled = rng.permutation(names)
        numbers = np.arange(len(names)) % folds if len(names) > 1 else [-1]
        fold_of = dict(zip(shuffled, numbers))
        teacher_fold: NDArray = np.array([fold_of.get(g, folds) for g in group])
        return teacher_fold

    def choose_probe_rows(self, label_fraction: float = 1.0, size: int = 60) -> NDArray:
        """Choose at most `size` labelled select rows, balanced over classes, for the similarity matrices of the report.

        With inner cross-validation they are rows that train: no others have a label that may be read.

        Returns:
            Their positions among the select rows, ordered by class (or by `row_values`).
        """
        select = self.budget(label_fraction).select
        first = compute_row_values(self.dataset.target[select])
        rows = np.flatnonzero(self.dataset.labelled[select] & np.isfinite(first))
        target = first[rows]
        rng = np.random.default_rng(derive_seed(self.seed, self.number, "probe"))
        if target.dtype.kind == "f":
            chosen = rng.permutation(len(rows))[:size]
            by_target: NDArray = rows[chosen[np.argsort(target[chosen], kind="stable")]]
            return by_target
        classes = np.unique(target)
        each = [rng.permutation(np.flatnonzero(target == c))[: max(1, size // len(classes))] for c in classes]
        ordered: NDArray = rows[np.concatenate(each)]
        return ordered


def permute_modalities(batch: Batch, modalities: list[str], seed: int) -> Batch:
    """Permute some modalities over rows, all with the same permutation; presence and length are permuted with them.

    Args:
        batch: the rows.
        modalities: the modalities to permute.
        seed: the seed of the permutation.
    """
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(seed % 2**63))

    def permute(tensors: dict[str, Any]) -> dict[str, Any]:
        return {m: x[order] if m in modalities else x for m, x in tensors.items()}

    return replace(
        batch,
        inputs=permute(batch.inputs),
        present=permute(batch.present),
        lengths=permute(batch.lengths),
        pixels={m: (a[order], b[order]) if m in modalities else (a, b) for m, (a, b) in batch.pixels.items()},
        files=permute(batch.files),
        stored=permute(batch.stored),
    )
