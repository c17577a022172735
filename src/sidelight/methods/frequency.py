"""FD-CMKD: low and high frequencies of the fused embeddings, compared apart, with a classifier shared by both sides."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.losses.frequency import Reduction, Split, band_projections, frequency_distance
from sidelight.methods.distillation import DistillationLoss, Teacher
from sidelight.methods.ranges import NON_NEGATIVE
from sidelight.networks.network import Network, Output
from sidelight.tasks import Task

BANDS = ("low", "high")


class FDCMKD(DistillationLoss):
    """Low and high frequencies of the fused embeddings along their channels, compared apart.

    |n(lo_s) − n(lo_t)|² + |ℓ(n(hi_s)) − ℓ(n(hi_t))|² (mean over rows), n(v) = v / |v| and ℓ(v) = sign(v) log(1 + |v|)
    (`sidelight.losses.frequency_distance`), lo and hi the lower and upper half of a Fourier transform along the
    channels, without its bin 0. A classifier for each band (ReLU, linear), shared by student and teacher, is trained by
    the task loss on the band of both ("classes"). The task head is deployed, not the classifiers.

    Only a copy of the released code could be read, and the abstract, which numbers no equation. Its mean runs
    over channels too (`reduction=mean`), which makes the loss all but vanish; its scale loss is n alone. The order of
    channels carries no frequency: `split=random`, two halves of a random basis, is the control. There both networks
    learn from each other and the best of three heads is scored; here the teacher is fixed. Unlabelled rows have the two
    distances. In a segmentation positions are rows, and there are no classifiers (our choice).

    Args:
        split: "fft", or "random" for the control.
        reduction: over channels, "sum" or "mean" (as released).
    """

    stackable = True
    paper = "FD-CMKD, AAAI 2026, arXiv 2511.19887"
    ranges = {"weight": NON_NEGATIVE}
    auxiliary = ("classes",)
    projections: Tensor

    def __init__(self, split: Split = "fft", reduction: Reduction = "sum", weight: float = 1.0):
        super().__init__()
        self.validate_settings(weight=weight)
        for name, value, known in (("split", split, ("fft", "random")), ("reduction", reduction, ("sum", "mean"))):
            if value not in known:
                raise ConfigError(f"options.fdcmkd.{name}: expected {known[0]!r} or {known[1]!r}, not {value!r}.")
        self.split, self.reduction, self.weight = split, reduction, weight
        self.classifiers = nn.ModuleList()

    def prepare(self, student: Network, teacher: Teacher, rows: Batch, task: Task) -> None:
        width = teacher.outputs.sample.fused.shape[1]
        if width < 4:
            raise ConfigError(f"fdcmkd needs embeddings of 4 channels or more, not {width}: set network.width higher.")
        self.register_buffer("projections", band_projections(width, self.split))
        if task.kind != "segmentation":
            for _ in BANDS:
                self.classifiers.append(nn.Sequential(nn.ReLU(), nn.Linear(width, task.outputs)))

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> dict[str, Tensor]:
        s, t, valid = student.fused, teacher.fused.detach(), batch.valid
        if s.ndim == 4:
            valid = None if valid is None else valid[:, None, None].expand(-1, *s.shape[2:]).flatten()
            s, t = (x.movedim(1, -1).flatten(0, -2) for x in (s, t))
        terms, classes = {}, []
        for i, band in enumerate(BANDS):
            ours, theirs = s @ self.projections[i].to(s), t @ self.projections[i].to(t)
            terms[band] = frequency_distance(ours, theirs, band == "high", self.reduction, valid)
            for x in (ours, theirs) if self.classifiers else ():
                classes.append(task.loss(self.classifiers[i](x), batch.target, batch.counted))
        return terms | ({"classes": torch.stack(classes).sum()} if classes else {})
