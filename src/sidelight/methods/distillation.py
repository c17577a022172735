"""Offline distillation: a student learns from a trained teacher by the task loss and a sum of distillation losses."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import Parameter

from sidelight.config import Config
from sidelight.data.batch import Batch
from sidelight.methods.base import Method, MethodInfo, TrainState, trainable_parameters
from sidelight.methods.teacher_outputs import TeacherOutputs
from sidelight.networks.hallucination import HallucinationNetwork
from sidelight.networks.network import Network, Output
from sidelight.tasks import Task
from sidelight.utils.precision import in_full_precision

StudentPart = Literal["fusion", "encoders", "hallucinators"]
"""A part of the student that losses share: where GradNorm compares their gradients."""


@dataclass(frozen=True)
class Teacher:
    """The outputs of a trained teacher on the training rows.

    Attributes:
        outputs: cached outputs, addressed by `Batch.index` (`CachedOutputs`), or the network, which is run on every
            batch if its outputs are too large to cache (`OnlineOutputs`).
        teacher_fold: (N,) int64, the cross-fitted teacher that gave the outputs of each row, −1 for none; None with a
            single teacher.
        mask: (N,) bool, the rows that the teacher teaches; None if it teaches every row.
    """

    outputs: TeacherOutputs
    teacher_fold: Tensor | None = None
    mask: Tensor | None = None

    def __call__(self, batch: Batch) -> Output:
        outputs: Output = self.outputs(batch)
        return outputs

    def batch_mask(self, index: Tensor) -> Tensor | None:
        """(B,) bool, which of the rows at `index` (B,) the teacher teaches; None if it teaches every training row.

        It is on the CPU, as the masks are.
        """
        return None if self.taught is None else self.taught[index.cpu()]

    @cached_property
    def taught(self) -> Tensor | None:
        """(N,) bool, the rows that the teacher teaches; None if it teaches all of them."""
        taught = self.mask
        if self.teacher_fold is not None:
            taught = self.teacher_fold >= 0 if taught is None else taught & (self.teacher_fold >= 0)
        return None if taught is None or bool(taught.all()) else taught

    def without_features(self) -> Teacher:
        """The same teacher without cached per-modality features, which most losses do not read."""
        return replace(self, outputs=self.outputs.without_features())


class DistillationLoss(MethodInfo, nn.Module):
    """A distillation loss: a function of the outputs of student and teacher on the same batch.

    A subclass writes `forward` and, where the defaults do not hold, the class attributes. The keyword arguments of its
    constructor are the method's settings (`options.<name>.<argument>`); the lines under `Args:` of the class describe
    them.

    Args:
        weight: λ, the weight of the loss beside the task loss.
    """

    weight: float = 1.0
    """λ, the weight of the loss beside the task loss."""
    relational: ClassVar[bool] = False
    """Whether it compares rows with one another, so that the rows of a batch must share one teacher."""
    reads_features: ClassVar[bool] = False
    """Whether it reads the teacher's features of each modality, not only its prediction and fused embedding."""
    reads_embedding: ClassVar[bool] = True
    """Whether it reads the teacher's fused embedding. If no loss of a job does, that of large data is not kept."""
    compares_privileged: ClassVar[bool] = False
    """Whether it reads the teacher's features of privileged modalities, so that a baseline cannot be the teacher."""
    reaches: ClassVar[StudentPart] = "fusion"
    """The last part of the student that its gradient reaches; GradNorm compares gradients there. If the loss returns
    several scalars, it is the last part that all of them reach."""
    auxiliary: ClassVar[tuple[str, ...]] = ()
    """If `forward` returns several scalars by name, those that train modules of the loss and not the student, such as
    the task loss of a classifier beside it. Every other scalar moves the student towards the teacher."""
    stackable: bool = False
    """Whether `forward` may run on several students at once, as `Method.stackable` describes."""
    hallucinates: ClassVar[str] = ""
    """What fills the student's privileged slots by default: nothing, a "t-net" (trained on the teacher's features, then
    frozen) or an "encoder" (a network on the available modalities, trained with the student)."""

    @classmethod
    def from_config(cls, config: Config, **options: Any) -> DistillationLoss:
        """Build the loss from the settings of an experiment.

        Args:
            config: the settings, with every default filled in.
            options: the settings `options.<name>.*` of the method.
        """
        return cls(**options)

    def prepare(self, student: Network, teacher: Teacher, rows: Batch, task: Task) -> None:
        """Build what depends on sizes (regressors, projections, memory banks); called once, before training.

        Args:
            student: the student.
            teacher: the teacher.
            rows: the N training rows, which `Batch.index` counts.
            task: the task.
        """

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor | dict[str, Tensor]:
        """Compute the loss of one batch.

        Args:
            student: the student's outputs on B rows, with gradient.
            teacher: the teacher's outputs on the same rows, without gradient.
            batch: the rows.
            task: the task.

        Returns:
            A scalar, or several by name, each of which is logged.
        """
        raise TypeError(f"{type(self).__name__} must define forward()")

    def check(self, task: Task, name: str) -> None:
        """Check that the loss, with its settings, supports the task.

        Raises:
            ConfigError: it does not.
        """
        self.check_task(task, name)


def tnet_parameters(student: Network) -> list[Parameter]:
    """The parameters of the T-Nets in which trainable hallucination networks end; [] without such networks."""
    parameters: list[Parameter] = []
    for slot in student.hallucinators.values():
        if isinstance(slot, HallucinationNetwork):
            parameters += slot.tnet.parameters()
    return parameters


def find_shared_part(reached: Iterable[str], slots_trained: bool, encoders_trained: bool) -> str:
    """Find the part of a student that its losses and the task loss share.

    Args:
        reached: `DistillationLoss.reaches` of each loss.
        slots_trained: whether the hallucination networks are trained.
        encoders_trained: whether the encoders are trained.

    Returns:
        "fusion", "hallucinators" or "encoders"; "" if they share no part that is trained.
    """
    parts = set(reached)
    if "hallucinators" in parts and not slots_trained:
        # The gradient passes through frozen T-Nets to the encoders that they read.
        parts = parts - {"hallucinators"} | {"encoders"}
    # The fusion depends on every earlier part, so it restricts nothing.
    parts.discard("fusion")
    if len(parts) > 1 or (parts == {"encoders"} and not encoders_trained):
        return ""
    return parts.pop() if parts else "fusion"


class Distillation(Method):
    """Task loss and weighted distillation losses of a student, over all training rows.

    L = L_task(student) + Σ_j λ_j · loss_j(student, teacher) (PKDOT eq. 9 for one loss). Unlabelled rows contribute to
    every loss but the task loss. With several teachers each has its own copy of every loss, weighted by 1 / (number of
    teachers), over the rows that it teaches.

    Args:
        student: the deployed network.
        teachers: one teacher, or name -> teacher.
        task: the task.
        terms: name -> loss; its `prepare` is called here.
        rows: the N training rows, which `Batch.index` counts.
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

        reads = list(student.reads)
        for teacher in named.values():
            reads += teacher.outputs.reads
        self.reads = tuple(dict.fromkeys(reads))

        # Cached features take the most memory, so they are kept only for losses that read them.
        reads_features = any(loss.reads_features for loss in terms.values())
        self.teachers = named
        if not reads_features:
            self.teachers = {name: teacher.without_features() for name, teacher in named.items()}
        # They have no state, and move with the method.
        self.teacher_outputs = nn.ModuleList(teacher.outputs for teacher in self.teachers.values())

        self.parts = nn.ModuleDict()  # a key of the state_dict: checkpoints hold it
        self.part_names: dict[str, list[str]] = {}
        for teacher_name, teacher in named.items():
            self.part_names[teacher_name] = []
            for name, loss in terms.items():
                loss.check(task, name)
                # Regressors and memory banks of one teacher mean nothing for another.
                own = copy.deepcopy(loss) if teacher_name else loss
                own.prepare(student, teacher, rows, task)
                part = f"{name} {teacher_name}".strip()
                self.parts[part] = own
                self.part_names[teacher_name].append(part)
                self.weights[part] = loss.weight / len(named)

        self.stackable = task.stackable and all(loss.stackable for loss in terms.values())
        self.reached = {loss.reaches for loss in terms.values()}
        relational = any(loss.relational for loss in terms.values())
        crossfitted = any(teacher.teacher_fold is not None for teacher in named.values())
        self.within_teacher_folds = relational and crossfitted

    def terms(self, batch: Batch, state: TrainState) -> dict[str, Tensor]:
        student: Output = self.student(batch)
        losses = {"task": self.task.loss(student.prediction, batch.target, batch.counted)} | student.losses
        for teacher_name, teacher in self.teachers.items():
            losses |= self._teacher_terms(teacher_name, teacher, student, batch)
        return losses

    def _teacher_terms(self, teacher_name: str, teacher: Teacher, student: Output, batch: Batch) -> dict[str, Tensor]:
        """The losses against one teacher, over the rows that it teaches."""
        names = self.part_names[teacher_name]
        mask = teacher.batch_mask(batch.index)
        if batch.valid is not None:
            return self._padded_terms(names, teacher, student, batch, mask)
        if mask is not None and not bool(mask.all()):
            rows = mask.nonzero()[:, 0].to(batch.index.device)
            if len(rows) < 2:  # relational losses compare rows, so one row is not enough
                return {name: student.fused.sum() * 0 for name in names}
            batch, student = batch.index_select(rows), student.index_select(rows)
        return self._evaluate(names, student, teacher(batch), batch)

    def _padded_terms(
        self, names: list[str], teacher: Teacher, student: Output, batch: Batch, mask: Tensor | None
    ) -> dict[str, Tensor]:
        """`_teacher_terms` of a batch with padding rows, to which the rows that the teacher does not teach are added.

        Shapes and branches do not depend on the rows, so that it runs under `torch.vmap`.
        """
        valid = batch.valid
        assert valid is not None
        taught = valid if mask is None else valid & mask.to(valid.device)
        features = any(getattr(self.parts[name], "reads_features", True) for name in names)
        outputs = teacher(batch).zero_padding(taught, features)
        losses = self._evaluate(names, student.zero_padding(taught, features), outputs, replace(batch, valid=taught))
        if mask is None:
            return losses
        enough = (taught.sum() >= 2) | (taught == valid).all()  # as in `_teacher_terms`
        return {name: value.where(enough, 0.0) for name, value in losses.items()}

    def _evaluate(self, names: list[str], student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """The losses of these names, in full precision, and the parts of those that return several."""
        losses: dict[str, Tensor] = {}
        with in_full_precision(student.prediction.device):
            student, teacher = student.to_float32(), teacher.to_float32()
            values = {name: self.parts[name](student, teacher, batch, self.task) for name in names}
        for name, value in values.items():
            if isinstance(value, Tensor):
                losses[name] = value
                continue
            # The scalars of one loss share its weight; their names are known only now.
            for part, scalar in value.items():
                losses[f"{name} {part}"] = scalar
                self.weights[f"{name} {part}"] = self.weights[name]
        return losses

    def shared_parameters(self) -> list[Parameter]:
        slots = tnet_parameters(self.student)
        encoders = trainable_parameters(self.student.encoders)
        part = find_shared_part(self.reached, bool(slots), bool(encoders))
        if part == "hallucinators":
            return slots
        if part == "fusion":
            return super().shared_parameters()
        return encoders if part == "encoders" else []

    def deployed_network(self) -> Network:
        return self.student
