"""Inner cross-validation: everything that is trained for a job is trained once in each inner fold, to choose epochs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sidelight.errors import RunError
from sidelight.experiment.evaluate import Answers, answer_select
from sidelight.experiment.fold import FoldData
from sidelight.experiment.plan import Job
from sidelight.export import load_student
from sidelight.methods import CONTROLS
from sidelight.tasks import Task
from sidelight.training import History
from sidelight.training.pace import average_scores

if TYPE_CHECKING:
    from sidelight.experiment.models import FoldModels


class LostScoresError(RunError):
    """The scores of an inner training are missing or damaged."""


class InnerFolds:
    """The inner folds of a fold and seed, where its labels are too few for a select part of their own.

    Teachers, T-Nets and students of a job are trained in each inner fold, so that no label of a row that is held out
    reaches a network that is scored on it, by whatever way. What the inner folds train is stored in run folders of
    their own.

    Args:
        data: the rows of the fold.
        folder: the run folder of the fold.
        make: (folder, rows, label fraction, number) -> the models of an inner fold.
    """

    def __init__(self, data: FoldData, folder: Path, make: Callable[[Path, FoldData, float, int], FoldModels]):
        self.data, self.folder, self.make = data, folder, make
        self._models: dict[float, list[FoldModels]] = {}

    def __call__(self, label_fraction: float) -> list[FoldModels]:
        """The models of the inner folds at a label fraction; [] if select rows choose the epochs."""
        if label_fraction not in self._models:
            number, seed, models = self.data.number, self.data.seed, []
            for i in range(self.data.budget(label_fraction).inner_folds):
                folder = self.folder / "inner" / f"l{label_fraction:g}-f{number}-s{seed}-{i}"
                models.append(self.make(folder, self.data.hold_out(label_fraction, i), label_fraction, i))
            self._models[label_fraction] = models
        return self._models[label_fraction]

    def average_scores(self, job: Job, name: str) -> list[float]:
        """The mean score of each epoch of a stage over the inner folds; [] if select rows choose the epoch.

        Args:
            job: the job.
            name: the name of the stage, as it is stored.

        Raises:
            LostScoresError: the scores of an inner fold are missing or damaged.
        """
        scores, rows, models = [], [], self(job.label_fraction)
        for own in models:
            stored = own.shared_files.read(_scores_of(name))
            if stored is None:
                raise LostScoresError(f"{own.folder} has no scores of {name}.")
            scores.append(stored["select"].tolist())
            rows.append(len(own.data.budget(job.label_fraction).select))
        return average_scores(scores, rows, self.data.config.training.patience) if models else []

    def answers(self, job: Job) -> list[Answers]:
        """The answers of a job's inner networks on the rows that they held out, if the task is calibrated on them."""
        if type(self.data.fit_task(job.label_fraction)).calibrate is Task.calibrate:
            return []
        answers = []
        for own in self(job.label_fraction):
            encoders = own.builder.own_encoders(own.reads(job))
            student = load_student(own.folder / "jobs" / job.id / "model.safetensors", encoders=encoders)
            answers.append(answer_select(own.data, job, student.network.to(own.device).eval()))
        return answers

    def forget_networks(self, job: Job) -> None:
        """Delete the inner networks of a stored job that no other job needs; their scores stay."""
        for own in self(job.label_fraction):
            if job.method not in CONTROLS:
                shutil.rmtree(own.folder / "jobs" / job.id, ignore_errors=True)

    def forget(self, label_fraction: float) -> None:
        """Delete everything that the inner folds of a label fraction have trained."""
        for own in self._models.pop(label_fraction, []):
            shutil.rmtree(own.folder, ignore_errors=True)


def store_scores(models: FoldModels, name: str, history: History) -> None:
    """Store the score of each epoch of a stage of an inner fold."""
    scores = torch.tensor([epoch["select"] for epoch in history.epochs], dtype=torch.float64)
    models.shared_files.write(_scores_of(name), {"select": scores})


def _scores_of(name: str) -> str:
    return f"{name}-scores"
