"""Entropic optimal transport for training loops: converged to a stated error, differentiable without unrolling.

>>> result = sinkhorn(x, y, epsilon=0.1)          # doctest: +SKIP
>>> result.objective.backward()                   # doctest: +SKIP
"""

from sidelight.transport.anchors import ANCHORS, LearnedWeights, select_anchors
from sidelight.transport.costs import cost_matrix
from sidelight.transport.result import ConvergenceError, ConvergenceWarning, Divergence, Transport
from sidelight.transport.sinkhorn import sinkhorn, sinkhorn_divergence

__all__ = [
    "ANCHORS",
    "ConvergenceError",
    "ConvergenceWarning",
    "Divergence",
    "LearnedWeights",
    "Transport",
    "cost_matrix",
    "select_anchors",
    "sinkhorn",
    "sinkhorn_divergence",
]
