"""A method of one's own: one class, one registry line, and the checks that every method has to pass.

python examples/own_method.py
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

import sidelight as sl
from sidelight.data.batch import Batch
from sidelight.methods import METHODS, Term
from sidelight.networks.network import Output
from sidelight.tasks import Task


class Huber(Term):
    """Huber distance between the predictions of teacher and student."""

    paper = "an example"

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return F.huber_loss(student.prediction, teacher.prediction)


METHODS["huber"] = Huber

if __name__ == "__main__":
    study = sl.compare("phone-watch", methods=["huber"], seeds=1, label_groups=[0.2], jobs=1, output="runs/huber")
    study.print()
