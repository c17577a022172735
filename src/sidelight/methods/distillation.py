"""Offline distillation: a student against a finished teacher, by any sum of terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from sidelight.config import Config
from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.losses.distribution import gaussian_mmd
from sidelight.methods.base import Clock, Method
from sidelight.networks.network import Network, Output
from sidelight.tasks import Task


@dataclass(frozen=True)
class Teacher:
    """What a finished teacher says of every training row, kept so that it is computed once.

    said: outputs over all training rows, addressed by `Batch.index`.
    part: (N,) int64, which of several cross-fitted teachers spoke about the row, −1 for none; None where there is one.
    """

    said: Output
    part: Tensor | None = None

    def __call__(self, batch: Batch) -> Output:
        return self.said.take(batch.index)

    def without_features(self) -> Teacher:
        """The same without per-modality features, which most terms do not read."""
        return Teacher(replace(self.said, features={}), self.part)


class Term(nn.Module):
    """One distillation loss: a function of what student and teacher say about the same batch.

    A subclass writes `forward` and, where the defaults do not hold, the class attributes.
    """

    weight: float = 1.0
    relational: ClassVar[bool] = False
    """Compares rows with one another, so that a batch must lie within one teacher's space."""
    reads_features: ClassVar[bool] = False
    """Needs the teacher's features of each modality, not only its prediction and fused embedding."""
    hallucinates: ClassVar[bool] = False
    """The student has, by default, a T-Net in the place of each privileged encoder."""
    tasks: ClassVar[tuple[str, ...]] = ("classification", "regression", "segmentation")
    online: ClassVar[bool] = False
    paper: ClassVar[str] = ""

    @classmethod
    def from_config(cls, config: Config) -> Term:
        """The term as an experiment's settings describe it."""
        return cls()

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        """A scalar; the teacher has no gradient."""
        raise TypeError(f"{type(self).__name__} must define forward()")

    def check(self, task: Task, name: str) -> None:
        """Refuse a task on which the term has no meaning.

        Raises:
            ConfigError: names the method, the task and what to use instead.
        """
        if task.name not in self.tasks:
            raise ConfigError(f"method {name!r} has no meaning for {task.name} (only {', '.join(self.tasks)}).")


class Distillation(Method):
    """L = L_task(student) + Σ_j λ_j · term_j(student, teacher) over all training rows (PKDOT eq. 9 for one term).

    Rows without a label take part in every term but the task loss.
    """

    learns_from = "all"

    def __init__(self, student: Network, teacher: Teacher, task: Task, terms: Mapping[str, Term]):
        super().__init__(task)
        self.student = student
        self.teacher = teacher if any(t.reads_features for t in terms.values()) else teacher.without_features()
        self.parts = nn.ModuleDict(dict(terms))
        self.weights = {name: term.weight for name, term in terms.items()}
        self.reads = student.reads
        self.within_parts = teacher.part is not None and any(t.relational for t in terms.values())
        for name, term in terms.items():
            term.check(task, name)

    def terms(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        student = self.student(batch)
        losses = {"task": self.task.loss(student.prediction, batch.target, batch.labelled)}
        part = self.teacher.part
        if part is not None and not (heard := part[batch.index] >= 0).all():
            rows = heard.nonzero()[:, 0]
            if len(rows) < 2:
                return losses | {name: student.fused.sum() * 0 for name in self.parts}
            batch, student = batch.take(rows), student.take(rows)
        teacher = self.teacher(batch)
        for name, term in self.parts.items():
            losses[name] = term(student, teacher, batch, self.task)
        return losses

    def export(self) -> Network:
        return self.student


class Hallucination(Method):
    """Trains T-Nets: available features -> privileged features, on a finished teacher's own features.

    mean over rows that have the modality of d(T-Net(available features), privileged features), the target without
    gradient (METHODS: PKDOT, 4). It follows the teacher instead of running beside it, so that the feature space stands
    still and the teacher's epoch is chosen without it.
    """

    learns_from = "all"

    def __init__(
        self,
        tnets: Mapping[str, nn.Module],
        features: Mapping[str, Tensor],
        select_features: Mapping[str, Tensor],
        task: Task,
        loss: str = "mse",
    ):
        super().__init__(task)
        self.tnets = nn.ModuleDict(dict(tnets))
        self.reads = ()
        self.features, self.select_features, self.loss = dict(features), dict(select_features), loss

    def terms(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        for tnet in self.tnets.values():
            tnet.get_buffer("trained_steps").add_(1)
        return self._distances({m: f[batch.index] for m, f in self.features.items()}, batch)

    def score(self, select: Batch) -> float:
        """Minus the loss on the teacher's features of the select rows."""
        self.eval()
        with torch.no_grad():
            total = sum(float(d) for d in self._distances(self.select_features, select).values())
        self.train()
        return -total

    def _distances(self, features: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        read = {m: f for m, f in features.items() if m not in self.tnets}
        return {
            f"hallucinate {m}": _distance(tnet(read), features[m].detach(), batch.present.get(m), self.loss)
            for m, tnet in self.tnets.items()
        }


def _distance(made: Tensor, real: Tensor, there: Tensor | None, loss: str) -> Tensor:
    if there is not None:
        made, real = made[there], real[there]
    if len(made) == 0:
        return made.sum()
    if loss == "mse":
        return nn.functional.mse_loss(made, real)
    if loss == "cosine":
        return (1 - nn.functional.cosine_similarity(made, real, dim=-1)).mean()
    return gaussian_mmd(made.mean(1), real.mean(1))
