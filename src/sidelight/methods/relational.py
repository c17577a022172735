"""Relational losses: compare the relations between rows in the student's embedding with those in the teacher's.

The default weights of `rkd` and `pkt` are those of the comparison by Tian et al. (ICLR 2020). Their weight of `sp`,
3000, dominates the task loss of small networks, whose Gram matrices differ more; 100 has the scale of the other two.
"""

from __future__ import annotations

from torch import Tensor

from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.losses.distribution import gaussian_mmd
from sidelight.losses.relational import pkt, rkd, similarity_preserving
from sidelight.methods.distillation import DistillationLoss
from sidelight.methods.mmanet import Weigh, margin_aware_similarity
from sidelight.methods.ranges import NON_NEGATIVE
from sidelight.networks.network import Output
from sidelight.tasks import Task


class RKD(DistillationLoss):
    """Relational distillation: distances between rows and angles of triples of rows in the fused embedding.

    25 · RKD-D + 50 · RKD-A (eq. 5-10; `sidelight.losses.rkd`), each a mean over all pairs or triples, as in the
    released code.

    Args:
        distance: the weight of RKD-D.
        angle: the weight of RKD-A.
    """

    relational = True
    stackable = True
    paper = "Park et al., CVPR 2019"
    ranges = {"distance": NON_NEGATIVE, "angle": NON_NEGATIVE, "weight": NON_NEGATIVE}

    def __init__(self, distance: float = 25.0, angle: float = 50.0, weight: float = 1.0):
        super().__init__()
        self.validate_settings(distance=distance, angle=angle, weight=weight)
        self.distance, self.angle, self.weight = distance, angle, weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return rkd(student.embedding, teacher.embedding, self.distance, self.angle, batch.valid)


class SP(DistillationLoss):
    """Similarity-preserving distillation: the batch's normalised Gram matrix of the fused embedding.

    ‖G_s − G_t‖²_F / B² (eq. 1-4; `sidelight.losses.similarity_preserving`).
    """

    relational = True
    stackable = True
    paper = "Tung & Mori, ICCV 2019"
    ranges = {"weight": NON_NEGATIVE}

    def __init__(self, weight: float = 100.0):
        super().__init__()
        self.validate_settings(weight=weight)
        self.weight = weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return similarity_preserving(student.embedding, teacher.embedding, batch.valid)


class PKT(DistillationLoss):
    """Probabilistic knowledge transfer: each row's distribution over its neighbours in the fused embedding.

    KL divergence between the rows of (1 + cos) / 2, each divided by its sum (eq. 4-9; `sidelight.losses.pkt`). It is a
    mean over all B² pairs, as in the released code, so the weight is large.
    """

    relational = True
    stackable = True
    paper = "Passalis & Tefas, ECCV 2018"
    ranges = {"weight": NON_NEGATIVE}

    def __init__(self, weight: float = 30000.0):
        super().__init__()
        self.validate_settings(weight=weight)
        self.weight = weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return pkt(student.embedding, teacher.embedding, valid=batch.valid)


class MAD(DistillationLoss):
    """Margin-aware distillation: Gram matrices of the fused embedding; rows that the teacher is unsure of weigh more.

    Σ_i w_i Σ_j (Ĝ_s − Ĝ_t)²_ij, w the entropy of the teacher's classes over its sum: the first term of `mmanet`, for a
    student of all its modalities. The formula is that of the released code for segmentations, and the paper numbers no
    equation that we could read; that for classes weighs the columns (`weigh=columns`).

    Args:
        weigh: whether the entropies weigh "rows" or "columns" of the difference.
    """

    tasks = ("classification",)
    alternative = "it weighs rows by the entropy of their classes; use 'sp', which weighs all alike"
    relational = True
    stackable = True
    paper = "Wei et al., CVPR 2023 (MMANet)"
    ranges = {"weight": NON_NEGATIVE}

    def __init__(self, weigh: Weigh = "rows", weight: float = 30.0):
        super().__init__()
        self.validate_settings(weight=weight)
        if weigh not in ("rows", "columns"):
            raise ConfigError(f"options.mad.weigh: expected 'rows' or 'columns', not {weigh!r}.")
        self.weigh, self.weight = weigh, weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return margin_aware_similarity(
            student.embedding, teacher.embedding, teacher.prediction, self.weigh, batch.valid
        )


class MMD(DistillationLoss):
    """Maximum mean discrepancy between the fused embeddings of student and teacher, five Gaussian kernels.

    mean K(s, s) + mean K(t, t) − 2 mean K(s, t) (`sidelight.losses.gaussian_mmd`): the marginal part of OS-MD's L_JDN
    (its eq. 1-3) as a separate loss. It compares distributions, not rows: permuted rows give the same value.
    """

    relational = True
    stackable = True
    paper = "Long et al., ICML 2015"
    ranges = {"weight": NON_NEGATIVE}

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.validate_settings(weight=weight)
        self.weight = weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return gaussian_mmd(student.embedding, teacher.embedding, valid=batch.valid)
