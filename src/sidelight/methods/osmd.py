"""One-stage modality distillation (OS-MD): trains a hallucination branch and its fusion in one optimisation."""

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
from sidelight.methods.distillation import tnet_parameters
from sidelight.methods.multi_stage import MultiStageMethod
from sidelight.methods.ranges import INT_FROM_2
from sidelight.methods.teacher_outputs import TeacherOutputs, rows_where, select_rows
from sidelight.networks.build import feature_shape
from sidelight.networks.fusions import CrossTranslation
from sidelight.networks.hallucination import TNet
from sidelight.networks.network import Network, apply_head_dropout
from sidelight.networks.tokens import pool
from sidelight.tasks import Regression, Task
from sidelight.utils.precision import full_precision

JDN = Literal["joint", "none", "feature", "relation"]
CTN = Literal["cross", "none", "autoencoder"]


class Adaptation(nn.Module):
    """L_JDN: compares hallucinated features and their prediction with the outputs of the privileged branch.

    "joint" is mean_m MMD²(φ_s, φ_p) + mean KL(p_p ‖ p_s) (eq. 7). A separate fusion and head predict p_s; they start
    from those of the branch. "feature" is mean_m |φ_s − φ_p|², "relation" is mean_m RKD. Features of a modality are
    compared over the rows that have it, predictions over the rows that have any privileged modality; without such rows
    the value is 0.

    Args:
        kind: "joint", "feature" or "relation".
        branch: the network trained on the privileged modalities alone.
        outputs: the outputs of the branch on the training rows.
        task: the task.
        positions: how many positions of sequences and maps MMD compares.
    """

    def __init__(self, kind: JDN, branch: Network, outputs: TeacherOutputs, task: Task, positions: int):
        super().__init__()
        self.kind, self.outputs, self.task, self.positions = kind, outputs, task, positions
        if kind == "joint":
            self.fusion, self.head = copy.deepcopy(branch.fusion), copy.deepcopy(branch.head)

    def forward(self, made: Mapping[str, Tensor], batch: Batch) -> Tensor:
        outputs = self.outputs(batch)
        losses, has_any = [], torch.zeros_like(batch.labelled)
        for m, real in outputs.features.items():
            present = batch.present.get(m, torch.ones_like(has_any))
            has_any = has_any | present
            rows = rows_where(present)
            losses.append(self.distance(select_rows(made[m], rows), select_rows(real, rows)))
        value = torch.stack(losses).mean()
        if self.kind != "joint":
            return value
        hallucinated = {m: made[m] for m in outputs.features}
        return value + self.conditional(hallucinated, outputs.prediction, rows_where(has_any))

    def distance(self, made: Tensor, real: Tensor) -> Tensor:
        """Compute the distance between hallucinated and real features (B, T, D) or (B, D, h, w) of the same rows."""
        if self.kind == "feature":
            return squared_error(made, real)
        if self.kind == "relation":
            return rkd(pool(made), pool(real))
        channels = 1 if made.dim() == 4 else 2
        # Vectors have one position per row, and MMD compares all of them.
        is_vector = made.shape[1:].numel() == made.shape[channels]
        samples = None if is_vector else self.positions
        made, real = sampled_positions(made, real, samples=samples, channels=channels)
        return gaussian_mmd(made, real)

    def conditional(self, made: Mapping[str, Tensor], real: Tensor, rows: Tensor | None) -> Tensor:
        """Compute eq. 5 as a mean over rows (and pixels) and classes; in a regression, the mean squared error.

        Args:
            made: privileged modality -> hallucinated features.
            real: the prediction of the branch for the same rows.
            rows: the positions of the rows to compare; None for all.
        """
        prediction = select_rows(self.head(apply_head_dropout(self.fusion, self.fusion(made))), rows)
        real = select_rows(real, rows)
        if isinstance(self.task, Regression):
            return squared_error(prediction, real)
        return soft_label_kl(prediction, real, 1.0)


class OSMD(MultiStageMethod):
    """One-stage modality distillation: hallucination by joint adaptation and fusion by cross translation, at once.

    The ordinary encoder φ_o and the hallucination encoder φ_s start from a network trained on the available modalities.
    φ_p and its head, trained on the privileged modalities alone, are frozen:

        L = L_task + α L_JDN + β L_CTN                              (eq. 9)
        L_JDN = MMD²(φ_s, φ_p) + KL(p_privileged ‖ p_hallucinated)       (eq. 2, 5, 7: `Adaptation`)
        L_CTN = MSE(T₁(φ_s), T₁(φ_o)) + MSE(T₂(φ_s), T₂(φ_o))            (eq. 8, a mean over pairs of modalities)

    The fusion is `CrossTranslation`: both blocks transform the features of every modality, and a 1 × 1 convolution
    fuses the results. The paper keeps L_JDN and L_CTN an order of magnitude below L_task and calls that GradNorm; it is
    `balance.kind=target-ratio`, the default here. `balance.kind=gradnorm` compares gradients at the T-Nets of φ_s, on
    which every term depends.

    Our choices where the paper gives no detail: φ_s ends in a T-Net to the shape of φ_p, one for each privileged
    modality; neither side of L_CTN is detached; MMD compares a random sample of the positions of sequences and maps,
    drawn at every step. Unlabelled rows contribute to L_JDN and L_CTN. Rows without a privileged modality contribute to
    L_CTN, and to L_JDN with the modalities that they have.
    """

    paper = "Wei et al. 2023, arXiv 2309.08204"
    stages = ("branches", "student")
    hallucinates = "encoder"
    learns_from = "all"
    balance = "target-ratio"
    ranges = {"positions": INT_FROM_2}

    def __init__(self, student: Network, task: Task, adaptation: Adaptation | None, decoders: Mapping[str, TNet]):
        super().__init__(task)
        self.student, self.adaptation = student, adaptation
        self.decoders = nn.ModuleDict(dict(decoders))
        self.reads = tuple(dict.fromkeys([*student.reads, *(adaptation.outputs.reads if adaptation else ())]))

    @classmethod
    def check_experiment(cls, name: str, config: Config, task: Task, shapes: Mapping[str, Sequence[int]]) -> None:
        if task.kind == "segmentation" and all(len(shapes[m]) != 3 for m in config.privileged):
            raise ConfigError(
                f"method {name!r} trains a branch on the privileged modalities alone, and a segmentation branch needs "
                f"images; {', '.join(config.privileged)} has none: use 'pkdot', or name privileged images."
            )

    @classmethod
    def build(cls, context: TrainingContext, *, jdn: JDN = "joint", ctn: CTN = "cross", positions: int = 256) -> Method:
        """Train the two branches, and assemble the student.

        Args:
            context: the rows, networks and settings of the job.
            jdn: "joint" is the paper's loss; its ablations are "none" (−JDN), "feature" (−JDN+FKD: squared error of
                the features) and "relation" (−JDN+RKD: 25 · RKD-D + 50 · RKD-A of the pooled features).
            ctn: "cross" is the paper's fusion; its ablations fuse by concatenation: "none" (−CTN) without a loss,
                "autoencoder" (−CTN+AE) with separate encoder-decoders that translate φ_s into φ_o (T-Nets, squared
                error).
            positions: how many positions of sequences and maps MMD compares in a batch.

        Raises:
            ConfigError: a setting outside of its range.
        """
        cls.validate_settings(positions=positions)
        ordinary, branch = context.trained_network(context.available), context.trained_network(context.privileged)
        slots = context.hallucination_networks(ordinary, branch)
        student = context.student(ordinary, slots, "cross-translation" if ctn == "cross" else "concat")
        adaptation = None
        if jdn != "none":
            adaptation = Adaptation(jdn, branch, context.teacher_outputs(branch), context.task, positions)
        decoders: dict[str, TNet] = {}
        if ctn == "autoencoder":
            shapes = feature_shape(student)
            context.seed()
            hallucinated = {m: shapes[m] for m in slots}
            for m in student.reads:
                decoders[m] = TNet(hallucinated, shapes[m], slot=m)
        return cls(student, context.task, adaptation, decoders)

    def terms(self, batch: Batch, state: TrainState) -> dict[str, Tensor]:
        network = self.student
        features, _, losses = network.encode(batch)
        if self.adaptation is not None:
            losses["jdn"] = self.adaptation(features, batch)
        if isinstance(network.fusion, CrossTranslation):
            made = network.fusion.transform(features)
            # Every hallucinated modality is compared with every available one.
            pairs = product(network.hallucinators, network.reads)
            losses["ctn"] = torch.stack([cross_translation(made[s], made[o]) for s, o in pairs]).mean()
            fused = network.fusion.join(made)
        else:
            fused = network.fusion(features)
        if self.decoders:
            errors = [_squared_difference(decode(features), features[o]) for o, decode in self.decoders.items()]
            losses["ctn"] = torch.stack(errors).mean()
        prediction = network.forward_head(fused)
        return {"task": self.task.loss(prediction, batch.target, batch.labelled)} | losses

    def shared_parameters(self) -> list[Parameter]:
        return tnet_parameters(self.student)

    def deployed_network(self) -> Network:
        return self.student


@full_precision
def _squared_difference(made: Tensor, real: Tensor) -> Tensor:
    """Mean squared difference, with a gradient to both."""
    return nn.functional.mse_loss(made, real)
