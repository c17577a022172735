"""Offline distillation: a student against a finished teacher, by any sum of terms."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from sidelight.config import Config
from sidelight.data.batch import Batch
from sidelight.losses.distribution import gaussian_mmd
from sidelight.methods.base import Method, MethodInfo, TrainState
from sidelight.methods.teacher_outputs import TeacherOutputs
from sidelight.networks.hallucination import HallucinationNetwork
from sidelight.networks.network import Network, Output
from sidelight.networks.tokens import pool
from sidelight.tasks import Task

Part = Literal["fusion", "encoders", "hallucinators"]
"""Of a student."""


@dataclass(frozen=True)
class Teacher:
    """The outputs of a finished teacher on the training rows.

    Attributes:
        outputs: the outputs themselves, addressed by `Batch.index` (`CachedOutputs`), or the network, which is run on
            every batch where its outputs are too large to cache (`OnlineOutputs`).
        teacher_fold: (N,) int64, which of several cross-fitted teachers gave the row's outputs, −1 for none; None with
            a single teacher.
        mask: (N,) bool, the rows that the teacher's outputs apply to; None where they apply to every row.
    """

    outputs: TeacherOutputs
    teacher_fold: Tensor | None = None
    mask: Tensor | None = None

    def __call__(self, batch: Batch) -> Output:
        outputs: Output = self.outputs(batch)
        return outputs

    def batch_mask(self, index: Tensor) -> Tensor | None:
        """(B,) bool, the rows at `index` that the teacher's outputs apply to; None where they apply to all of them."""
        mask = None if self.teacher_fold is None else self.teacher_fold[index] >= 0
        if self.mask is not None:
            mask = self.mask[index] if mask is None else mask & self.mask[index]
        return None if mask is None or bool(mask.all()) else mask

    def without_features(self) -> Teacher:
        """The same teacher without per-modality features, which most terms do not read."""
        return replace(self, outputs=self.outputs.without_features())


class DistillationLoss(MethodInfo, nn.Module):
    """One distillation loss: a function of the outputs of student and teacher on the same batch.

    A subclass writes `forward` and, where the defaults do not hold, the class attributes. The keyword arguments of its
    constructor are the method's settings (`options.<name>.<argument>`); the lines under `Args:` of the class say what
    they mean.

    Args:
        weight: λ, the weight of the term beside the task loss.
    """

    weight: float = 1.0
    relational: ClassVar[bool] = False
    """Compares rows with one another, so that a batch must lie within one teacher's space."""
    reads_features: ClassVar[bool] = False
    """Needs the teacher's features of each modality, not only its prediction and fused embedding."""
    compares_privileged: ClassVar[bool] = False
    """Needs the teacher's features of privileged modalities, so that a baseline cannot be the teacher."""
    reaches: ClassVar[Part] = "fusion"
    """The last part of the student that its gradient reaches: what it compares comes from there. Of a term that is
    several scalars, the last part that each of them reaches. GradNorm compares gradients there."""
    auxiliary: ClassVar[tuple[str, ...]] = ()
    """Of a `forward` that returns several scalars by name: those that train the term's own modules and not the student,
    such as the task loss of a classifier beside it. Every other scalar moves the student, towards the teacher."""
    hallucinates: ClassVar[str] = ""
    """What the student has by default in the place of each privileged encoder: nothing, a "t-net" (trained on the
    teacher's features, frozen) or an "encoder" (a network of its own on the available modalities, trained with it)."""

    @classmethod
    def from_config(cls, config: Config, **options: Any) -> DistillationLoss:
        """The term as an experiment's settings describe it; `options` are those given for it by name."""
        return cls(**options)

    def prepare(self, student: Network, teacher: Teacher, rows: Batch, task: Task) -> None:
        """Called once before training, where sizes are known: regressors, projections, memory banks over `rows`."""

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor | dict[str, Tensor]:
        """A scalar, or several by name, each of which is logged; the teacher has no gradient."""
        raise TypeError(f"{type(self).__name__} must define forward()")

    def check(self, task: Task, name: str) -> None:
        """Refuse a task, or settings for it, that have no meaning (ConfigError)."""
        self.refuse(task, name)


def shared_part(reached: Iterable[str], slots: bool, encoders: bool) -> str:
    """The part of a student that terms and task loss share: "fusion", "hallucinators" or "encoders"; "" where none.

    Frozen T-Nets hand their gradient on to the encoders that they read.

    Args:
        reached: `DistillationLoss.reaches` of the terms.
        slots, encoders: whether these are trained.
    """
    parts = {"encoders" if part == "hallucinators" and not slots else part for part in reached} - {"fusion"}
    if len(parts) > 1 or (parts == {"encoders"} and not encoders):
        return ""
    return parts.pop() if parts else "fusion"


class Distillation(Method):
    """L = L_task(student) + Σ_j λ_j · term_j(student, teacher) over all training rows (PKDOT eq. 9 for one term).

    Rows without a label take part in every term but the task loss. With several teachers each has its own copy of every
    term, weighted by 1 over their number, and applies to the rows that have what it reads.

    Args:
        student: the network that leaves.
        teachers: one teacher, or name -> teacher.
        terms: name -> term, prepared here.
        rows: the training rows that `Batch.index` counts.
    """

    learns_from = "all"

    def __init__(
        self,
        student: Network,
        teachers: Teacher | Mapping[str, Teacher],
        task: Task,
        terms: Mapping[str, DistillationLoss],
        rows: Batch,
    ):
        super().__init__(task)
        self.student = student
        named = {"": teachers} if isinstance(teachers, Teacher) else dict(teachers)
        self.reads = tuple(dict.fromkeys([*student.reads, *(m for t in named.values() for m in t.outputs.reads)]))
        features = any(t.reads_features for t in terms.values())
        self.teachers = named if features else {name: t.without_features() for name, t in named.items()}
        self.parts = nn.ModuleDict()
        self.of: dict[str, list[str]] = {
            teacher_name: [f"{name} {teacher_name}".strip() for name in terms] for teacher_name in named
        }
        for teacher_name, teacher in named.items():
            for part, (name, term) in zip(self.of[teacher_name], terms.items()):
                term.check(task, name)
                own = copy.deepcopy(term) if teacher_name else term
                own.prepare(student, teacher, rows, task)
                self.parts[part] = own
                self.weights[part] = term.weight / len(named)
        self.reached = {t.reaches for t in terms.values()}
        relational = any(t.relational for t in terms.values())
        self.within_teacher_folds = relational and any(t.teacher_fold is not None for t in named.values())

    def terms(self, batch: Batch, clock: TrainState) -> dict[str, Tensor]:
        student: Output = self.student(batch)
        losses = {"task": self.task.loss(student.prediction, batch.target, batch.labelled)} | student.losses
        for teacher_name, teacher in self.teachers.items():
            losses |= self._teacher_terms(teacher_name, teacher, student, batch)
        return losses

    def _teacher_terms(self, teacher_name: str, teacher: Teacher, student: Output, batch: Batch) -> dict[str, Tensor]:
        """The terms of one teacher, over the rows that its outputs apply to."""
        own = {name: self.parts[name] for name in self.of[teacher_name]}
        mask = teacher.batch_mask(batch.index)
        if mask is not None:
            rows = mask.nonzero()[:, 0]
            if len(rows) < 2:
                return {name: student.fused.sum() * 0 for name in own}
            batch, student = batch.index_select(rows), student.index_select(rows)
        outputs, losses = teacher(batch), {}
        for name, term in own.items():
            value = term(student, outputs, batch, self.task)
            if isinstance(value, Tensor):
                losses[name] = value
                continue
            for part, scalar in value.items():
                losses[f"{name} {part}"] = scalar
                self.weights[f"{name} {part}"] = self.weights[name]
        return losses

    def shared(self) -> list[Parameter]:
        slots = [slot for slot in self.student.hallucinators.values() if isinstance(slot, HallucinationNetwork)]
        encoders = [p for p in self.student.encoders.parameters() if p.requires_grad]
        part = shared_part(self.reached, bool(slots), bool(encoders))
        if part == "hallucinators":
            return [p for slot in slots for p in slot.tnet.parameters()]
        return super().shared() if part == "fusion" else encoders if part else []

    def export(self) -> Network:
        return self.student


class Hallucination(Method):
    """Trains T-Nets: available features -> privileged features, on a finished teacher's own features.

    mean over rows that have the modality of d(T-Net(available features), privileged features), the target without
    gradient (METHODS: PKDOT, 4). It follows the teacher instead of running beside it, so that the feature space stands
    still and the teacher's epoch is chosen without it.

    Args:
        tnets: privileged modality -> T-Net.
        outputs, select_outputs: the teacher's outputs on the train and on the select rows.
    """

    learns_from = "all"

    def __init__(
        self,
        tnets: Mapping[str, nn.Module],
        outputs: TeacherOutputs,
        select_outputs: TeacherOutputs,
        task: Task,
        loss: str = "mse",
    ):
        super().__init__(task)
        self.tnets = nn.ModuleDict(dict(tnets))
        self.outputs, self.select_outputs, self.reads, self.loss = outputs, select_outputs, outputs.reads, loss

    def terms(self, batch: Batch, clock: TrainState) -> dict[str, Tensor]:
        for tnet in self.tnets.values():
            tnet.get_buffer("trained_steps").add_(1)
        return self._distances(self.outputs(batch).features, batch)

    def score(self, select: Batch) -> float:
        """Minus the loss on the teacher's features of the select rows; of a teacher asked live, a mean over chunks."""
        self.eval()
        total, have = 0.0, {m: _count(select, m) for m in self.tnets}
        with torch.no_grad():
            for part in self.select_outputs.batches(select):
                for m, d in zip(self.tnets, self._distances(self.select_outputs(part).features, part).values()):
                    total += float(d) * (_count(part, m) / max(have[m], 1))
        self.train()
        return -total

    def _distances(self, features: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        read = {m: f for m, f in features.items() if m not in self.tnets}
        return {
            f"hallucinate {m}": _distance(tnet(read), features[m].detach(), batch.present.get(m), self.loss)
            for m, tnet in self.tnets.items()
        }


def _count(batch: Batch, m: str) -> int:
    """How many rows have the modality."""
    return int(batch.present[m].sum()) if m in batch.present else len(batch)


def _distance(made: Tensor, real: Tensor, there: Tensor | None, loss: str) -> Tensor:
    if there is not None:
        made, real = made[there], real[there]
    if len(made) == 0:
        return made.sum()
    if loss == "mse":
        return nn.functional.mse_loss(made, real)
    if loss == "cosine":
        return (1 - nn.functional.cosine_similarity(made, real, dim=1 if made.dim() == 4 else -1)).mean()
    return gaussian_mmd(pool(made), pool(real))
