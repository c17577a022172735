"""MST-Distill: a gate sends every row to one of four specialised teachers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sidelight.config import Config
from sidelight.data.batch import Batch
from sidelight.methods.base import Method, TrainState
from sidelight.methods.context import TrainingContext
from sidelight.methods.masked_teachers import CoTraining, MaskTraining, Specialists, distances, flatten_positions
from sidelight.methods.multi_stage import MultiStageMethod, require_privileged_images
from sidelight.methods.ranges import NON_NEGATIVE, POSITIVE, Range
from sidelight.methods.teacher_outputs import TeacherOutputs
from sidelight.networks.hallucination import freeze
from sidelight.networks.network import Network, Output
from sidelight.tasks import Regression, Task
from sidelight.utils.precision import full_precision, in_full_precision

Gate = Literal["loss", "soft", "released"]
Spread = Literal["kl", "cv"]
NUM_TEACHERS = 4
ONE_TO_FOUR = Range("a whole number from 1 to 4", lambda v: v in (1, 2, 3, 4))
MULTIPLE_OF_3 = Range("0, or a multiple of 3", lambda v: v >= 0 and v % 3 == 0)


@full_precision
def load_balance(gates: Tensor, spread: Spread = "kl") -> Tensor:
    """How unevenly a gate spreads rows over E experts: 0 where each has the same share.

    "kl": KL(u ‖ ḡ) / E, ḡ = mean_i g_i, u uniform (the released code's mean over experts). "cv": the unbiased standard
    deviation of Σ_i g_i over its mean.

    Args:
        gates: (B, E) probabilities.
        spread: which of the two.

    Returns:
        A scalar, 0 for no row.
    """
    if len(gates) == 0:
        return gates.sum()
    if spread == "cv":
        load = gates.sum(0)
        return load.std() / load.mean()
    share = gates.mean(0)
    return -(share.clamp(min=torch.finfo(share.dtype).tiny).log() + math.log(len(share))).sum() / len(share) ** 2


class Routing(Method):
    """The student learns from the specialists to which a gate sends its rows; `MST` says what is minimised.

    Args:
        student: the deployed network.
        specialists: the trained specialists; they are frozen.
        task: the task.
        gate: how the gate learns.
        k: how many specialists teach a row.
        temperature: T.
        spread: the measure of `load_balance`.
        decay: whether the weights decay as released.
    """

    learns_from = "all"

    def __init__(
        self,
        student: Network,
        specialists: Specialists,
        task: Task,
        *,
        gate: Gate,
        k: int,
        temperature: float,
        spread: Spread,
        decay: bool,
    ):
        super().__init__(task)
        self.student, self.specialists = student, specialists
        freeze(specialists.teachers)
        inputs = int(student.fusion.out_dim) if isinstance(task, Regression) else task.outputs  # type: ignore[arg-type]
        self.gate = nn.Sequential(nn.Linear(inputs, 2 * inputs), nn.Linear(2 * inputs, NUM_TEACHERS))
        self.kind, self.k, self.temperature, self.spread, self.decay = gate, k, temperature, spread, decay
        joint = specialists.outputs["joint"]
        assert isinstance(joint, TeacherOutputs)
        self.reads = tuple(dict.fromkeys([*student.reads, *joint.reads]))

    def terms(self, batch: Batch, state: TrainState) -> dict[str, Tensor]:
        output: Output = self.student(batch)
        terms = {"task": self.task.loss(output.prediction, batch.target, batch.labelled)} | output.losses
        with in_full_precision(output.prediction.device):
            student = output.to_float32()
            with torch.no_grad():
                teachers = self.specialists(batch)
            pixels = student.prediction[0, 0].numel()  # 1 without a map
            taught = self.specialists.teaches(batch).repeat_interleave(pixels, dim=0)
            logits = self._logits(student)
            gates = logits.masked_fill(~taught, -torch.inf).softmax(1)
            apart = [distances(student.prediction, t, self.task, self.temperature) for t in teachers]
            weights = gates if self.kind == "soft" else self._route(gates, taught)
            self.logged = dict(zip((f"routed to {n}" for n in self.specialists.names), weights.detach().mean(0)))
            kl_scale, balance_scale = self._scales(state.epoch)
            terms["distil"] = (weights * torch.stack(apart, dim=1)).sum(1).mean() * kl_scale
            terms["balance"] = load_balance(gates[taught.all(1)], self.spread) * balance_scale
            if self.kind == "loss":
                terms["gate"] = self._gate_loss(logits, teachers, batch, taught)
        return terms

    def _logits(self, student: Output) -> Tensor:
        """(rows and pixels, 4), from the student's logits; in a regression from its embedding."""
        read = student.embedding if isinstance(self.task, Regression) else flatten_positions(student.prediction)
        logits: Tensor = self.gate(read if self.kind == "released" else read.detach())
        return logits

    def _route(self, gates: Tensor, taught: Tensor) -> Tensor:
        """(…, 4), 1 / k for the k specialists of the largest gates, among those that teach the row."""
        best = gates.detach().topk(self.k, dim=1).indices
        chosen = torch.zeros_like(taught).scatter(1, best, True) & taught
        shares: Tensor = chosen / chosen.sum(1, keepdim=True).to(gates)
        return shares

    def _gate_loss(self, logits: Tensor, teachers: list[Tensor], batch: Batch, taught: Tensor) -> Tensor:
        """Cross-entropy of the gate against the specialist with the lowest label loss of each row or pixel."""
        said = [label_losses(t, batch.target, batch.labelled, self.task) for t in teachers]
        each = torch.stack([losses for losses, _ in said], dim=1).masked_fill(~taught, torch.inf)
        known = said[0][1]
        per_row = F.cross_entropy(logits.masked_fill(~taught, -1e9), each.argmin(1), reduction="none")
        return (per_row * known).sum() / known.sum().clamp(min=1)

    def _scales(self, epoch: int) -> tuple[float, float]:
        """What the weights of distillation and of balance have become: ½ after epochs 0, 30, …, 0.9 after 0, 10, …"""
        if not self.decay:
            return 1.0, 1.0
        return 0.5 ** math.ceil(epoch / 30), 0.9 ** math.ceil(epoch / 10)

    def deployed_network(self) -> Network:
        return self.student


@full_precision
def label_losses(prediction: Tensor, target: Tensor, labelled: Tensor, task: Task) -> tuple[Tensor, Tensor]:
    """The loss of every row or pixel, and whether it has a label.

    Cross-entropy; in a regression the squared error in units of the targets' spread, over the targets that a row has.

    Args:
        prediction: (B, C), (B, C, H, W) or (B, K).
        target: (B,), (B, H, W) or (B, K).
        labelled: (B,) bool.
        task: the task.

    Returns:
        (rows and pixels,) and (rows and pixels,) bool.
    """
    if isinstance(task, Regression):
        known = labelled[:, None] & target.isfinite()
        scale = torch.tensor(task.scale, dtype=prediction.dtype, device=prediction.device)
        error = ((task.to_target_units(prediction) - target) / scale).square().where(known, 0.0)
        return error.sum(1) / known.sum(1).clamp(min=1), known.any(1)
    codes = target.long().where(labelled.view(-1, *[1] * (target.dim() - 1)), -1).flatten()
    return F.cross_entropy(flatten_positions(prediction), codes, ignore_index=-1, reduction="none"), codes >= 0


class MST(MultiStageMethod):
    """Mixture of specialised teachers: masks bend two teachers towards the student, and a gate chooses for each row.

    1. Co-training: a joint teacher, one on the privileged modalities alone and the student learn the task and from one
    another (`CoTraining`). 2. Masks: teachers and student are frozen; a mask on the features and one on the embedding
    of each teacher are trained by T² KL(student ‖ teacher), which gives four specialists (`MaskTraining`). 3. Student:
    a gate g, linear C → 2C → 4 without an activation on the student's logits, sends each row to k specialists:

        L = CE + w_kl · (1/k) Σ_{top k of g} T² KL(specialist ‖ student) + w_lb · LB(g)

    LB is `load_balance`. Only the paper's abstract could be read, so the formulas are those of the released code, which
    numbers no equation. There experts are picked by their number, so that the gate has no gradient but LB's and its
    routing stays noise (`gate=released`; LB's gradient enters the student too). By default the gate learns which
    specialist has the lowest label loss in a row; `gate=soft` weighs all four by g. As released, w_kl halves after
    epochs 0, 30, 60, … and w_lb falls by a tenth after 0, 10, 20, … (`decay`). In the released code the second masked
    teacher of a network runs with both masks; here each has its own, as in its training.

    Two points are ours: the student goes on from its co-training; a specialist of the privileged teacher teaches
    the rows that have a privileged modality, and LB counts the rows that all four teach. Unlabelled rows take part in
    all but CE and the gate's loss. The record of the training holds the share of rows that went to each (`routed to
    …`). In a regression squared errors replace KL divergences, and the gate reads the fused embedding; in a
    segmentation each pixel is routed.
    """

    paper = "MST-Distill, ACM MM 2025, arXiv 2507.07015"
    online = True
    stages = ("co-training", "masks", "student")
    ranges = {
        "k": ONE_TO_FOUR,
        "temperature": POSITIVE,
        "weight": NON_NEGATIVE,
        "balance": NON_NEGATIVE,
        "mask_width": MULTIPLE_OF_3,
    }

    @classmethod
    def check_experiment(cls, name: str, config: Config, task: Task, shapes: Mapping[str, Sequence[int]]) -> None:
        require_privileged_images(name, config, task, shapes)

    @classmethod
    def build(
        cls,
        context: TrainingContext,
        *,
        gate: Gate = "loss",
        k: int = 1,
        temperature: float = 4.0,
        weight: float = 1.0,
        balance: float = 1.0,
        spread: Spread = "kl",
        decay: bool = True,
        mask_width: int = 12,
    ) -> Method:
        """Train teachers and student together, then the masks, and assemble the student and its gate.

        Args:
            context: the rows, networks and settings of the job.
            gate: "loss": it learns each row's specialist of lowest label loss; "soft": all specialists teach, weighed
                by it; "released": it learns to balance the load alone.
            k: how many specialists teach a row (not of a soft gate).
            temperature: T of the softened predictions.
            weight: w_kl, the weight of the distillation.
            balance: w_lb, the weight of the load balance.
            spread: the measure of the load balance: "kl" or "cv".
            decay: whether w_kl and w_lb decay as released.
            mask_width: the width of a mask's tokens, a multiple of 3; 0: ⌊channels / 6⌋ · 3 as released (67 million
                weights for 512 channels).

        Raises:
            ConfigError: a setting outside of its range.
        """
        cls.validate_settings(k=k, temperature=temperature, weight=weight, balance=balance, mask_width=mask_width)
        task = context.task
        networks = {
            "joint": context.network([*context.available, *context.privileged]),
            "privileged": context.network(context.privileged),
            "student": context.network(context.available),
        }
        context.fit(CoTraining(networks, task, temperature), "co-training")
        student = networks.pop("student")
        for network in networks.values():
            freeze(network)
        outputs = {name: context.teacher_outputs(network) for name, network in networks.items()}
        of_select = {
            name: context.teacher_outputs(network, "select")
            for name, network in (*networks.items(), ("student", student))
        }
        context.seed()
        specialists = Specialists(networks, outputs, mask_width)
        masks = MaskTraining(specialists, context.teacher_outputs(student), of_select, task, temperature)
        context.fit(masks, "masks")
        freeze(specialists.teachers)
        specialists.remember(context.rows())
        context.seed()
        method = Routing(
            student, specialists, task, gate=gate, k=k, temperature=temperature, spread=spread, decay=decay
        )
        method.weights = {"distil": weight, "balance": balance}
        return method
