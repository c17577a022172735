"""How the losses of a step are weighed against one another: weights, warm-up, and adaptive factors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from sidelight.config import BalanceConfig
from sidelight.errors import ConfigError
from sidelight.methods.base import Method, TrainState
from sidelight.training.precision import Precision

TASK = "task"
"""The name of the task loss among the terms."""


class LossWeighting:
    """Constant weights and a warm-up: L = L_task + r(t) Σ_i w_i L_i, where r grows from 0 to 1 over `warmup` epochs.

    A step without a term "task" (a critic's) is the plain weighted sum.

    Args:
        weights: term -> w_i; terms without an entry have weight 1.
        config: the settings `balance.*`.
    """

    def __init__(self, weights: Mapping[str, float], config: BalanceConfig):
        self.weights, self.config = weights, config

    def combine(self, terms: Mapping[str, Tensor], state: TrainState) -> Tensor:
        """Compute the weighted sum of the terms of a step.

        Args:
            terms: name -> unweighted scalar.
            state: the position in training, on which the warm-up depends.
        """
        has_task = TASK in terms
        factors = self.compute_factors(terms) if has_task else {}
        warmup = self.compute_warmup(state) if has_task else 1.0
        weighted = []
        for name, value in terms.items():
            weight = self.weights.get(name, 1.0) * factors.get(name, 1.0)
            # The task loss has no warm-up.
            weighted.append(weight * (1.0 if name == TASK else warmup) * value)
        return torch.stack(weighted).sum()

    def compute_warmup(self, state: TrainState) -> float:
        """r(t), from 0 to 1."""
        return min(1.0, state.epoch / self.config.warmup) if self.config.warmup else 1.0

    def compute_factors(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor | float]:
        """Term -> the factor beside its constant weight; terms without an entry have factor 1."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class Ratio(LossWeighting):
    """Keeps the size of each other term at `ratio` times that of the task: factor_i = ratio |task| / |term_i|.

    In a batch without labelled rows, the task's size in the last batch with labelled rows counts. A factor is at most
    1000, so that a term near 0 stays there; a term without a size keeps factor 1. Factors have no gradient.
    """

    last = 0.0
    """The task's size in the last batch with labelled rows."""

    def measure(self, terms: Mapping[str, Tensor]) -> dict[str, float]:
        """Term -> its size."""
        raise NotImplementedError

    def compute_factors(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor | float]:
        sizes = self.measure(terms)
        self.last = sizes.pop(TASK) or self.last
        return {
            name: min(self.config.ratio * self.last / size, 1000.0) if size else 1.0 for name, size in sizes.items()
        }

    def state_dict(self) -> dict[str, Any]:
        return {"last": self.last}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.last = float(state["last"])


class TargetRatio(Ratio):
    """`Ratio` of losses: OS-MD (arXiv 2309.08204) does this with ratio 0.1 and calls it GradNorm."""

    def measure(self, terms: Mapping[str, Tensor]) -> dict[str, float]:
        # One transfer from the device for all terms.
        sizes = torch.stack([value.detach() for value in terms.values()]).cpu().double().abs().tolist()
        return dict(zip(terms, sizes))


class SharedGradients(LossWeighting):
    """Compares the gradients of the terms on the trained weights W that they share.

    Args:
        weights: term -> constant weight.
        config: the settings `balance.*`.
        find_shared: returns W (`Method.shared_parameters`). It is called at the first step with a task term: stages
            without one (of a T-Net, of a critic) have constant weights and need no W.
        precision: how gradients are taken; by default in float32.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        config: BalanceConfig,
        find_shared: Callable[[], Sequence[Parameter]],
        precision: Precision | None = None,
    ):
        super().__init__(weights, config)
        self.find_shared, self.precision = find_shared, precision or Precision()

    @cached_property
    def shared(self) -> list[Parameter]:
        """W."""
        found = list(self.find_shared())
        if not found:
            raise ConfigError(
                f"balance.kind={self.config.kind} compares gradients on trained weights that the terms share, and "
                "these terms share none: set balance.kind=fixed or target-ratio."
            )
        return found

    def gradient_norm(self, value: Tensor) -> float:
        """|∇_W value|."""
        if not value.requires_grad:
            return 0.0
        grads = self.precision.gradients(value, self.shared, retain_graph=True)
        return math.sqrt(sum(float(g.square().sum()) for g in grads if g is not None))


class GradientRatio(SharedGradients, Ratio):
    """`Ratio` of gradients, |∇_W w_i L_i|: constant weights cancel, and λ need not be known."""

    def measure(self, terms: Mapping[str, Tensor]) -> dict[str, float]:
        norms = {name: self.gradient_norm(self.weights.get(name, 1.0) * value) for name, value in terms.items()}
        return {name: norm if norm < math.inf else 0.0 for name, norm in norms.items()}


class GradNorm(SharedGradients):
    """Weights that bring the gradients of the terms to comparable sizes (Chen et al., ICML 2018, algorithm 1).

    G_i = |∇_W w_i L_i| on the shared parameters W, r_i = (L_i / L_i(0)) / mean_j (L_j / L_j(0)). The factors w descend
    Σ_i |G_i − mean_j G_j · r_i^α| (by Adam, the target without gradient) and are scaled to sum to the number of terms.
    A term that is 0 in the batch, does not depend on W, or has an infinite gradient, keeps its factor and is left out
    of the means.
    """

    RATE = 0.025
    """The learning rate of the factors."""

    def __init__(
        self,
        weights: Mapping[str, float],
        config: BalanceConfig,
        find_shared: Callable[[], Sequence[Parameter]],
        precision: Precision | None = None,
    ):
        super().__init__(weights, config, find_shared, precision)
        self.first_losses: dict[str, float] = {}
        self.current_factors: dict[str, float] = {}
        self.moments: dict[str, tuple[float, float]] = {}
        self.step = 0

    def compute_factors(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor | float]:
        norms, losses = {}, {}
        for name, value in terms.items():
            weighted = self.weights.get(name, 1.0) * value
            norms[name] = self.gradient_norm(weighted)
            losses[name] = abs(float(weighted.detach()))

        used = [name for name in terms if 0 < norms[name] < math.inf and losses[name] > 0]
        for name in used:
            self.first_losses.setdefault(name, losses[name])
            self.current_factors.setdefault(name, 1.0)
        if len(used) > 1:
            progress = {name: losses[name] / self.first_losses[name] for name in used}
            self._update_factors(norms, progress)
        return {name: self.current_factors.get(name, 1.0) for name in terms}

    def _update_factors(self, norms: Mapping[str, float], progress: Mapping[str, float]) -> None:
        """One Adam step on the factors of the terms in `progress`; norms: term -> |∇_W L_i|."""
        weighted = {name: self.current_factors[name] * norms[name] for name in progress}
        mean_norm = sum(weighted.values()) / len(progress)
        mean_progress = sum(progress.values()) / len(progress)
        self.step += 1
        # Adam with its usual constants, on numbers: the factors are a handful of Python floats.
        for name in progress:
            target = mean_norm * (progress[name] / mean_progress) ** self.config.alpha
            # The derivative of |G_i − target| with respect to w_i.
            slope = math.copysign(norms[name], weighted[name] - target) if weighted[name] != target else 0.0
            m, v = self.moments.get(name, (0.0, 0.0))
            m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
            self.moments[name] = m, v
            move = (m / (1 - 0.9**self.step)) / (math.sqrt(v / (1 - 0.999**self.step)) + 1e-8)
            self.current_factors[name] = max(self.current_factors[name] - self.RATE * move, 1e-3)
        # Rescaled, so that the factors change the ratios of the terms and not the learning rate.
        scale = len(self.current_factors) / sum(self.current_factors.values())
        self.current_factors = {name: w * scale for name, w in self.current_factors.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"first": self.first_losses, "now": self.current_factors, "moments": self.moments, "step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.first_losses, self.current_factors = dict(state["first"]), dict(state["now"])
        self.step = int(state["step"])
        self.moments = {name: (m, v) for name, (m, v) in state["moments"].items()}


def build_loss_weighting(method: Method, config: BalanceConfig, precision: Precision | None = None) -> LossWeighting:
    """Build the loss weighting of the settings; kind "method" is the default of the method.

    Args:
        method: the method whose terms are weighed.
        config: the settings `balance.*`.
        precision: how gradients are taken; by default in float32.
    """
    if config.kind == "method":
        config = BalanceConfig(method.balance, config.warmup, config.ratio, config.alpha)
    if config.kind == "target-ratio":
        return TargetRatio(method.weights, config)
    if config.kind == "gradient-ratio":
        return GradientRatio(method.weights, config, method.shared_parameters, precision)
    if config.kind == "gradnorm":
        return GradNorm(method.weights, config, method.shared_parameters, precision)
    return LossWeighting(method.weights, config)
