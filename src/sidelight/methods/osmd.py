"""One-stage modality distillation: a hallucination branch and its fusion learnt in one optimisation (OS-MD)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from sidelight.config import Config
from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.losses.distribution import cross_translation, gaussian_mmd, sampled_positions
from sidelight.losses.pointwise import soft_label_kl, squared_error
from sidelight.losses.relational import rkd
from sidelight.methods.base import Method, TrainState
from sidelight.methods.context import TrainingContext
from sidelight.methods.multi_stage import MultiStageMethod
from sidelight.methods.ranges import SEVERAL
from sidelight.methods.teacher_outputs import TeacherOutputs, rows_where, select_rows
from sidelight.networks.build import feature_shape
from sidelight.networks.fusions import CrossTranslation
from sidelight.networks.hallucination import HallucinationNetwork, TNet
from sidelight.networks.network import Network, apply_head_dropout
from sidelight.networks.tokens import pool
from sidelight.tasks import Regression, Task

JDN = Literal["joint", "none", "feature", "relation"]
CTN = Literal["cross", "none", "autoencoder"]


class Adaptation(nn.Module):
    """L_JDN: hallucinated features, and what they predict, against the privileged branch's outputs on the same rows.

    "joint" is mean_m MMD²(φ_s, φ_p) + mean KL(p_p ‖ p_s) (eq. 7); p_s is read out by a head of its own, which begins
    as the branch's fusion and head. "feature" is mean_m |φ_s − φ_p|², "relation" mean_m RKD. A slot m is compared over
    the rows that have m, a prediction over those that have any; where there are none the value is 0.

    Args:
        branch: the network trained on the privileged modalities alone.
        outputs: its outputs on the training rows.
        positions: how many positions of sequences and maps MMD compares.
    """

    def __init__(self, kind: JDN, branch: Network, outputs: TeacherOutputs, task: Task, positions: int):
        super().__init__()
        self.kind, self.outputs, self.task, self.positions = kind, outputs, task, positions
        if kind == "joint":
            self.fusion, self.head = copy.deepcopy(branch.fusion), copy.deepcopy(branch.head)

    def forward(self, made: Mapping[str, Tensor], batch: Batch) -> Tensor:
        losses, some, outputs = [], torch.zeros_like(batch.labelled), self.outputs(batch)
        for m, real in outputs.features.items():
            there = batch.present.get(m, torch.ones_like(some))
            some, rows = some | there, rows_where(there)
            losses.append(self.distance(select_rows(made[m], rows), select_rows(real, rows)))
        value = torch.stack(losses).mean()
        if self.kind != "joint":
            return value
        return value + self.conditional({m: made[m] for m in outputs.features}, outputs.prediction, rows_where(some))

    def distance(self, made: Tensor, real: Tensor) -> Tensor:
        """Between features (B, T, D) or (B, D, h, w) of the same rows."""
        if self.kind == "feature":
            return squared_error(made, real)
        if self.kind == "relation":
            return rkd(pool(made), pool(real))
        channels = 1 if made.dim() == 4 else 2
        samples = None if made.shape[1:].numel() == made.shape[channels] else self.positions  # vectors: every row
        made, real = sampled_positions(made, real, samples=samples, channels=channels)
        return gaussian_mmd(made, real)

    def conditional(self, made: Mapping[str, Tensor], real: Tensor, rows: Tensor | None) -> Tensor:
        """Eq. 5 as a mean over rows (and pixels), every class counted; of values, their mean squared error.

        made: hallucinated features; real: the branch's prediction of the same rows; rows: those that count.
        """
        prediction = select_rows(self.head(apply_head_dropout(self.fusion, self.fusion(made))), rows)
        real = select_rows(real, rows)
        if isinstance(self.task, Regression):
            return squared_error(prediction, real)
        return soft_label_kl(prediction, real, 1.0)


class OSMD(MultiStageMethod):
    """One-stage modality distillation: hallucination by joint adaptation and fusion by cross translation, at once.

    The ordinary encoder φ_o and the hallucination encoder φ_s begin from a network trained on the available modalities;
    φ_p and its head, trained on the privileged ones alone, are fixed:

        L = L_task + α L_JDN + β L_CTN                              (eq. 9)
        L_JDN = MMD²(φ_s, φ_p) + KL(p_privileged ‖ p_hallucinated)       (eq. 2, 5, 7: `Adaptation`)
        L_CTN = MSE(T₁(φ_s), T₁(φ_o)) + MSE(T₂(φ_s), T₂(φ_o))            (eq. 8, a mean over pairs of slots)

    The fusion is `CrossTranslation`: what both blocks make of every slot, and a 1 × 1 convolution. The paper keeps
    L_JDN and L_CTN an order of magnitude below L_task and calls that GradNorm; it is `balance.kind=target-ratio`, the
    default here. `balance.kind=gradnorm` compares gradients on the T-Nets of φ_s, on which every term depends.

    Our reading where the paper is silent: φ_s ends in a T-Net to the shape of φ_p, one for each privileged modality; no
    side of L_CTN is detached; of sequences and maps MMD compares some positions, drawn anew at every step. A row
    without a label is in L_JDN and L_CTN; one without a privileged modality is in L_CTN, and in L_JDN by what it has.
    """

    paper = "Wei et al. 2023, arXiv 2309.08204"
    stages = ("branches", "student")
    hallucinates = "encoder"
    learns_from = "all"
    balance = "target-ratio"
    ranges = {"positions": SEVERAL}

    def __init__(self, student: Network, task: Task, adaptation: Adaptation | None, decoders: Mapping[str, TNet]):
        super().__init__(task)
        self.student, self.adaptation = student, adaptation
        self.decoders = nn.ModuleDict(dict(decoders))
        self.reads = tuple(dict.fromkeys([*student.reads, *(adaptation.outputs.reads if adaptation else ())]))

    @classmethod
    def check_experiment(cls, name: str, config: Config, task: Task, shapes: Mapping[str, Sequence[int]]) -> None:
        if task.kind == "segmentation" and all(len(shapes[m]) != 3 for m in config.privileged):
            raise ConfigError(
                f"method {name!r} trains a branch on the privileged modalities alone, which needs images among them "
                f"where a class per pixel is learnt; {', '.join(config.privileged)} has none: use 'pkdot', or name "
                "privileged images."
            )

    @classmethod
    def build(cls, context: TrainingContext, *, jdn: JDN = "joint", ctn: CTN = "cross", positions: int = 256) -> Method:
        """Train the two branches, and put the networks together.

        Args:
            jdn: "joint" is the paper's; its ablations are "none" (−JDN), "feature" (−JDN+FKD: squared error of the
                features) and "relation" (−JDN+RKD: 25 · RKD-D + 50 · RKD-A of their means).
            ctn: "cross" is the paper's; its ablations fuse by concatenation, "none" (−CTN) with no loss and
                "autoencoder" (−CTN+AE) beside encoder-decoders that share nothing and translate all of φ_s into φ_o
                (T-Nets, squared error).
            positions: how many positions of sequences and maps MMD compares in a batch.
        """
        cls.within(positions=positions)
        ordinary, branch = context.trained(context.available), context.trained(context.privileged)
        slots = context.hallucination_networks(ordinary, branch)
        student = context.student(ordinary, slots, "cross-translation" if ctn == "cross" else "concat")
        adaptation = None
        if jdn != "none":
            adaptation = Adaptation(jdn, branch, context.teacher_outputs(branch), context.task, positions)
        decoders = {}
        if ctn == "autoencoder":
            shapes = feature_shape(student)
            context.seed()
            decoders = {o: TNet({s: shapes[s] for s in slots}, shapes[o], slot=o) for o in student.reads}
        return cls(student, context.task, adaptation, decoders)

    def terms(self, batch: Batch, clock: TrainState) -> dict[str, Tensor]:
        network = self.student
        features, _, losses = network.encode(batch)
        if self.adaptation is not None:
            losses["jdn"] = self.adaptation(features, batch)
        if isinstance(network.fusion, CrossTranslation):
            made = network.fusion.transform(features)
            pairs = [cross_translation(made[s], made[o]) for s, o in product(network.hallucinators, network.reads)]
            losses["ctn"] = torch.stack(pairs).mean()
            fused = network.fusion.join(made)
        else:
            fused = network.fusion(features)
        if self.decoders:
            apart = [nn.functional.mse_loss(decode(features), features[o]) for o, decode in self.decoders.items()]
            losses["ctn"] = torch.stack(apart).mean()
        prediction = network.forward_head(fused)
        return {"task": self.task.loss(prediction, batch.target, batch.labelled)} | losses

    def shared(self) -> list[Parameter]:
        slots = [slot for slot in self.student.hallucinators.values() if isinstance(slot, HallucinationNetwork)]
        return [p for slot in slots for p in slot.tnet.parameters()]

    def export(self) -> Network:
        return self.student
