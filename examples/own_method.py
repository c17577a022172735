"""A method of your own: one class, one registry line, and the checks that every method has to pass.

python examples/own_method.py                                              # check it, then compare
sidelight run phone-watch --methods huber --import examples/own_method.py  # the same study from the command line
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

import sidelight as sl
from sidelight.data.batch import Batch
from sidelight.methods import METHODS, DistillationLoss
from sidelight.networks.network import Output
from sidelight.tasks import Task
from sidelight.testing import check_method


class Huber(DistillationLoss):
    """Huber distance between the predictions of teacher and student.

    Args:
        delta: where the squared part ends.
    """

    paper = "Huber 1964"

    def __init__(self, delta: float = 1.0, weight: float = 1.0):  # options.huber.delta=2
        super().__init__()
        self.delta, self.weight = delta, weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return F.huber_loss(student.prediction, teacher.prediction, delta=self.delta)


METHODS["huber"] = Huber


if __name__ == "__main__":
    check_method("huber")
    study = sl.compare("phone-watch", methods=["huber"], seeds=1, label_fraction=[0.2], output="runs/huber")
    study.print()
