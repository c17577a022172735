"""Cross-fitted teachers: each labelled row is taught by a teacher that was not trained on the row's group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sidelight.data.batch import Batch
from sidelight.experiment.shared_files import SharedFiles
from sidelight.methods import Teacher
from sidelight.methods.teacher_outputs import CachedOutputs, OnlineOutputs, TeacherOutputs
from sidelight.networks.network import Network, Output, compute_outputs


@dataclass(frozen=True)
class CrossFit:
    """Replaces a teacher's outputs, on labelled groups, by those of siblings that were not trained on the row's group.

    Only the outputs in the loss change. The student's first weights and its T-Nets are the fold's own teacher's.

    Attributes:
        name: the job's, from which the names of files and checkpoints are made.
        train: the train rows.
        teacher_fold: (N,) int64, the fold of teachers that each row belongs to; −1 for rows that no teacher may teach.
        shared: where siblings and their outputs are stored.
        network: builds a sibling with fresh weights.
        fit: trains a sibling on labelled rows (N,) bool, under a checkpoint's name.
    """

    name: str
    train: Batch
    teacher_fold: Tensor
    shared: SharedFiles
    network: Callable[[], Network]
    fit: Callable[[Network, Tensor, str], None]

    def teacher(self, own: TeacherOutputs) -> Teacher:
        """The cross-fitted teacher; `own` are the outputs of the fold's own, which stay on rows without a sibling."""
        crossfitted = self._online(own) if isinstance(own, OnlineOutputs) else self._cached(own)
        return Teacher(crossfitted, self.teacher_fold)

    def _cached(self, own: TeacherOutputs) -> CachedOutputs:
        """The outputs of the siblings on their rows, stored in `shared/`."""
        name = f"{self.name}-crossfit"
        stored = self.shared.read(name)
        if stored is None:
            stored = _flatten(own.every)
            for k in self._folds():
                sibling = self.network()
                self._fit_sibling(sibling, k)
                rows = (self.teacher_fold == k).nonzero()[:, 0]
                for field, value in _flatten(compute_outputs(sibling, self.train, rows)).items():
                    stored[field][rows] = value
            self.shared.write(name, stored)
        return CachedOutputs(_unflatten(stored))

    def _online(self, own: OnlineOutputs) -> OnlineOutputs:
        """The fold's own teacher and its siblings, each run on the rows of its fold; they are stored in `shared/`."""
        networks, network_of = [*own.networks], torch.zeros_like(self.teacher_fold)
        for k in self._folds():
            sibling = self.network()
            self.shared.train_once(sibling, f"{self.name}-part{k}", partial(self._fit_sibling, sibling, k))
            network_of[self.teacher_fold == k] = len(networks)
            networks.append(sibling)
        return OnlineOutputs(networks, own.sample, network_of)

    def _folds(self) -> list[int]:
        """The folds that have labelled rows, each of which gets a sibling."""
        return [k for k in torch.unique(self.teacher_fold[self.train.labelled]).tolist() if k >= 0]

    def _fit_sibling(self, sibling: Network, k: int) -> None:
        """Train a teacher on the labelled rows of all folds but k."""
        self.fit(sibling, self.train.labelled & (self.teacher_fold != k), f"{self.name}-part{k}")


def _flatten(output: Output) -> dict[str, Tensor]:
    features = {f"feature.{m}": f for m, f in output.features.items()}
    return {"prediction": output.prediction, "fused": output.fused, **features}


def _unflatten(tensors: dict[str, Tensor]) -> Output:
    features = {name.removeprefix("feature."): f for name, f in tensors.items() if name.startswith("feature.")}
    return Output(tensors["prediction"], tensors["fused"], features)
