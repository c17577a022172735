"""Teachers and student that learn from one another, and masks that specialise the teachers (MST-Distill)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sidelight.data.batch import Batch
from sidelight.methods.base import Method, TrainState
from sidelight.methods.teacher_outputs import CachedOutputs, CachedTensors, TeacherOutputs, rows_where, select_rows
from sidelight.networks.attention import Attention
from sidelight.networks.build import feature_shape
from sidelight.networks.network import Network, Output, predict_in_chunks
from sidelight.networks.tokens import num_channels, pool
from sidelight.tasks import Regression, Task
from sidelight.utils.precision import full_precision, in_full_precision, to_float32

Layer = Literal["features", "embedding"]
LAYERS: tuple[Layer, ...] = ("features", "embedding")
"""The layers of a teacher that have a mask: what its fusion reads, and what its head reads."""
CHUNK = 256
"""Rows whose masks are computed at a time: attention over channels takes memory."""
HEADS = 3
"""The heads of a mask's self-attention."""


@full_precision
def distances(student: Tensor, teacher: Tensor, task: Task, temperature: float) -> Tensor:
    """T² KL(teacher ‖ student) of softened predictions at every row and pixel; in a regression the squared error.

    Args:
        student: (B, C) or (B, C, H, W), with a gradient.
        teacher: of the same shape, with a gradient too.
        task: the task.
        temperature: T.

    Returns:
        (rows and pixels,).
    """
    s, t = flatten_positions(student), flatten_positions(teacher)
    if isinstance(task, Regression):
        return (s - t).square().mean(1)
    log_p, log_q = (t / temperature).log_softmax(1), (s / temperature).log_softmax(1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1) * temperature**2


def flatten_positions(x: Tensor) -> Tensor:
    """(rows and pixels, C) from (B, C) or (B, C, H, W)."""
    return x if x.dim() == 2 else x.movedim(1, -1).flatten(0, -2)


def rows_with_any(batch: Batch, modalities: Sequence[str]) -> Tensor:
    """(B,) bool, the rows that have at least one of the modalities."""
    present = torch.zeros_like(batch.labelled)
    for m in modalities:
        present = present | batch.present.get(m, torch.ones_like(present))
    return present


class CoTraining(Method):
    """The joint teacher, the privileged one and the student learn the task and from one another.

    Σ_i L_task(i) + Σ_{i ≠ j} T² KL(j ‖ i), in which nothing is fixed; in a regression the squared error in place of the
    KL divergence. The privileged teacher takes part in the rows that have a modality of its own. The epoch is chosen by
    the mean of the three scores (the released code takes the last one).

    Args:
        networks: "joint", "privileged" and "student", with fresh weights.
        task: the task.
        temperature: T.
    """

    learns_from = "all"

    def __init__(self, networks: Mapping[str, Network], task: Task, temperature: float):
        super().__init__(task)
        self.networks, self.temperature = nn.ModuleDict(dict(networks)), temperature

    def terms(self, batch: Batch, state: TrainState) -> dict[str, Tensor]:
        present = rows_with_any(batch, self._network("privileged").reads)
        every = torch.ones_like(present)
        seen = {name: present if name == "privileged" else every for name in self.networks}
        said: dict[str, Tensor] = {}
        terms: dict[str, Tensor] = {}
        for name, network in self.networks.items():
            output: Output = network(batch)
            said[name] = output.prediction
            terms[name] = self.task.loss(output.prediction, batch.target, batch.labelled & seen[name])
            terms |= output.losses
        mutual = []
        for one in said:
            for other in said:
                if one != other:
                    rows = rows_where(seen[one] & seen[other])
                    mutual.append(self._mean_distance(select_rows(said[one], rows), select_rows(said[other], rows)))
        return terms | {"mutual": torch.stack(mutual).sum()}

    def _mean_distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        each = distances(student, teacher, self.task, self.temperature)
        return each.sum() / max(len(each), 1)

    def _network(self, name: str) -> Network:
        network = self.networks[name]
        assert isinstance(network, Network)
        return network

    def score(self, select: Batch) -> float:
        rows = torch.arange(len(select), device=select.index.device)
        scores = []
        for name in self.networks:
            answers = predict_in_chunks(self._network(name), select, rows, self.task.compact_answer)
            scores.append(self.score_measured(answers, select))
        return sum(scores) / len(scores)

    def deployed_network(self) -> Network:
        return self._network("student")


class ChannelMask(nn.Module):
    """A mask in (0, 1) for every channel of a layer, from its output: (B, D) -> (B, D).

    Linear D → D·h, D tokens of width h, a self-attention of three heads, linear h → 1, sigmoid. Of sequences and maps
    it reads the mean (the released code puts a convolution before that of maps).

    Args:
        channels: D.
        width: h, a multiple of 3; 0: ⌊D / 6⌋ · 3, as released, which takes O(D³) weights.
    """

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.width = width or max(channels // 6 * 3, HEADS)
        self.spread = nn.Linear(channels, channels * self.width)
        self.attention, self.out = Attention(self.width, HEADS), nn.Linear(self.width, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.spread(x).unflatten(1, (-1, self.width))
        mask: Tensor = self.out(self.attention(tokens, tokens))[:, :, 0].sigmoid()
        return mask


class SpecialisedTeacher(nn.Module):
    """The prediction of a finished network, one of whose layers is multiplied by a mask of its channels.

    Args:
        network: the network, whose fusion and head are shared with it.
        layer: "features" (what the fusion reads) or "embedding" (what the head reads).
        width: as in `ChannelMask`.
    """

    def __init__(self, network: Network, layer: Layer, width: int):
        super().__init__()
        self.fusion, self.head, self.layer = network.fusion, network.head, layer
        self.channels = {m: num_channels(shape) for m, shape in feature_shape(network).items()}
        on_features = layer == "features"
        fused = int(network.fusion.out_dim)  # type: ignore[arg-type]
        self.mask = ChannelMask(sum(self.channels.values()) if on_features else fused, width)

    def forward(self, output: Output) -> Tensor:
        """The prediction, from the network's own outputs for the same rows."""
        if self.layer == "embedding":
            masked = _multiply_channels(output.fused, self.mask(pool(output.fused)))
        else:
            mask = self.mask(torch.cat([pool(output.features[m]) for m in self.channels], dim=1))
            parts = dict(zip(self.channels, mask.split(list(self.channels.values()), dim=1), strict=True))
            masked = self.fusion({m: _multiply_channels(output.features[m], part) for m, part in parts.items()})
        prediction: Tensor = self.head(masked)
        return prediction


def _multiply_channels(x: Tensor, mask: Tensor) -> Tensor:
    """x (B, D), (B, T, D) or (B, D, h, w) times a mask (B, D)."""
    if x.dim() == 4:
        return x * mask[:, :, None, None]
    return x * (mask if x.dim() == 2 else mask[:, None])


class Specialists(nn.Module):
    """Four teachers: the joint and the privileged network, each with a mask on its features or on its embedding.

    Args:
        networks: "joint" and "privileged", frozen.
        outputs: their outputs on the training rows, by the same names.
        width: as in `ChannelMask`.
    """

    def __init__(self, networks: Mapping[str, Network], outputs: Mapping[str, TeacherOutputs], width: int):
        super().__init__()
        self.privileged = networks["privileged"].reads
        self.outputs = nn.ModuleDict(dict(outputs))
        self.teachers, self.names, self.of = nn.ModuleList(), [], []
        for name, network in networks.items():
            for layer in LAYERS:
                self.teachers.append(SpecialisedTeacher(network, layer, width))
                self.names.append(f"{name} {layer}")
                self.of.append(name)
        self.remembered: CachedTensors | None = None

    @torch.no_grad()
    def remember(self, rows: Batch) -> None:
        """Compute the predictions for all training rows once, of networks whose outputs are cached and no maps."""
        joint = self.outputs["joint"]
        if not isinstance(joint, CachedOutputs) or joint.sample.fused.dim() > 2:
            return
        device = next(self.teachers.parameters()).device
        said: list[list[Tensor]] = [[] for _ in self.names]
        read = replace(rows.select_modalities(()), present={})
        for index in torch.split(torch.arange(len(rows)), CHUNK):
            for parts, prediction in zip(said, self(read.index_select(index).to(device)), strict=True):
                parts.append(prediction)
        self.remembered = CachedTensors({name: torch.cat(parts) for name, parts in zip(self.names, said, strict=True)})

    def forward(self, batch: Batch, outputs: Mapping[str, nn.Module] | None = None) -> list[Tensor]:
        """The prediction of every specialist for the rows of a batch.

        Args:
            batch: the rows.
            outputs: the outputs of the networks; by default those on the training rows.
        """
        if outputs is None and self.remembered is not None:
            return list(self.remembered(batch.index).values())
        said = {name: out(batch).to_float32() for name, out in (outputs or self.outputs).items()}
        return [teacher(said[name]) for teacher, name in zip(self.teachers, self.of, strict=True)]

    def teaches(self, batch: Batch) -> Tensor:
        """(B, 4) bool, the rows that each specialist teaches: the joint ones all of them."""
        there = rows_with_any(batch, self.privileged)
        return torch.stack([there if name == "privileged" else torch.ones_like(there) for name in self.of], dim=1)


class MaskTraining(Method):
    """Trains the masks of the specialists alone: T² KL(student ‖ specialist), the student fixed; it reads no labels.

    So every specialist is bent towards what the student can follow. The epoch is chosen by minus the loss on the select
    rows, for all masks at once (in the released code for each).

    Args:
        specialists: the specialists.
        student: the student's outputs on the training rows.
        select: the outputs on the select rows: "joint", "privileged" and "student".
        task: the task.
        temperature: T.
    """

    learns_from = "all"

    def __init__(
        self,
        specialists: Specialists,
        student: TeacherOutputs,
        select: Mapping[str, TeacherOutputs],
        task: Task,
        temperature: float,
    ):
        super().__init__(task)
        self.specialists, self.student, self.temperature = specialists, student, temperature
        self.of_select = nn.ModuleDict(dict(select))
        joint = specialists.outputs["joint"]
        assert isinstance(joint, TeacherOutputs)
        self.reads = tuple(dict.fromkeys([*joint.reads, *student.reads]))

    def terms(self, batch: Batch, state: TrainState) -> dict[str, Tensor]:
        return self._distances(batch, self.student, None)

    def _distances(
        self, batch: Batch, student: nn.Module, outputs: Mapping[str, nn.Module] | None
    ) -> dict[str, Tensor]:
        target = to_float32(student(batch).prediction)
        taught = self.specialists.teaches(batch)
        terms = {}
        for i, said in enumerate(self.specialists(batch, outputs)):
            rows = rows_where(taught[:, i])
            each = distances(select_rows(said, rows), select_rows(target, rows), self.task, self.temperature)
            terms[f"mask {self.specialists.names[i]}"] = each.sum() / max(len(each), 1)
        return terms

    @torch.no_grad()
    def score(self, select: Batch) -> float:
        self.eval()
        total, device = 0.0, next(self.specialists.teachers.parameters()).device
        joint, student = self.of_select["joint"], self.of_select["student"]
        assert isinstance(joint, TeacherOutputs)  # it reads every modality, so its chunks serve all
        teachers = {name: out for name, out in self.of_select.items() if name != "student"}
        with in_full_precision(device):
            for chunk in joint.batches(select, device):
                terms = self._distances(chunk, student, teachers)
                total += float(torch.stack(list(terms.values())).sum()) * len(chunk) / len(select)
        self.train()
        return -total
