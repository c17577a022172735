"""Teachers of one modality each beside the joint one, aligned with it (the second stage of MT-PKDOT)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sidelight.data.batch import Batch
from sidelight.losses.common import normalise_rows
from sidelight.methods.base import Method, TrainState
from sidelight.methods.teacher_outputs import TeacherOutputs, rows_where, select_rows
from sidelight.networks.build import feature_shape
from sidelight.networks.hallucination import freeze
from sidelight.networks.network import Network, Output, apply_head_dropout
from sidelight.networks.tokens import num_channels, pool, to_map
from sidelight.tasks import Task
from sidelight.utils.precision import full_precision


class AlignedTeachers(nn.Module):
    """One teacher per modality, in the space of the joint teacher's embedding, and the joint teacher.

    A modality's teacher is an adapter D → F/2 → F, two linear maps without an activation between them (in the released
    code 512 → 256 → 512), and a linear head. Of a segmentation both read every position of a map.

    Args:
        joint: the network on every modality; its fusion and head are shared with it, not copied.
        outputs: the number of classes or values.
    """

    def __init__(self, joint: Network, outputs: int):
        super().__init__()
        self.fusion, self.head = joint.fusion, joint.head
        width = int(joint.fusion.out_dim)  # type: ignore[arg-type]
        inner = max(width // 2, 1)
        self.modalities = tuple(feature_shape(joint))
        self.adapters, self.heads = nn.ModuleDict(), nn.ModuleDict()
        for m, shape in feature_shape(joint).items():
            self.adapters[m] = nn.Sequential(nn.Linear(num_channels(shape), inner), nn.Linear(inner, width))
            self.heads[m] = nn.Linear(width, outputs)

    def forward(self, features: Mapping[str, Tensor]) -> list[Output]:
        """The outputs of every teacher: those of the modalities in order, then the joint one.

        Args:
            features: modality -> (B, T, D), or a map (B, D, h, w).
        """
        fused = self.fusion(features)
        prediction = self.head(apply_head_dropout(self.fusion, fused))
        made = [self._read(m, features[m], fused, prediction) for m in self.modalities]
        return [*made, Output(prediction, fused, {})]

    def _read(self, m: str, features: Tensor, fused: Tensor, prediction: Tensor) -> Output:
        if fused.dim() == 2:
            adapted = self.adapters[m](pool(features))
            return Output(self.heads[m](adapted), adapted, {})
        adapted = self.adapters[m](to_map(features, fused.shape[2:]).movedim(1, -1))
        logits = self.heads[m](adapted).movedim(-1, 1)
        logits = F.interpolate(logits, size=prediction.shape[2:], mode="bilinear", align_corners=False)
        return Output(logits, adapted.movedim(-1, 1), {})


class Alignment(Method):
    """Brings the teachers of one modality each into the space of the joint teacher.

    ½ Σ_m mean_i (1 − cos(a_m,i, j_i)) + ½ (L_task(joint) + mean_m L_task(head_m)), a_m the adapted features of modality
    m, j the joint embedding; the mean over modalities is the released code's ½ for its two. j is not detached, and the
    joint fusion and head are trained here too; encoders are frozen. A modality counts in the rows that have it, the
    cosine in unlabelled rows too. The epoch is chosen by the joint teacher's score (the released code reads the test
    rows for this).

    Args:
        joint: the trained network on every modality; its fusion and head are trained, its encoders frozen.
        outputs: its outputs on the training rows.
        task: the task.
    """

    learns_from = "all"

    def __init__(self, joint: Network, outputs: TeacherOutputs, task: Task):
        super().__init__(task)
        for m in joint.reads:
            joint.encoders[m] = freeze(joint.encoders[m])
        self.joint, self.outputs, self.reads = joint, outputs, outputs.reads
        self.teachers = AlignedTeachers(joint, task.outputs)
        self.weights = dict.fromkeys(("align", "joint", "heads"), 0.5)

    def terms(self, batch: Batch, state: TrainState) -> dict[str, Tensor]:
        *single, joint = self.teachers(self.outputs(batch).features)
        apart, heads = [], []
        for m, teacher in zip(self.teachers.modalities, single, strict=True):
            present = batch.present.get(m, torch.ones_like(batch.labelled))
            rows = rows_where(present)
            apart.append(cosine_distance_to_joint(*(select_rows(x.embedding, rows) for x in (teacher, joint))))
            heads.append(self.task.loss(teacher.prediction, batch.target, batch.labelled & present))
        return {
            "align": torch.stack(apart).sum(),
            "joint": self.task.loss(joint.prediction, batch.target, batch.labelled),
            "heads": torch.stack(heads).mean(),
        }

    def deployed_network(self) -> Network:
        return self.joint


@full_precision
def cosine_distance_to_joint(adapted: Tensor, joint: Tensor) -> Tensor:
    """mean_i (1 − cos(adapted_i, joint_i)), with a gradient to both; 0 for no row.

    Args:
        adapted: (B, F).
        joint: (B, F).
    """
    cosine = (normalise_rows(adapted) * normalise_rows(joint)).sum(1)
    return (1 - cosine).sum() / max(len(adapted), 1)


class TeacherChoice:
    """Chooses the teacher with the lowest task loss: the first of equal ones, the modalities before the joint teacher.

    Teachers are compared on the labelled rows that have every modality, so that each is asked the same. Where there is
    none (in a regression, fewer than two: their loss is a correlation) the joint teacher is chosen.

    Args:
        task: the task.
        modalities: the modalities of the teachers that read one, in order.
    """

    def __init__(self, task: Task, modalities: tuple[str, ...]):
        self.task, self.modalities = task, modalities
        self.joint = len(modalities)
        self.least = 2 if task.kind == "regression" else 1

    def comparable(self, batch: Batch) -> Tensor:
        """(B,) bool, the rows on which teachers are compared."""
        rows = batch.labelled & _has_target(batch.target)
        for m in self.modalities:
            rows = rows & batch.present.get(m, torch.ones_like(rows))
        return rows

    def losses(self, teachers: list[Output], batch: Batch, rows: Tensor) -> Tensor:
        """(teachers,), the task loss of each over the rows (B,) bool."""
        return torch.stack([self.task.loss(x.prediction, batch.target, rows) for x in teachers])

    def __call__(self, teachers: list[Output], batch: Batch) -> int:
        """The position of the teacher that teaches the batch."""
        rows = self.comparable(batch)
        if int(rows.sum()) < self.least:
            return self.joint
        return int(self.losses(teachers, batch, rows).argmin())

    @torch.no_grad()
    def once(self, teachers: AlignedTeachers, outputs: TeacherOutputs, select: Batch) -> int:
        """The position of the teacher with the lowest task loss on the select rows, a mean over chunks of them."""
        device = next(teachers.parameters()).device
        total, count = torch.zeros(self.joint + 1), 0
        for chunk in outputs.to(device).batches(select, device):
            chunk = chunk.materialize().to(device)
            rows = self.comparable(chunk)
            n = int(rows.sum())
            if n >= self.least:
                total += n * self.losses(teachers(outputs(chunk).features), chunk, rows).cpu().float()
                count += n
        return int(total.argmin()) if count else self.joint


def _has_target(target: Tensor) -> Tensor:
    """(B,) bool, the rows with a value, or a pixel, that counts."""
    if target.is_floating_point():
        return target.isfinite().any(1)
    return (target >= 0).flatten(1).any(1) if target.dim() > 1 else torch.ones_like(target, dtype=torch.bool)
