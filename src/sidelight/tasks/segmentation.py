"""One of C classes for every pixel."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sidelight import metrics
from sidelight.losses.pointwise import soft_label_kl
from sidelight.metrics import Metric
from sidelight.tasks.base import Task
from sidelight.utils.precision import full_precision

if TYPE_CHECKING:
    from sidelight.networks.network import Output


class Segmentation(Task):
    """Cross-entropy over C classes, averaged over the pixels that have one; match is KL of softened logits per pixel.

    prediction: (B, C, H, W) logits. target: (B, H, W) class codes, −1 where a pixel is ignored. A row holds many
    classes, so no two rows are of the same class: `groups` has no meaning.
    """

    name, primary = "segmentation", "miou"
    kind, answers = "segmentation", "pixels"
    stackable = True

    def __init__(self, class_names: tuple[str, ...], temperature: float = 4.0):
        self.class_names, self.outputs, self.temperature = tuple(class_names), len(class_names), temperature

    @full_precision
    def loss(self, prediction: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        known = self._known(target, labelled)  # −1 where a pixel does not count
        total = F.cross_entropy(prediction, known, ignore_index=-1, reduction="sum")
        return total / (known >= 0).sum().clamp(min=1)

    def match(self, student: Tensor, teacher: Tensor) -> Tensor:
        return soft_label_kl(student, teacher, self.temperature)

    def class_codes(self, target: Tensor) -> None:
        return None

    @full_precision
    def teacher_confidence(self, teacher: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        """The mean probability of the true classes of a row's pixels; without any, of the teacher's own choices.

        Args:
            teacher: (B, C, H, W) logits.
            target: (B, H, W) class codes, below 0 for pixels that do not count.
            labelled: (B,) bool.

        Returns:
            (B,) in [0, 1].
        """
        p, known = teacher.detach().softmax(1), self._known(target, labelled)
        valid = known >= 0
        true = p.gather(1, known.clamp(min=0)[:, None])[:, 0] * valid
        mean = true.sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)
        return mean.where(valid.any(2).any(1), p.amax(1).mean((1, 2)))

    def decide(self, prediction: Tensor) -> NDArray:
        """(B, H, W) class codes, from logits or from `compact_answer`."""
        codes = prediction.detach()
        return np.asarray((codes.argmax(1) if codes.is_floating_point() else codes).cpu())

    def compact_answer(self, output: Output) -> Tensor:
        """(B, H, W) class codes: a byte a pixel (two for more than 256 classes), not C numbers."""
        return self.answer(output).argmax(1).to(torch.uint8 if self.outputs <= 256 else torch.int16)

    def metrics(self) -> dict[str, Metric]:
        of_class = {
            f"iou.{label}": Metric(partial(metrics.class_iou, classes=self.outputs, of=c))
            for c, label in enumerate(self.class_names)
        }
        whole = {"miou": metrics.miou, "pixel_accuracy": metrics.pixel_accuracy}
        return {name: Metric(partial(function, classes=self.outputs)) for name, function in whole.items()} | of_class

    def measure(self, decided: NDArray, target: NDArray) -> dict[str, float]:
        """Every metric, from one count of the pixels."""
        counts = metrics.count_confusions(decided, target, self.outputs).sum(0)
        each = metrics.compute_ious(counts)
        whole = {"miou": metrics.mean_iou(counts), "pixel_accuracy": metrics.confusion_accuracy(counts)}
        return whole | {f"iou.{label}": float(value) for label, value in zip(self.class_names, each)}

    @staticmethod
    def _known(target: Tensor, labelled: Tensor) -> Tensor:
        return target.long().where(labelled[:, None, None], -1)
