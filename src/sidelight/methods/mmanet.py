"""MMANet: a student for any subset of its modalities, taught along the margins and helped where a subset is weak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from sidelight.config import Config
from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.losses.common import normalise_rows, zero_padding
from sidelight.methods.base import Method, TrainState
from sidelight.methods.context import TrainingContext
from sidelight.methods.multi_stage import MultiStageMethod, warn_of_late_start
from sidelight.methods.ranges import NON_NEGATIVE, NON_NEGATIVE_INT
from sidelight.methods.teacher_outputs import TeacherOutputs
from sidelight.networks.network import Network, Output, predict_in_chunks
from sidelight.tasks import Task
from sidelight.utils.precision import full_precision

Weigh = Literal["rows", "columns"]
OBSERVED = 3
"""The epochs before `begin` in which weak combinations are looked for."""
BEGIN = 5
NEEDS_SUBSETS = (
    "method 'mmanet' helps a student that reads any subset of two or more available modalities: set student.drop=0.3 "
    "and name them in available, or use 'sp'."
)


@full_precision
def margin_aware_similarity(
    student: Tensor, teacher: Tensor, logits: Tensor, weigh: Weigh = "rows", valid: Tensor | None = None
) -> Tensor:
    """Σ_i w_i Σ_j (Ĝ_s − Ĝ_t)²_ij, w the entropy of the teacher's classes in a row over that of all rows.

    Ĝ is the Gram matrix of a batch with rows of norm 1. Rows near the teacher's margin have a large entropy. Source:
    MMANet (Wei et al., CVPR 2023), its released code for segmentations; that for classes weighs columns instead, which
    is not the same, as Ĝ is not symmetric.

    Args:
        student: (B, D).
        teacher: (B, D'), without gradient.
        logits: (B, C), the teacher's.
        weigh: what w weighs.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.

    Returns:
        A scalar.
    """
    student, teacher = zero_padding(student, valid), zero_padding(teacher.detach(), valid)
    ours, theirs = (normalise_rows(x @ x.T) for x in (student, teacher))
    log_p = zero_padding(logits.detach(), valid).log_softmax(1)
    entropy = 1e-8 - (log_p.exp() * log_p).sum(1)  # a teacher that is sure of every row weighs all alike
    entropy = zero_padding(entropy, valid)
    weight = entropy / entropy.sum().clamp(min=1e-12)
    apart = (ours - theirs).square()
    return (weight * apart.sum(1 if weigh == "rows" else 0)).sum()


@full_precision
def weakness(shares: Tensor, whole: Tensor) -> Tensor:
    """KL(softmax(v) ‖ softmax(v_all)) of the shares of the predicted classes, a softmax *of shares*, as released.

    Args:
        shares: (C,), with a combination of the modalities.
        whole: (C,), with all of them.
    """
    log_p, log_q = shares.log_softmax(0), whole.log_softmax(0)
    return (log_p.exp() * (log_p - log_q)).sum()


class CombinationRegularised(Method):
    """L_task + λ MAD + μ MAR of a student that leaves modalities out in training; `MMANet` says what they are.

    Args:
        student: the deployed network, which completes missing modalities.
        teacher: the teacher's outputs on the training rows.
        auxiliary: a second head on the fused embedding.
        task: the task.
        begin: the first epoch, from 0, with MAD and MAR.
        weigh: as in `margin_aware_similarity`.
    """

    learns_from = "all"
    epoch: Tensor
    scores: Tensor

    def __init__(
        self, student: Network, teacher: TeacherOutputs, auxiliary: nn.Module, task: Task, begin: int, weigh: Weigh
    ):
        super().__init__(task)
        self.student, self.teacher, self.auxiliary = student, teacher, auxiliary
        self.begin, self.weigh = begin, weigh
        self.reads = tuple(dict.fromkeys([*student.reads, *teacher.reads]))
        # Buffers, so that a resumed run goes on with what was seen.
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scores", torch.zeros(len(student.reads)))

    def terms(self, batch: Batch, state: TrainState) -> dict[str, Tensor]:
        self.epoch.fill_(state.epoch)
        features, shown, losses = self.student.encode(batch)
        fused = self.student.fusion(features)
        output = Output(self.student.forward_head(fused), fused, {})
        terms = {"task": self.task.loss(output.prediction, batch.target, batch.labelled)} | losses
        if state.epoch < self.begin:
            return terms
        teacher = self.teacher(batch)
        terms["mad"] = margin_aware_similarity(output.embedding, teacher.embedding, teacher.prediction, self.weigh)
        weak = self._weak_rows(shown) & batch.labelled
        share = weak.sum() / batch.labelled.sum().clamp(min=1)
        terms["mar"] = self.task.loss(self.auxiliary(fused), batch.target, weak) * share
        self.logged = {"weak rows": share}
        return terms

    def _weak_rows(self, shown: Batch) -> Tensor:
        """(B,) bool, the rows that show the weakest combination or a part of it; before any was seen, any but all."""
        every = torch.ones_like(shown.labelled)
        visible = torch.stack([shown.present.get(m, every) for m in self.student.reads], dim=1)
        weakest = visible[:, int(self.scores.argmax())] if bool(self.scores.any()) else visible.all(1)
        return ~weakest

    def score(self, select: Batch) -> float:
        if self.begin - OBSERVED <= int(self.epoch) < self.begin:
            self._observe(select)
        return super().score(select)

    def _observe(self, select: Batch) -> None:
        """Add to the score of every combination: all modalities but one."""
        whole = self._shares(select)
        for i, m in enumerate(self.student.reads):
            absent = torch.zeros(len(select), dtype=torch.bool, device=select.index.device)
            self.scores[i] += weakness(self._shares(replace(select, present=select.present | {m: absent})), whole).to(
                self.scores
            )

    def _shares(self, select: Batch) -> Tensor:
        """(C,), the share of every class among the predictions."""
        rows = torch.arange(len(select), device=select.index.device)
        said = predict_in_chunks(self.student, select, rows, lambda output: output.prediction.argmax(1))
        return torch.bincount(said, minlength=self.task.outputs).float() / max(len(said), 1)

    def deployed_network(self) -> Network:
        return self.student


class MMANet(MultiStageMethod):
    """Margin-aware distillation into a student for any subset of its modalities, with help for the weakest subset.

    The student leaves modalities out of its training rows (`student.drop`), the teacher has all:

        L = L_task + λ MAD + μ MAR, and L_task alone in the first `begin` epochs

    MAD is Σ_i w_i Σ_j (Ĝ_s − Ĝ_t)²_ij (`margin_aware_similarity`), w the entropy of the teacher's classes. MAR is the
    cross-entropy of a second head on the fused embedding over the rows that show the weakest combination of modalities
    or a part of it, divided by the number of labelled rows. The weakest is the one whose predicted classes on the
    select rows differ most from those with all modalities, in the sum over the last three epochs before `begin`: KL
    divergence of a softmax of shares. The paper numbers no equation that we could read; the formulas are those of the
    released code, which looks at the *test* rows, and at pairs of its three modalities. Here a combination is all
    available modalities but one, which is the same with three, and with two each of them alone.

    The released code for classes weighs the columns of d, not its rows (`weigh=columns`). Modalities are left out with
    the probability `student.drop`, and completed, in place of a uniform draw and zeros. An unlabelled row has MAD
    alone. The record of the training holds the share of labelled rows that were weak (`weak rows`).
    """

    paper = "Wei et al., CVPR 2023 (MMANet)"
    tasks = ("classification",)
    alternative = "it weighs rows by the entropy of their classes, and looks at one class for each; use 'sp'"
    ranges = {"begin": NON_NEGATIVE_INT, "weight": NON_NEGATIVE, "regularise": NON_NEGATIVE}
    check_settings = {"begin": 0}
    check_study = {"available": ["phone", "watch"], "privileged": ["pulse"], "student": {"drop": 0.4}}

    @classmethod
    def check_experiment(cls, name: str, config: Config, task: Task, shapes: Mapping[str, Sequence[int]]) -> None:
        if not config.student.drop or len(config.available) < 2:
            raise ConfigError(NEEDS_SUBSETS)
        warn_of_late_start(name, "begin", BEGIN, config, "its two terms; train longer or start them sooner")

    @classmethod
    def build(
        cls,
        context: TrainingContext,
        *,
        begin: int = BEGIN,
        weigh: Weigh = "rows",
        weight: float = 30.0,
        regularise: float = 0.5,
    ) -> Method:
        """Train the teacher, and assemble the student and its second head.

        Args:
            context: the rows, networks and settings of the job.
            begin: epochs with the task loss alone, in the last three of which the weakest combination is found.
            weigh: whether the entropies weigh "rows", or "columns" as released for classes.
            weight: λ, the weight of MAD.
            regularise: μ, the weight of MAR.

        Raises:
            ConfigError: a setting outside of its range, or a student for all of its modalities alone.
        """
        cls.validate_settings(begin=begin, weight=weight, regularise=regularise)
        teacher = context.trained_network([*context.available, *context.privileged])
        student = context.student(teacher)
        if student.completion is None:
            raise ConfigError(NEEDS_SUBSETS)
        context.seed()
        auxiliary = nn.Linear(int(student.fusion.out_dim), context.task.outputs)  # type: ignore[arg-type]
        outputs = context.teacher_outputs(teacher)
        method = CombinationRegularised(student, outputs, auxiliary, context.task, begin, weigh)
        method.weights = {"mad": weight, "mar": regularise}
        return method
