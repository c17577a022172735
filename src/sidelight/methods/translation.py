"""MT-Net: translates available inputs into privileged inputs, and classifies both together."""

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
from sidelight.methods.ranges import NON_NEGATIVE
from sidelight.networks.network import Network
from sidelight.networks.translation import TranslationNetwork
from sidelight.tasks import Task
from sidelight.utils.precision import full_precision


class SampleTranslation(Method):
    """L = L_task(student) + λ Σ_m |G_m(x) − x_m|₁, where the difference is a mean over the rows that have m.

    The encoder of a privileged modality reads G_m(x) in the student, so the task loss trains the translation too.

    Args:
        student: the network whose slots are `TranslationNetwork`s.
        task: the task.
        weight: λ.
    """

    learns_from = "all"

    def __init__(self, student: Network, task: Task, weight: float):
        super().__init__(task)
        self.student = student
        self.weights = {f"translate {m}": weight for m in student.hallucinators}

    def terms(self, batch: Batch, state: TrainState) -> dict[str, Tensor]:
        network = self.student
        features, inputs, losses = network.encode_inputs(batch)
        for m, slot in network.hallucinators.items():
            assert isinstance(slot, TranslationNetwork)
            translated = slot.translate(inputs)
            features[m] = slot.encode_row(translated)
            losses[f"translate {m}"] = _absolute_difference(translated, batch, m)
        prediction = network.forward_head(network.fusion(features))
        return {"task": self.task.loss(prediction, batch.target, batch.labelled)} | losses

    def shared_parameters(self) -> list[Parameter]:
        # The last parameters that the translation loss reaches; it does not depend on the fusion.
        parameters: list[Parameter] = []
        for slot in self.student.hallucinators.values():
            assert isinstance(slot, TranslationNetwork)
            parameters += slot.decoder.parameters()
        return parameters

    def deployed_network(self) -> Network:
        return self.student


@full_precision
def _absolute_difference(translated: Tensor, batch: Batch, m: str) -> Tensor:
    """Mean absolute difference over the valid time steps of the rows that have the modality."""
    real = batch.whole_inputs(m)
    # A batch may be padded to the longest of its own rows, the translation to the longest of all rows.
    translated = translated[:, : real.shape[1]]
    difference = (translated - real).abs()
    if m in batch.lengths:
        valid = torch.arange(translated.shape[1], device=translated.device) < batch.lengths[m].unsqueeze(1)
        per_row = (difference.mean(2) * valid).sum(1) / valid.sum(1).clamp(min=1)
    else:
        per_row = difference.flatten(1).mean(1)
    present = batch.present.get(m)
    if present is None:
        return per_row.mean()
    return (per_row * present).sum() / present.sum().clamp(min=1)


class MTNet(MultiStageMethod):
    """Translation at sample level: privileged inputs are generated from available ones, and both are classified.

    One stage after the teacher: the student starts from the teacher's encoders, fusion and head, and learns translation
    and classification at once. Liu et al. train adversarially; our translation minimises the absolute difference of
    standardised inputs, and its generator is an encoder with a decoder of two layers. The paper numbers no equation for
    it. Privileged modalities must be vectors or signals.

    Args:
        weight: λ, the weight of the translation beside the task loss.
    """

    tasks = ("classification", "regression")
    alternative = "it generates whole inputs, which it supports for vectors and signals, not for images; use 'mers'"
    paper = "Liu et al., TIFS 2021"
    stages = ("teacher", "student")
    hallucinates = "encoder"
    ranges = {"weight": NON_NEGATIVE}

    @classmethod
    def check_experiment(cls, name: str, config: Config, task: Task, shapes: Mapping[str, Sequence[int]]) -> None:
        for m in config.privileged:
            if len(shapes[m]) >= 3:
                raise ConfigError(
                    f"method {name!r} generates the inputs of privileged modalities, which it supports for vectors and "
                    f"signals, but {m!r} holds images: use 'mers', which generates features."
                )

    @classmethod
    def build(cls, context: TrainingContext, weight: float = 1.0) -> Method:
        cls.validate_settings(weight=weight)
        start = context.trained_network([*context.available, *context.privileged])
        student = context.student(start, context.translation_networks(start))
        return SampleTranslation(student, context.task, weight)
