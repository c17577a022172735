"""Contrastive losses: the student's embedding of a row has to match the teacher's of the same row among many others."""

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
from sidelight.methods.ranges import BELOW_ONE, NON_NEGATIVE, POSITIVE, POSITIVE_INT
from sidelight.networks.network import Network, Output
from sidelight.tasks import Task


class NCE(DistillationLoss):
    """InfoNCE of the fused embeddings: the student's row against the teacher's, the batch's other rows as negatives.

    −mean_i log softmax_j(cos(s_i, t_j) / τ) at j = i (eq. 4 with cosine / τ as the critic). Rows of one class are
    negatives of each other. Several papers compare with this loss.

    Args:
        temperature: τ, which divides the cosines.
    """

    relational = True
    stackable = True
    paper = "van den Oord et al. 2018, arXiv 1807.03748"
    ranges = {"temperature": POSITIVE, "weight": NON_NEGATIVE}

    def __init__(self, temperature: float = 0.1, weight: float = 1.0):
        super().__init__()
        self.validate_settings(temperature=temperature, weight=weight)
        self.temperature, self.weight = temperature, weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return info_nce(student.embedding, teacher.embedding, self.temperature, batch.valid)


class CRCD(DistillationLoss):
    """Relation contrast: the student's relations to a few anchors against the teacher's (its feature term).

    −mean log softmax_j(cos(s_i − t_a, t_j − t_a) / τ) at j = i, over a few anchors a (`sidelight.losses.crcd` lists our
    choices). This is half of the published method: the relation between features. The paper's other relation, between
    the gradients of the task loss with respect to the embeddings, is not computed: it is undefined for unlabelled rows,
    a loss has no access to the head, and the released code is incomplete there. The paper numbers no equation for it.

    Args:
        anchors: the number of rows of the batch that the others are compared with.
        temperature: τ, which divides the cosines.
    """

    relational = True
    paper = "Zhu et al., CVPR 2021"
    ranges = {"anchors": POSITIVE_INT, "temperature": POSITIVE, "weight": NON_NEGATIVE}

    def __init__(self, anchors: int = 4, temperature: float = 0.1, weight: float = 1.0):
        super().__init__()
        self.validate_settings(anchors=anchors, temperature=temperature, weight=weight)
        self.anchors, self.temperature, self.weight = anchors, temperature, weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return crcd(student.embedding, teacher.embedding, self.anchors, self.temperature)


class CRD(DistillationLoss):
    """Contrastive representation distillation: both directions, negatives of other classes from a memory bank.

    L = crd(s, t) + crd(t, s) (eq. 10, 17-19; `sidelight.losses.crd`), with the constants of the released code except
    for `negatives`: 1024 instead of 16384, because most sets of recordings have fewer rows.

    Linear layers map both fused embeddings to unit vectors of size `width`. A memory bank holds one vector of each
    network for every training row, addressed by `Batch.index`; after each step it moves halfway to the new vector. The
    positive of a row is the vector of the same row in the other network's bank, without gradient, as in all released
    implementations. `positive=batch` takes the other network's vector of this step, with gradient, so that both linear
    layers move towards each other.

    Each step draws `negatives` rows for the whole batch (all rows, if there are fewer). Negatives of the row's own
    class do not count, nor do rows that its teacher does not teach: those of another fold of a cross-fitted teacher,
    and those without the teacher's modalities. Our choices: the bank starts from the teacher's embeddings, and the
    class of an unlabelled row is the teacher's prediction.

    Args:
        negatives: the number of rows that each step draws from the bank as negatives.
        width: the size of the vectors that are compared.
        temperature: τ, which divides their products.
        momentum: the share of a vector of the bank that remains when it is updated.
        positive: "bank" (the vector of the row in the other bank) or "batch" (the other network's vector of this step).
    """

    tasks = ("classification",)
    alternative = "its negatives are rows of other classes; use 'nce', which contrasts rows"
    relational = True
    paper = "Tian et al., ICLR 2020"
    ranges = {
        "negatives": POSITIVE_INT,
        "width": POSITIVE_INT,
        "temperature": POSITIVE,
        "momentum": BELOW_ONE,
        "weight": NON_NEGATIVE,
    }
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
        self.validate_settings(
            negatives=negatives, width=width, temperature=temperature, momentum=momentum, weight=weight
        )
        if positive not in ("bank", "batch"):
            raise ConfigError(f"crd takes its positives from 'bank' or 'batch', not {positive!r}")
        self.negatives, self.width, self.weight, self.positive = negatives, width, weight, positive
        self.temperature, self.momentum = temperature, momentum

    def prepare(self, student: Network, teacher: Teacher, rows: Batch, task: Task) -> None:
        size = teacher.outputs.all_rows.embedding.shape[1]
        self.of_student, self.of_teacher = nn.Linear(size, self.width), nn.Linear(size, self.width)
        # The student starts from the teacher's weights, so its rows of the bank start from the teacher's embeddings.
        outputs = teacher.outputs.all_rows.embedding
        with torch.no_grad():
            bank = torch.stack([self.of_student.to(outputs)(outputs), self.of_teacher.to(outputs)(outputs)])
        self.register_buffer("bank", F.normalize(bank, dim=2))
        self.register_buffer("log_z", torch.full((2,), torch.nan))
        # On the CPU, where the rows are; an earlier method of the fold may have moved the outputs to its device.
        answers = teacher.outputs.all_rows.prediction.argmax(1).cpu()
        self.register_buffer("classes", rows.target.where(rows.labelled, answers))
        space = torch.zeros_like(rows.index) if teacher.teacher_fold is None else teacher.teacher_fold
        if teacher.mask is not None:
            space = space.masked_fill(~teacher.mask, -1)
        self.register_buffer("space", space, persistent=False)  # the teacher whose space a row lies in; −1: none

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        s = F.normalize(self.of_student(student.embedding), dim=1)
        t = F.normalize(self.of_teacher(teacher.embedding.detach()), dim=1)
        drawn = torch.randperm(len(self.classes), device=s.device)[: self.negatives]
        mask = self.classes[batch.index, None] != self.classes[None, drawn]
        mask &= self.space[batch.index, None] == self.space[None, drawn]  # rows of the batch have a teacher
        bank = self.bank[:, drawn].clone()  # a copy, because this batch changes the bank below
        of_s, of_t = (s, t) if self.positive == "batch" else self.bank[:, batch.index].to(s).clone()
        loss = self._one_way(0, s, of_t, bank[1], mask) + self._one_way(1, t, of_s, bank[0], mask)
        if self.training:
            self._remember(batch.index, torch.stack([s, t]).detach())
        return loss

    def _one_way(self, way: int, anchor: Tensor, positive: Tensor, negatives: Tensor, mask: Tensor) -> Tensor:
        rows, log_z = len(self.classes), self.log_z[way].clone()
        if log_z.isnan():
            # The released code estimates Z on the first batch and keeps it.
            log_z = crd_log_normaliser(anchor, positive, negatives, rows, mask, self.temperature).to(log_z)
            if self.training:
                self.log_z[way] = log_z
        return crd(anchor, positive, negatives, rows, log_z, mask, self.temperature, detach=self.positive == "bank")

    def _remember(self, index: Tensor, made: Tensor) -> None:
        moved = self.momentum * self.bank[:, index] + (1 - self.momentum) * made.to(self.bank)
        self.bank[:, index] = F.normalize(moved, dim=2)


class CCL(DistillationLoss):
    """Compositional contrastive learning: the student contrasted with a composition of teacher and student.

    It follows the paper and its released code, with the embedding t of one teacher instead of audio and image. The
    composition x = t + W [t, s] has its own classifier, trained by the task loss ("composed"). The student is trained
    by class_nce(s, x) over classes ("nce") and by the Jensen-Shannon divergence of the predictions ("jsd"); neither has
    a gradient to the composition. Both follow the released code; the paper numbers no equation for them. A batch with
    one class is allowed (the released code divides by 0).

    Args:
        temperature: τ of the contrast over classes.
    """

    tasks = ("classification",)
    alternative = "it contrasts classes; use 'nce', which contrasts rows"
    relational = True
    stackable = True
    paper = "Chen et al., CVPR 2021"
    ranges = {"temperature": POSITIVE, "weight": NON_NEGATIVE}
    auxiliary = ("composed",)

    def __init__(self, temperature: float = 0.1, weight: float = 1.0):
        super().__init__()
        self.validate_settings(temperature=temperature, weight=weight)
        self.temperature, self.weight = temperature, weight

    def prepare(self, student: Network, teacher: Teacher, rows: Batch, task: Task) -> None:
        size = teacher.outputs.sample.embedding.shape[1]
        self.compose, self.classify = nn.Linear(2 * size, size), nn.Linear(size, task.outputs)

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> dict[str, Tensor]:
        s, t = student.embedding, teacher.embedding.detach()
        composed = t + self.compose(torch.cat([t, s.detach()], 1))
        outputs = self.classify(composed)
        labels = batch.target.where(batch.counted, -1)
        return {
            "composed": task.loss(outputs, batch.target, batch.counted),
            "nce": class_nce(s, composed, labels, self.temperature, valid=batch.valid),
            "jsd": jensen_shannon(student.prediction, outputs, valid=batch.valid),
        }


class GMC(DistillationLoss):
    """Geometric multimodal contrast: every representation of the student against the teacher's joint one.

    Eq. 2-3 (`sidelight.losses.gmc`): NT-Xent of linear maps of each available modality's features, and of the student's
    fused embedding, with a linear map of the teacher's fused embedding (τ = 0.3). The paper trains all encoders
    together; here the teacher is trained already, and only the map of its embedding is trained.

    Args:
        temperature: τ, which divides the cosines.
        width: the size of the vectors that are compared.
    """

    relational = True
    reads_features = True
    stackable = True
    paper = "Poklukar et al., ICML 2022"
    ranges = {"temperature": POSITIVE, "width": POSITIVE_INT, "weight": NON_NEGATIVE}

    def __init__(self, temperature: float = 0.3, width: int = 64, weight: float = 1.0):
        super().__init__()
        self.validate_settings(temperature=temperature, width=width, weight=weight)
        self.temperature, self.width, self.weight = temperature, width, weight

    def prepare(self, student: Network, teacher: Teacher, rows: Batch, task: Task) -> None:
        self.slots = student.reads
        outputs = teacher.outputs.sample
        size = outputs.embedding.shape[1]
        self.maps = nn.ModuleList()  # one for each available modality, the last for the fused embedding
        for m in self.slots:
            self.maps.append(nn.Linear(outputs.vector(m).shape[1], self.width))
        self.maps.append(nn.Linear(size, self.width))
        self.joint = nn.Linear(size, self.width)

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        vectors = [*map(student.vector, self.slots), student.embedding]
        mapped = [layer(x) for layer, x in zip(self.maps, vectors)]
        return gmc(mapped, self.joint(teacher.embedding.detach()), self.temperature, batch.valid)
