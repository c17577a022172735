"""Contrastive terms: a row of the student finds the same sample among the teacher's embeddings of many rows."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.losses.contrastive import class_nce, crcd, crd, crd_log_normaliser, gmc, info_nce
from sidelight.losses.distribution import jensen_shannon
from sidelight.methods.distillation import DistillationLoss, Teacher
from sidelight.methods.ranges import ABOVE_0, BELOW_1, FROM_0, SOME
from sidelight.networks.network import Network, Output
from sidelight.tasks import Task


class NCE(DistillationLoss):
    """InfoNCE of the fused embeddings: the student's row against the teacher's, the batch's other rows as negatives.

    −mean_i log softmax_j(cos(s_i, t_j) / τ) at j = i (eq. 4 with cosine / τ as the critic). Rows of one class are
    negatives of each other. A stand-in of the papers' comparisons.

    Args:
        temperature: τ, by which cosines are divided.
    """

    relational = True
    paper = "van den Oord et al. 2018, arXiv 1807.03748"
    ranges = {"temperature": ABOVE_0, "weight": FROM_0}

    def __init__(self, temperature: float = 0.1, weight: float = 1.0):
        super().__init__()
        self.within(temperature=temperature, weight=weight)
        self.temperature, self.weight = temperature, weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return info_nce(student.embedding, teacher.embedding, self.temperature)


class CRCD(DistillationLoss):
    """Relation contrast: the student's relations to a few anchors against the teacher's (its feature term).

    −mean log softmax_j(cos(s_i − t_a, t_j − t_a) / τ) at j = i, over a few anchors a (`sidelight.losses.crcd`, which
    says what is our reading). Of the paper's two complementary relations that is the one between features. The other,
    between gradients of the task loss by the embeddings, is not computed: it has no meaning for rows without a label, a
    term sees no head to differentiate, and the released code has it incomplete. So this is half of the published
    method; no numbered equation is cited.

    Args:
        anchors: how many rows of the batch the others are compared with.
        temperature: τ, by which cosines are divided.
    """

    relational = True
    paper = "Zhu et al., CVPR 2021"
    ranges = {"anchors": SOME, "temperature": ABOVE_0, "weight": FROM_0}

    def __init__(self, anchors: int = 4, temperature: float = 0.1, weight: float = 1.0):
        super().__init__()
        self.within(anchors=anchors, temperature=temperature, weight=weight)
        self.anchors, self.temperature, self.weight = anchors, temperature, weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return crcd(student.embedding, teacher.embedding, self.anchors, self.temperature)


class CRD(DistillationLoss):
    """Contrastive representation distillation: both directions, negatives of other classes from a memory bank.

    L = crd(s, t) + crd(t, s) (eq. 10, 17-19; `sidelight.losses.crd`), with the released code's constants but for
    `negatives`: 1024 where that draws 16384, since most sets of recordings have fewer rows than those. Linear maps of
    both fused embeddings to `width` unit vectors; the bank keeps one of each per training row, addressed by
    `Batch.index` and moved halfway to its row whenever that is seen. A row's positive is what the other network's bank
    holds of it, without gradient, as in all released implementations; `positive=batch` takes the other network's row
    of this step instead, with gradient, so that both maps move towards each other. Each step draws `negatives` rows
    (all, if there are no more) for the whole batch; those of a row's class do not count, nor those that its own teacher
    says nothing of: rows of another part of a cross-fitted teacher, and rows without its modalities. Our reading: the
    bank begins with the teacher's embeddings, and the class of an unlabelled row is the teacher's choice.

    Args:
        negatives: rows that each step draws from the bank as negatives.
        width: size of the vectors that are compared.
        temperature: τ, by which their products are divided.
        momentum: share of a bank's vector that stays when its row is seen.
        positive: "bank" (what the other bank holds of the row) or "batch" (the other network's row of this step).
    """

    tasks = ("classification",)
    instead = "its negatives are rows of other classes; use 'nce', which contrasts rows"
    relational = True
    paper = "Tian et al., ICLR 2020"
    ranges = {"negatives": SOME, "width": SOME, "temperature": ABOVE_0, "momentum": BELOW_1, "weight": FROM_0}
    bank: Tensor
    classes: Tensor
    space: Tensor
    log_z: Tensor

    def __init__(
        self,
        negatives: int = 1024,
        width: int = 128,
        temperature: float = 0.07,
        momentum: float = 0.5,
        weight: float = 0.8,
        positive: Literal["bank", "batch"] = "bank",
    ):
        super().__init__()
        self.within(negatives=negatives, width=width, temperature=temperature, momentum=momentum, weight=weight)
        if positive not in ("bank", "batch"):
            raise ConfigError(f"crd takes its positives from 'bank' or 'batch', not {positive!r}")
        self.negatives, self.width, self.weight, self.positive = negatives, width, weight, positive
        self.temperature, self.momentum = temperature, momentum

    def prepare(self, student: Network, teacher: Teacher, rows: Batch, task: Task) -> None:
        size = teacher.outputs.every.embedding.shape[1]
        self.of_student, self.of_teacher = nn.Linear(size, self.width), nn.Linear(size, self.width)
        outputs = teacher.outputs.every.embedding  # the student begins as the teacher ended: so do its rows of the bank
        with torch.no_grad():
            bank = torch.stack([self.of_student.to(outputs)(outputs), self.of_teacher.to(outputs)(outputs)])
        self.register_buffer("bank", F.normalize(bank, dim=2))
        self.register_buffer("log_z", torch.full((2,), torch.nan))
        self.register_buffer("classes", rows.target.where(rows.labelled, teacher.outputs.every.prediction.argmax(1)))
        space = torch.zeros_like(rows.index) if teacher.teacher_fold is None else teacher.teacher_fold
        if teacher.mask is not None:
            space = space.masked_fill(~teacher.mask, -1)
        self.register_buffer("space", space, persistent=False)  # whose space a row lies in; −1: nobody's

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        s = F.normalize(self.of_student(student.embedding), dim=1)
        t = F.normalize(self.of_teacher(teacher.embedding.detach()), dim=1)
        drawn = torch.randperm(len(self.classes), device=s.device)[: self.negatives]
        mask = self.classes[batch.index, None] != self.classes[None, drawn]
        mask &= self.space[batch.index, None] == self.space[None, drawn]  # no row of the batch is in nobody's
        bank = self.bank[:, drawn].clone()  # before this batch enters it
        of_s, of_t = (s, t) if self.positive == "batch" else self.bank[:, batch.index].to(s).clone()
        loss = self._one_way(0, s, of_t, bank[1], mask) + self._one_way(1, t, of_s, bank[0], mask)
        if self.training:
            self._remember(batch.index, torch.stack([s, t]).detach())
        return loss

    def _one_way(self, way: int, anchor: Tensor, positive: Tensor, negatives: Tensor, mask: Tensor) -> Tensor:
        rows, log_z = len(self.classes), self.log_z[way].clone()
        if log_z.isnan():
            log_z = crd_log_normaliser(anchor, positive, negatives, rows, mask, self.temperature).to(log_z)
            if self.training:
                self.log_z[way] = log_z
        return crd(anchor, positive, negatives, rows, log_z, mask, self.temperature, detach=self.positive == "bank")

    def _remember(self, index: Tensor, made: Tensor) -> None:
        moved = self.momentum * self.bank[:, index] + (1 - self.momentum) * made.to(self.bank)
        self.bank[:, index] = F.normalize(moved, dim=2)


class CCL(DistillationLoss):
    """Compositional contrastive learning: the student contrasted with a composition of teacher and student.

    Our reading of the paper and its released code, with one teacher's embedding t in the place of audio and image: x =
    t + W [t, s] with its own classifier, learnt by the task loss ("composed"); class_nce(s, x) over classes ("nce") and
    the Jensen-Shannon divergence of the predictions ("jsd"), the composition without gradient in both; both as in
    the released code, no numbered equation is cited. A batch of one class is legal (the released code divides by 0).

    Args:
        temperature: τ of the contrast over classes.
    """

    tasks = ("classification",)
    instead = "it contrasts classes; use 'nce', which contrasts rows"
    relational = True
    paper = "Chen et al., CVPR 2021"
    ranges = {"temperature": ABOVE_0, "weight": FROM_0}
    auxiliary = ("composed",)

    def __init__(self, temperature: float = 0.1, weight: float = 1.0):
        super().__init__()
        self.within(temperature=temperature, weight=weight)
        self.temperature, self.weight = temperature, weight

    def prepare(self, student: Network, teacher: Teacher, rows: Batch, task: Task) -> None:
        size = teacher.outputs.sample.embedding.shape[1]
        self.compose, self.classify = nn.Linear(2 * size, size), nn.Linear(size, task.outputs)

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> dict[str, Tensor]:
        s, t = student.embedding, teacher.embedding.detach()
        composed = t + self.compose(torch.cat([t, s.detach()], 1))
        outputs = self.classify(composed)
        labels = batch.target.where(batch.labelled, -1)
        return {
            "composed": task.loss(outputs, batch.target, batch.labelled),
            "nce": class_nce(s, composed, labels, self.temperature),
            "jsd": jensen_shannon(student.prediction, outputs),
        }


class GMC(DistillationLoss):
    """Geometric multimodal contrast: every representation of the student against the teacher's joint one.

    Eq. 2-3 (`sidelight.losses.gmc`): NT-Xent of linear maps of each available modality's features, and of the student's
    fused embedding, with one of the teacher's fused embedding (τ = 0.3). There all encoders are learnt together; here
    the teacher's is finished, and its map alone is learnt.

    Args:
        temperature: τ, by which cosines are divided.
        width: size of the vectors that are compared.
    """

    relational = True
    reads_features = True
    paper = "Poklukar et al., ICML 2022"
    ranges = {"temperature": ABOVE_0, "width": SOME, "weight": FROM_0}

    def __init__(self, temperature: float = 0.3, width: int = 64, weight: float = 1.0):
        super().__init__()
        self.within(temperature=temperature, width=width, weight=weight)
        self.temperature, self.width, self.weight = temperature, width, weight

    def prepare(self, student: Network, teacher: Teacher, rows: Batch, task: Task) -> None:
        self.slots = student.reads
        outputs = teacher.outputs.sample
        sizes = [outputs.vector(m).shape[1] for m in self.slots] + [outputs.embedding.shape[1]]
        self.maps = nn.ModuleList([nn.Linear(size, self.width) for size in sizes])
        self.joint = nn.Linear(sizes[-1], self.width)

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        read = [*(student.vector(m) for m in self.slots), student.embedding]
        made = [layer(x) for layer, x in zip(self.maps, read)]
        return gmc(made, self.joint(teacher.embedding.detach()), self.temperature)
