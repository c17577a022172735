"""A method of one's own: one class, one registry line, and the checks that every method has to pass.

python examples/own_method.py
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

import sidelight as sl
from sidelight.config import NetworkConfig, TrainingConfig
from sidelight.data.batch import Batch
from sidelight.methods import METHODS, CachedOutputs, Distillation, DistillationLoss, Supervised, Teacher
from sidelight.networks.build import build_network
from sidelight.networks.network import Network, Output, compute_outputs
from sidelight.tasks import Task, make_task
from sidelight.testing import Subject, check_method
from sidelight.training import fit


class Huber(DistillationLoss):
    """Huber distance between the predictions of teacher and student."""

    paper = "an example"

    def __init__(self, delta: float = 1.0, weight: float = 1.0):  # options.huber.delta=2
        super().__init__()
        self.delta, self.weight = delta, weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return F.huber_loss(student.prediction, teacher.prediction, delta=self.delta)


METHODS["huber"] = Huber


def subject() -> Subject:
    """What the checks want: rows, and a fresh method beside a teacher that has learnt them at every call."""
    torch.manual_seed(0)
    hidden, there = torch.randn(24), torch.ones(24, dtype=torch.bool)
    inputs = {"phone": torch.randn(24, 4) + hidden[:, None], "watch": torch.randn(24, 3) + 3 * hidden[:, None]}
    rows = Batch(inputs, (hidden > 0).long(), there, {"phone": there, "watch": there}, torch.arange(24), {})
    task = make_task("classification", ("low", "high"))

    def network(*reads: str) -> Network:
        torch.manual_seed(0)
        return build_network({"phone": (4,), "watch": (3,)}, reads, task.outputs, NetworkConfig(width=8))

    teacher = network("phone", "watch")
    fit(Supervised(teacher, task), rows, rows, TrainingConfig(epochs=40, learning_rate=0.01), seed=0)
    said = compute_outputs(teacher, rows, rows.index)

    def factory(dtype: torch.dtype) -> Distillation:
        teacher = Teacher(CachedOutputs(said).to(dtype))
        return Distillation(network("phone"), teacher, task, {"huber": Huber()}, rows.to(dtype)).to(dtype)

    return Subject(factory, rows, available=("phone",), privileged=("watch",))


if __name__ == "__main__":
    check_method(subject())
    study = sl.compare("phone-watch", methods=["huber"], seeds=1, label_groups=[0.2], output="runs/huber")
    study.print()
