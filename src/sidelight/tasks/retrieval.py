"""Retrieval: nearest neighbours of the same class in the fused embedding."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sidelight import metrics
from sidelight.metrics import Metric
from sidelight.tasks.base import TOO_FEW_ROWS
from sidelight.tasks.classification import Classification

if TYPE_CHECKING:
    from sidelight.networks.network import Output


class Retrieval(Classification):
    """Trained as a classification; its answer is the fused embedding, of length 1, in which rows retrieve one another.

    R@1, R@5, R@10 and MedR by cosine (kNN retrieval, AMID table 2): each scored row is a query, all other scored rows
    are its gallery; rows without another row of their class are no queries.
    """

    name, primary = "retrieval", "recall_at_1"
    answers = exports = "embedding"

    def answer(self, output: Output) -> Tensor:
        return F.normalize(output.embedding, dim=1)

    def decide(self, prediction: Tensor) -> NDArray:
        return np.asarray(prediction.detach().cpu())

    def explain_unmeasurable(self, target: NDArray) -> str:
        if len(target) > 2 and np.unique(target, return_counts=True)[1].max() > 1:
            return ""
        return (
            f"no row can be retrieved: a gallery needs two rows, one of them of the query's class, but the fold has "
            f"{len(target)} labelled rows of {len(np.unique(target))} classes. {TOO_FEW_ROWS}"
        )

    def metrics(self) -> dict[str, Metric]:
        def one(name: str) -> Callable[[NDArray, NDArray], float]:
            return lambda embedding, target: metrics.retrieval_scores(embedding, target)[name]

        recalls = [f"recall_at_{k}" for k in metrics.RECALLS]
        return {name: Metric(one(name)) for name in recalls} | {"median_rank": Metric(one("median_rank"), False)}

    def measure(self, read: NDArray, target: NDArray) -> dict[str, float]:
        """Every metric, from one ranking."""
        return metrics.retrieval_scores(read, target)
