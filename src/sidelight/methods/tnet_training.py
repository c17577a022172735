"""Trains T-Nets, which predict a teacher's privileged features from its available ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sidelight.data.batch import Batch
from sidelight.losses.common import mean_over_rows, zero_padding
from sidelight.losses.distribution import gaussian_mmd
from sidelight.losses.pointwise import squared_error
from sidelight.methods.base import Method, TrainState
from sidelight.methods.teacher_outputs import TeacherOutputs
from sidelight.networks.tokens import pool
from sidelight.tasks import Task
from sidelight.utils.precision import full_precision


class Hallucination(Method):
    """Trains T-Nets, which map the available features of a trained teacher to its privileged features.

    The loss of a modality is the mean of d(T-Net(available features), privileged features) over the rows that have the
    modality; the target has no gradient (METHODS: PKDOT, 4). T-Nets are trained after the teacher, not beside it, so
    that the feature space is fixed and the teacher's epoch is chosen without them.

    Args:
        tnets: privileged modality -> T-Net.
        outputs: the teacher's outputs on the train rows.
        select_outputs: the teacher's outputs on the select rows.
        task: the task.
        loss: d: "mse", "cosine" or "mmd".
    """

    learns_from = "all"
    reads_labels = False
    stackable = True

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

    def terms(self, batch: Batch, state: TrainState) -> dict[str, Tensor]:
        for tnet in self.tnets.values():
            tnet.get_buffer("trained_steps").add_(1)  # `freeze` refuses a T-Net that was never trained
        return self._distances(self.outputs(batch).features, batch)

    def score(self, select: Batch) -> float:
        """Minus the loss on the teacher's features of the select rows; with an online teacher, a mean over chunks."""
        # A mean over chunks, weighted by their rows, because an online teacher cannot read all select rows at once.
        self.eval()
        total, device = 0.0, next(self.tnets.parameters()).device
        counts = {m: _count_present(select, m) for m in self.tnets}
        with torch.no_grad():
            for chunk in self.select_outputs.batches(select, device):
                distances = self._distances(self.select_outputs(chunk).features, chunk)
                for m, distance in zip(self.tnets, distances.values()):
                    total += float(distance) * (_count_present(chunk, m) / max(counts[m], 1))
        self.train()
        return -total

    def measure(self, select: Batch) -> Tensor:
        # A stack has cached outputs, which need no chunks.
        return torch.stack(list(self._distances(self.select_outputs(select).features, select).values())).sum()

    def score_measured(self, measured: Tensor, select: Batch) -> float:
        return -float(measured)

    def _distances(self, features: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        available = {m: f for m, f in features.items() if m not in self.tnets}
        distances = {}
        for m, tnet in self.tnets.items():
            target = features[m].detach()
            made, rows = tnet(available), batch.rows_with(m)
            if batch.valid is None:
                distances[f"hallucinate {m}"] = _distance(made, target, rows, self.loss)
            else:
                distances[f"hallucinate {m}"] = _padded_distance(made, target, rows, self.loss)
        return distances


def _count_present(batch: Batch, m: str) -> int:
    """The number of rows that have the modality."""
    return int(batch.present[m].sum()) if m in batch.present else len(batch)


@full_precision
def _padded_distance(made: Tensor, real: Tensor, rows: Tensor | None, loss: str) -> Tensor:
    """`_distance` of a batch with padding rows, which keeps its shape: `rows` (B,) says which rows count."""
    assert rows is not None
    if loss == "mse":
        return squared_error(made, real, rows)
    if loss == "mmd":
        return gaussian_mmd(pool(made), pool(real), valid=rows)
    made, real = zero_padding(made, rows), zero_padding(real, rows)
    cosine = nn.functional.cosine_similarity(made, real, dim=1 if made.dim() == 4 else -1)
    return mean_over_rows((1 - cosine).flatten(1).mean(1), rows)


@full_precision
def _distance(made: Tensor, real: Tensor, present: Tensor | None, loss: str) -> Tensor:
    """Distance between hallucinated and real features over the rows that have the modality."""
    if present is not None:
        made, real = made[present], real[present]
    if len(made) == 0:
        return made.sum()  # 0, with a gradient of 0
    if loss == "mse":
        return nn.functional.mse_loss(made, real)
    if loss == "cosine":
        return (1 - nn.functional.cosine_similarity(made, real, dim=1 if made.dim() == 4 else -1)).mean()
    return gaussian_mmd(pool(made), pool(real))
