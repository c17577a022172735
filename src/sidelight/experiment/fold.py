"""The data of one fold and seed, as each of its jobs is allowed to see them."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sidelight.config import Config
from sidelight.config.encoder_names import chosen
from sidelight.data import Dataset
from sidelight.data.batch import Batch
from sidelight.data.preprocess import Preprocessor
from sidelight.data.target_values import compute_row_values
from sidelight.errors import RunError
from sidelight.experiment.plan import seed_of
from sidelight.protocols import WHOLE, build_whole_fold, hide_labels, split
from sidelight.protocols.blocks import cut_blocks, sort_by_time
from sidelight.tasks import Task, asked_task


class FoldData:
    """Train, select and test rows of one fold and seed, preprocessed by what the train rows say."""

    def __init__(self, config: Config, dataset: Dataset, fold: int, seed: int):
        self.config, self.dataset, self.seed, self.number = config, dataset, seed, fold
        if fold == WHOLE:
            self.fold = build_whole_fold(dataset, config.protocol, config.select, seed, config.gap)
        else:
            self.fold = split(dataset, config.protocol, config.folds, config.select, seed, config.gap)[fold]
        self._task, self._tasks = asked_task(config, dataset), dict[float, Task]()
        for part in ("select", "test"):
            scored = getattr(self.fold, part)
            scored = scored[dataset.labelled[scored]]
            if why := self._task.unmeasurable(dataset.target[scored]):
                raise RunError(f"{self.fold.name}, {part} rows: {why}")
        self.available, self.privileged = list(config.available), list(config.privileged)
        self.modalities = [*self.available, *self.privileged]

    @cached_property
    def preprocessor(self) -> Preprocessor:
        """Fitted on the fold's train rows; what it does to a modality does not depend on the others."""
        network = self.config.network
        signals = {m for m in self.modalities if self.dataset.inputs[m].ndim == 3}
        names = {m: chosen(m, 2, network.encoder, network.encoders) for m in signals}
        return Preprocessor.fit(
            self.dataset,
            self.fold.train,
            self.modalities,
            statistics={m for m, name in names.items() if name in ("auto", "statistics")},
            standardize=self.config.standardize,
            impute=self.config.impute,
        )

    @cached_property
    def _prepared(self) -> Batch:
        batch = self.dataset.batch(self.preprocessor, self.modalities)
        return replace(batch, present={m: there for m, there in batch.present.items() if not there.all()})

    def rows(self, part: str, labels: float = 1.0, control: str = "") -> Batch:
        """The "train", "select" or "test" rows; `index` counts within the part.

        labels: share of the train groups that keep their labels. control: for "placebo" the privileged modalities of
        train and select rows are permuted, each among themselves; test rows never are.
        """
        where = getattr(self.fold, part)
        batch = replace(self._prepared.index_select(torch.as_tensor(where)), index=torch.arange(len(where)))
        if part == "train":
            kept = torch.as_tensor(hide_labels(self.dataset, self.fold.train, labels, self.seed)[where])
            hidden = torch.nan if batch.target.is_floating_point() else -1
            known = kept.view(-1, *[1] * (batch.target.dim() - 1))
            maps = None if batch.maps is None else batch.maps.keep_labels(kept.numpy())
            batch = replace(batch, labelled=kept, target=batch.target.where(known, hidden), maps=maps)
        if control == "placebo" and part != "test":
            batch = permute(batch, self.privileged, seed_of(self.seed, self.number, "placebo", part))
        return batch

    def task_of(self, labels: float) -> Task:
        """The task, with what it learns from the labels that this share of the train groups keeps."""
        if labels not in self._tasks:
            train = self.rows("train", labels)
            self._tasks[labels] = self._task.fitted(train.target, train.labelled)
        return self._tasks[labels]

    def crossfit_parts(self, labels: float, parts: int) -> NDArray:
        """(train rows,) which cross-fitted teacher may speak about each row: one that was not trained on its group.

        Groups with labelled rows fall into `parts` parts; part p is taught by a teacher trained on the others. Groups
        without are part `parts`: no teacher was trained on them, so the fold's own speaks. With a single labelled group
        there is no teacher that has not seen it: its rows are part −1, about which nobody speaks. Without groups, each
        row is its own; rows in time fall into contiguous blocks, unlabelled ones too.
        """
        train = self.fold.train
        labelled = hide_labels(self.dataset, train, labels, self.seed)[train]
        in_time = self.config.protocol == "blocks" or self.dataset.time is not None
        if self.dataset.group is None and in_time and labelled.sum() > 1:
            known = np.zeros(len(self.dataset), bool)
            known[train[labelled]] = True
            return np.asarray(cut_blocks(sort_by_time(self.dataset), known, parts)[train])
        rows = np.arange(len(train)).astype(str)
        group = rows if self.dataset.group is None else self.dataset.group[train]
        names = np.unique(group[labelled])
        rng = np.random.default_rng(seed_of(self.seed, self.number, "crossfit"))
        part_of = dict(zip(rng.permutation(names), np.arange(len(names)) % parts if len(names) > 1 else [-1]))
        part: NDArray = np.array([part_of.get(g, parts) for g in group])
        return part

    def probe(self, size: int = 60) -> NDArray:
        """Positions of at most `size` labelled select rows, balanced over and ordered by class (or by `row_values`)."""
        select = self.fold.select
        first = compute_row_values(self.dataset.target[select])
        rows = np.flatnonzero(self.dataset.labelled[select] & np.isfinite(first))
        target = first[rows]
        rng = np.random.default_rng(seed_of(self.seed, self.number, "probe"))
        if target.dtype.kind == "f":
            chosen = rng.permutation(len(rows))[:size]
            by_target: NDArray = rows[chosen[np.argsort(target[chosen], kind="stable")]]
            return by_target
        classes = np.unique(target)
        each = [rng.permutation(np.flatnonzero(target == c))[: max(1, size // len(classes))] for c in classes]
        ordered: NDArray = rows[np.concatenate(each)]
        return ordered


def permute(batch: Batch, modalities: list[str], seed: int) -> Batch:
    """The same rows with `modalities` (and what is known of their presence and length) permuted together over rows."""
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(seed % 2**63))

    def shuffled(tensors: dict[str, Any]) -> dict[str, Any]:
        return {m: x[order] if m in modalities else x for m, x in tensors.items()}

    return replace(
        batch,
        inputs=shuffled(batch.inputs),
        present=shuffled(batch.present),
        lengths=shuffled(batch.lengths),
        pixels={m: (a[order], b[order]) if m in modalities else (a, b) for m, (a, b) in batch.pixels.items()},
        files=shuffled(batch.files),
    )
