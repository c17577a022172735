"""MT-PKDOT: in every batch the best of several aligned teachers passes on the structure of its space."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sidelight.data.batch import Batch
from sidelight.losses.centroid import centroid_distance
from sidelight.losses.structural import StructuralTransport
from sidelight.methods.aligned_teachers import AlignedTeachers, Alignment, TeacherChoice
from sidelight.methods.base import Method, TrainState
from sidelight.methods.context import TrainingContext
from sidelight.methods.multi_stage import MultiStageMethod
from sidelight.methods.ranges import NON_NEGATIVE, POSITIVE, POSITIVE_INT, check_ranges
from sidelight.methods.structural import compare_structure
from sidelight.methods.teacher_outputs import TeacherOutputs, rows_where, select_rows
from sidelight.networks.hallucination import freeze
from sidelight.networks.network import Network, Output
from sidelight.tasks import Task
from sidelight.utils.precision import in_full_precision

Choose = Literal["batch", "select", "joint"]


class ChosenTeacher(Method):
    """L_task(student) + λ OT_ε(student, chosen) + γ centroid(student, chosen), over the rows that the chosen one reads.

    Every process sees the outputs of the whole batch, so that there is one choice for each batch, not for each process.

    Args:
        student: the deployed network.
        teachers: the aligned teachers; they are frozen.
        outputs: the joint teacher's outputs on the training rows, whose features the teachers read.
        task: the task.
        transport: OT_ε.
        weight: λ.
        centroid: γ; 0 leaves the term out.
        fixed: the position of the teacher that teaches every batch; None: each batch has its own.
    """

    learns_from = "all"

    def __init__(
        self,
        student: Network,
        teachers: AlignedTeachers,
        outputs: TeacherOutputs,
        task: Task,
        transport: StructuralTransport,
        weight: float,
        centroid: float,
        fixed: int | None,
    ):
        super().__init__(task)
        self.student, self.teachers, self.outputs, self.transport = student, freeze(teachers), outputs, transport
        self.choose = TeacherChoice(task, teachers.modalities)
        self.fixed = fixed
        self.reads = tuple(dict.fromkeys([*student.reads, *outputs.reads]))
        self.weights = {"transport": weight} | ({"centroid": centroid} if centroid else {})

    def terms(self, batch: Batch, state: TrainState) -> dict[str, Tensor]:
        student: Output = self.student(batch)
        losses = {"task": self.task.loss(student.prediction, batch.target, batch.labelled)} | student.losses
        with in_full_precision(student.prediction.device):
            with torch.no_grad():
                teachers = self.teachers(self.outputs(batch).to_float32().features)
                chosen = self.choose(teachers, batch) if self.fixed is None else self.fixed
            self._log(chosen, batch)
            rows = self._rows_taught(chosen, batch)
            own = select_rows(student.to_float32().embedding, rows)
            embedding = select_rows(teachers[chosen].embedding, rows)
            if rows is not None and len(rows) < 2:  # the terms compare rows, so one row is not enough
                return losses | dict.fromkeys(self.weights, own.sum() * 0)
            losses["transport"] = compare_structure(self.transport, own, embedding)
            if "centroid" in self.weights:
                losses["centroid"] = centroid_distance(own, embedding)
        return losses

    def _rows_taught(self, chosen: int, batch: Batch) -> Tensor | None:
        """The positions of the rows that the chosen teacher reads; None for all, as the joint teacher does."""
        if chosen == self.choose.joint:
            return None
        present = batch.present.get(self.teachers.modalities[chosen])
        return None if present is None else rows_where(present)

    def _log(self, chosen: int, batch: Batch) -> None:
        shares = torch.zeros(self.choose.joint + 1, device=batch.index.device)
        shares[chosen] = 1
        names = [*(f"chosen {m}" for m in self.teachers.modalities), "chosen joint teacher"]
        self.logged = dict(zip(names, shares, strict=True))

    def deployed_network(self) -> Network:
        return self.student


class MTPKDOT(MultiStageMethod):
    """PKDOT with several teachers: the best of the aligned ones in a batch gives structure and centre of its space.

    The fold's teacher has one adapter and head per modality, which `Alignment` brings into the space of its joint
    embedding. In every batch the teacher (of one modality, or joint) with the lowest task loss is distilled into the
    student, which has T-Nets and starts from the aligned fusion and head:

        L = L_task + λ OT_ε(S_t, S_s) + γ |mean_rows(S_t) − mean_rows(S_s)|₂

    OT_ε is that of `pkdot` (its paper's preset), S the cosine matrices of the chosen teacher and of the student. Only
    the paper's abstract could be read, so the formulas are those of the released code, which numbers no equation; there
    the centroid is written and commented out, λ and γ are 0.2 beside 0.8 of the task loss: 0.25 here. The terms need no
    labels, alignment and choice do; a batch without any has the joint teacher.

    Training loss favours a teacher that has overfitted: the record of the training holds the share of batches that each
    taught (`chosen …`), and `choose` offers a choice on select rows and the joint teacher alone. There is no choice for
    each row, because rows are compared in one space. Teachers are compared on rows that have every modality, and one of
    a single modality teaches the rows that have it.

    Where we depart from the released code: there the student's T-Net is fed by a random backbone and only the student's
    fusion is stepped (`student.freeze` comes near it); the alignment's epoch is chosen on the test fold, and its rates
    are apart (here `training.learning_rate`). In a segmentation adapters and heads read every position, and OT compares
    embeddings pooled over positions, as `pkdot` does. In a regression the task loss chooses, over two rows or more.
    """

    hallucinates = "t-net"
    paper = "Aslam et al. 2024, arXiv 2408.09035"
    stages = ("teacher", "alignment", "student")
    ranges = {"k": POSITIVE_INT, "epsilon": POSITIVE, "weight": NON_NEGATIVE, "centroid": NON_NEGATIVE}

    @classmethod
    def build(
        cls,
        context: TrainingContext,
        *,
        choose: Choose = "batch",
        k: int = 30,
        epsilon: float = 0.1,
        weight: float = 0.25,
        centroid: float = 0.25,
    ) -> Method:
        """Align the teachers of the modalities with the joint one, and assemble the student.

        Args:
            context: the rows, networks and settings of the job.
            choose: "batch": the teacher with the lowest task loss in each batch; "select": the one with the lowest on
                the select rows, for the whole training; "joint": the joint one.
            k: the number of anchors.
            epsilon: ε of the transport.
            weight: λ, the weight of the transport.
            centroid: γ, the weight of the centroid's distance; 0: left out.

        Raises:
            ConfigError: a setting outside of its range.
        """
        settings = {"k": k, "epsilon": epsilon, "weight": weight, "centroid": centroid}
        check_ranges("options.mt-pkdot", cls.ranges, settings)
        return _build(context, choose, StructuralTransport("paper", k=k, epsilon=epsilon), weight, centroid)


class MTPKDOTReleased(MultiStageMethod):
    """MT-PKDOT as the released code computes it: the choice per batch, shifted similarities, ε = 0.01, no centroid.

    OT_ε is that of `pkdot-released` (k = 30) at λ = 0.25 (0.2 beside 0.8 of the task loss); the centroid, which is
    commented out there, is left out. The paper numbers no equation that we could read. The released code leaves the k
    smallest similarities of a row in the order in which a partial sort left them, which means nothing; here they
    ascend. Everything else is as in `mt-pkdot`.
    """

    hallucinates = MTPKDOT.hallucinates
    paper = MTPKDOT.paper
    stages = MTPKDOT.stages

    @classmethod
    def build(cls, context: TrainingContext) -> Method:
        """Align the teachers of the modalities with the joint one, and assemble the student.

        Args:
            context: the rows, networks and settings of the job.
        """
        return _build(context, "batch", StructuralTransport("released"), weight=0.25, centroid=0.0)


def _build(
    context: TrainingContext, choose: Choose, transport: StructuralTransport, weight: float, centroid: float
) -> Method:
    """Align the teachers, choose among them if one choice is to last, and assemble the student."""
    joint = context.trained_network([*context.available, *context.privileged])
    outputs = context.teacher_outputs(joint)
    context.seed()
    alignment = Alignment(joint, outputs, context.task)
    context.fit(alignment, "alignment")
    teachers = freeze(alignment.teachers)
    fixed = None
    if choose == "select":
        of_select = context.teacher_outputs(joint, "select")
        fixed = TeacherChoice(context.task, teachers.modalities).once(teachers, of_select, context.rows("select"))
    elif choose == "joint":
        fixed = len(teachers.modalities)
    student = context.student(joint, "t-net")
    return ChosenTeacher(student, teachers, outputs, context.task, transport, weight, centroid, fixed)
