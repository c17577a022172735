"""C2KD: teacher and student learn at once, and meet in two proxies on the rows where these agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn import functional as F

from sidelight.config import Config
from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.losses.pointwise import soft_label_kl
from sidelight.losses.selective import Nontarget, kendall_tau, nontarget_kl
from sidelight.methods.base import Method, TrainState, trainable_parameters
from sidelight.methods.context import TrainingContext
from sidelight.methods.multi_stage import MultiStageMethod, require_privileged_images
from sidelight.methods.ranges import BELOW_ONE, NON_NEGATIVE
from sidelight.methods.teacher_outputs import rows_where, select_rows
from sidelight.networks.backbones.base import running_statistics
from sidelight.networks.build import feature_shape
from sidelight.networks.network import Network, Output
from sidelight.networks.tokens import num_channels, pool, to_map
from sidelight.tasks import Task

SLOPE = 0.1
"""The slope of LeakyReLU below 0."""


class Proxy(nn.Module):
    """A second head on a network's features: linear without bias, batch normalisation, LeakyReLU, linear.

    It reads the features of every modality side by side, before the fusion; in a segmentation at every position, and
    its logits are interpolated to the pixels.

    Args:
        shapes: modality -> (T, D), or (D, h, w) of a map.
        width: the units between its layers.
        outputs: the number of classes.
        size: (H, W) of a target with a class per pixel, else ().
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]], width: int, outputs: int, size: Sequence[int] = ()):
        super().__init__()
        self.modalities, self.size = tuple(shapes), tuple(size)
        self.positions = max((tuple(shape[1:]) for shape in shapes.values() if len(shape) == 3), default=())
        channels = sum(num_channels(shape) for shape in shapes.values())
        self.hidden, self.norm = nn.Linear(channels, width, bias=False), nn.BatchNorm1d(width)
        self.out = nn.Linear(width, outputs)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """(B, C) or (B, C, H, W) logits from features of the modalities."""
        if self.size:
            maps = [to_map(features[m], self.positions).movedim(1, -1) for m in self.modalities]
        else:
            maps = [pool(features[m]) for m in self.modalities]
        hidden = self.hidden(torch.cat(maps, dim=-1))
        flat = hidden.flatten(0, -2)
        with running_statistics(self, self.training and len(flat) < 2):  # a single value has no statistics of its own
            normed = self.norm(flat).view_as(hidden)
        logits: Tensor = self.out(F.leaky_relu(normed, SLOPE))
        if not self.size:
            return logits
        return F.interpolate(logits.movedim(-1, 1), size=self.size, mode="bilinear", align_corners=False)


class OnlinePair(Method):
    """Teacher and student, each with a proxy, in one step; `C2KD` says what is minimised.

    Args:
        student: the deployed network.
        teacher: a trained network on the privileged modalities, which learns on.
        proxies: the proxies of student and teacher.
        task: the task.
        weight: the weight of what the proxies teach each other.
        proxy: the weight of what a network and its own proxy teach each other.
        threshold: rows with a rank correlation above it are kept.
        nontarget: what becomes of the label's logit.
    """

    learns_from = "all"

    def __init__(
        self,
        student: Network,
        teacher: Network,
        proxies: tuple[Proxy, Proxy],
        task: Task,
        weight: float,
        proxy: float,
        threshold: float,
        nontarget: Nontarget,
    ):
        super().__init__(task)
        self.student, self.teacher = student, teacher
        self.student_proxy, self.teacher_proxy = proxies
        self.threshold, self.nontarget = threshold, nontarget
        self.reads = tuple(dict.fromkeys([*student.reads, *teacher.reads]))
        self.weights = {"student proxy": proxy, "teacher proxy": proxy, "to student": weight, "to teacher": weight}

    def terms(self, batch: Batch, state: TrainState) -> dict[str, Tensor]:
        student: Output = self.student(batch)
        terms = {"task": self.task.loss(student.prediction, batch.target, batch.labelled)} | student.losses
        student_proxy = self.student_proxy(student.features)
        terms["student proxy"] = _teach_each_other(student.prediction, student_proxy)

        # Rows without any privileged modality have no teacher.
        rows = self._rows_with_privileged(batch)
        teacher: Output = self.teacher(batch)
        teacher = replace(teacher if rows is None else teacher.index_select(rows), losses={})
        target, labelled = select_rows(batch.target, rows), select_rows(batch.labelled, rows)
        teacher_proxy = self.teacher_proxy(teacher.features)
        terms["teacher"] = self.task.loss(teacher.prediction, target, labelled)
        terms["teacher proxy"] = _teach_each_other(teacher.prediction, teacher_proxy)

        student_proxy = select_rows(student_proxy, rows)
        labels = target.long().where(labelled.view(-1, *[1] * (target.dim() - 1)), -1)
        kept = kendall_tau(student_proxy, teacher_proxy) > self.threshold
        terms["to student"] = nontarget_kl(student_proxy, teacher_proxy, labels, kept, self.nontarget)
        terms["to teacher"] = nontarget_kl(teacher_proxy, student_proxy, labels, kept, self.nontarget)
        known = labels >= 0
        self.logged = {"kept rows": (kept & known).sum() / known.sum().clamp(min=1)}
        return terms

    def _rows_with_privileged(self, batch: Batch) -> Tensor | None:
        """The positions of the rows that have a modality of the teacher; None for all rows."""
        present = torch.zeros_like(batch.labelled)
        for m in self.teacher.reads:
            present = present | batch.present.get(m, torch.ones_like(present))
        return rows_where(present)

    def shared_parameters(self) -> list[Parameter]:
        """The parameters of the encoders: the student's proxy reads their features, not its fusion."""
        return trainable_parameters(self.student.encoders)

    def deployed_network(self) -> Network:
        return self.student


def _teach_each_other(one: Tensor, other: Tensor) -> Tensor:
    """KL(one ‖ other) + KL(other ‖ one), in each of which the first is fixed."""
    return soft_label_kl(other, one, 1.0) + soft_label_kl(one, other, 1.0)


class C2KD(MultiStageMethod):
    """Customised crossmodal distillation: teacher and student learn at once, through proxies and where these agree.

    The teacher t is trained on the privileged modalities alone and learns on; the student s reads the available ones
    and starts from fresh weights. Each has a proxy, a second head on its features (t′, s′), in which alone they meet:

        L = CE(t) + CE(s) + KL(t‖t′) + KL(t′‖t) + KL(s‖s′) + KL(s′‖s) + N(t′→s′) + N(s′→t′)

    The first of each pair is fixed; temperatures and weights are 1. N(a→b) is the KL divergence of the classes that
    are not the label (`sidelight.losses.nontarget_kl`), over the rows whose proxies rank the classes alike: Kendall's
    τ-b of their logits above `threshold`. Only the paper's abstract could be read, so the formulas are those of the
    released code, which numbers no equation. There the label's logit is set to 0 and stays in the softmax; leaving it
    out, the default for three or more classes, is what the paper's words suggest. With two classes that leaves one
    class and a divergence of 0, so that the default is then the released form; τ-b is ±1, and rows are kept where the
    proxies decide alike.

    The record of the training holds the share of labelled rows that were kept (`kept rows`). An unlabelled row has no
    N, and one without a privileged modality contributes to CE(s) and the student's own proxy. Our choices: a proxy
    reads the features before the fusion (the released code its third of four stages), its batch normalisation takes
    the rows that have a teacher, and a row alone is normalised by the running statistics. A segmentation compares
    pixels. The released code leaves training mode for good at its first evaluation, in epoch 80, which freezes batch
    normalisation; that is not copied.
    """

    tasks = ("classification", "segmentation")
    alternative = "it ranks classes, and values have none; use 'mse', or 'mers' with hallucinated features"
    paper = "Huo et al., CVPR 2024"
    online = True
    stages = ("teacher", "teacher and student")
    ranges = {"weight": NON_NEGATIVE, "proxy": NON_NEGATIVE, "threshold": BELOW_ONE}

    @classmethod
    def check_experiment(cls, name: str, config: Config, task: Task, shapes: Mapping[str, Sequence[int]]) -> None:
        require_privileged_images(name, config, task, shapes)
        _resolve_nontarget(task, config.options.get(name, {}).get("nontarget", "auto"))

    @classmethod
    def build(
        cls,
        context: TrainingContext,
        *,
        nontarget: Literal["auto", "removed", "zeroed"] = "auto",
        threshold: float = 0.0,
        proxy: float = 1.0,
        weight: float = 1.0,
    ) -> Method:
        """Train the teacher on the privileged modalities, and assemble student, teacher and proxies.

        Args:
            context: the rows, networks and settings of the job.
            nontarget: what becomes of the label's logit in N: "removed", or "zeroed" as released; "auto" is "removed"
                for three or more classes.
            threshold: rows with a rank correlation of their proxies above it are kept; 0 as released.
            proxy: the weight of what a network and its own proxy teach each other.
            weight: the weight of what the proxies teach each other.

        Raises:
            ConfigError: a setting outside of its range, or too few classes.
        """
        cls.validate_settings(threshold=threshold, proxy=proxy, weight=weight)
        resolved = _resolve_nontarget(context.task, nontarget)
        teacher = context.trained_network(context.privileged)
        student = context.network(context.available)
        size = getattr(student.head, "size", ())
        width, classes = context.config.network.width, context.task.outputs
        context.seed()
        proxies = (
            Proxy(feature_shape(student), width, classes, size),
            Proxy(feature_shape(teacher), width, classes, size),
        )
        return OnlinePair(student, teacher, proxies, context.task, weight, proxy, threshold, resolved)


def _resolve_nontarget(task: Task, asked: str) -> Nontarget:
    """What becomes of the label's logit, for the number of classes of the task."""
    if task.outputs < 2:
        raise ConfigError(f"method 'c2kd' ranks classes, and {task.name} has one class: use 'cosine'.")
    if asked == "removed" and task.outputs == 2:
        raise ConfigError(
            "options.c2kd.nontarget=removed leaves one class of two, which teaches nothing: set it to zeroed (or auto)."
        )
    if asked == "auto":
        return "zeroed" if task.outputs == 2 else "removed"
    return "zeroed" if asked == "zeroed" else "removed"
