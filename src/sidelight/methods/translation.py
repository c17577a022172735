"""MT-Net: privileged rows are translated from available ones, and both are read as if they were there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from sidelight.config import Config
from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.methods.base import Method, TrainState
from sidelight.methods.context import TrainingContext
from sidelight.methods.multi_stage import MultiStageMethod
from sidelight.methods.ranges import FROM_0
from sidelight.networks.network import Network
from sidelight.networks.translation import TranslationNetwork
from sidelight.tasks import Task


class Translated(Method):
    """L = L_task(student) + Σ_m |G_m(x) − x_m|₁, the absolute difference a mean over the rows that have m.

    G_m(x) is what the slot's encoder reads in the student, so the task loss trains the translation too.
    """

    learns_from = "all"

    def __init__(self, student: Network, task: Task, weight: float):
        super().__init__(task)
        self.student = student
        self.weights = {f"translate {m}": weight for m in student.hallucinators}

    def terms(self, batch: Batch, clock: TrainState) -> dict[str, Tensor]:
        network = self.student
        features, shown, losses = network.encode_inputs(batch)
        for m, slot in network.hallucinators.items():
            assert isinstance(slot, TranslationNetwork)
            made = slot.translate(shown)
            features[m] = slot.encode_row(made)
            losses[f"translate {m}"] = _difference(made, batch, m)
        prediction = network.forward_head(network.fusion(features))
        return {"task": self.task.loss(prediction, batch.target, batch.labelled)} | losses

    def shared(self) -> list[Parameter]:
        slots = [slot for slot in self.student.hallucinators.values() if isinstance(slot, TranslationNetwork)]
        return [p for slot in slots for p in slot.decoder.parameters()]

    def export(self) -> Network:
        return self.student


def _difference(made: Tensor, batch: Batch, m: str) -> Tensor:
    """Mean absolute difference over the rows that have the modality and their valid steps."""
    real = batch.inputs[m]
    made = made[:, : real.shape[1]]  # a batch may be padded to its own longest row
    apart = (made - real).abs()
    if m in batch.lengths:
        valid = torch.arange(made.shape[1], device=made.device) < batch.lengths[m].unsqueeze(1)
        each = (apart.mean(2) * valid).sum(1) / valid.sum(1).clamp(min=1)
    else:
        each = apart.flatten(1).mean(1)
    there = batch.present.get(m)
    return each.mean() if there is None else (each * there).sum() / there.sum().clamp(min=1)


class MTNet(MultiStageMethod):
    """Translation at sample level: privileged rows are made from available ones, then classified together with them.

    One stage after the teacher, whose encoders, fusion and head it begins with: both tasks are learnt at once.
    Liu et al. is adversarial; our translation minimises the absolute difference of standardised rows, and its generator
    is an encoder with a decoder of two layers; no numbered equation is cited. Vectors and signals only.

    Args:
        weight: of the translation beside the task loss.
    """

    tasks = ("classification", "regression")
    instead = "it makes whole rows, which it can of vectors and signals, not of images; use 'mers'"
    paper = "Liu et al., TIFS 2021"
    stages = ("teacher", "student")
    hallucinates = "encoder"
    ranges = {"weight": FROM_0}

    @classmethod
    def check_experiment(cls, name: str, config: Config, task: Task, shapes: Mapping[str, Sequence[int]]) -> None:
        for m in config.privileged:
            if len(shapes[m]) >= 3:
                raise ConfigError(
                    f"method {name!r} makes whole rows of the privileged modalities, which it can of vectors and "
                    f"signals, but {m!r} is images: use 'mers', which makes their features."
                )

    @classmethod
    def build(cls, context: TrainingContext, weight: float = 1.0) -> Method:
        cls.within(weight=weight)
        start = context.trained([*context.available, *context.privileged])
        student = context.student(start, context.translation_networks(start))
        return Translated(student, context.task, weight)
